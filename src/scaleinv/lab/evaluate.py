"""Exact metrics at fixed weights: one forward-backward pass over the train set gives all of them.

The pass is in train mode, un-shuffled, at the batch size of training (with ``gradient="full"`` the whole set is one
batch). It yields the train loss and error (5.1), the mean effective stochastic gradient norm (5.3: mean over batches of
the norm, not norm of the mean) and, for free, recomputed BN statistics: the average of the batch statistics. The
network's own running statistics are left as they were. The test set is seen in eval mode with the running statistics
and, where asked for, with the recomputed ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scaleinv import geometry
from scaleinv.lab.batchnorm import fresh_bn_statistics, has_bn_statistics, mode
from scaleinv.lab.data import eval_batches
from scaleinv.lab.losses import Loss
from scaleinv.runfolder.rows import Row
from scaleinv.theory import rates

#: test images whose loss is averaged at a time
TEST_BATCH = 500
#: images of a forward pass without gradients; the size changes no logit, only the speed: 500 images of CIFAR-10's form
#: do not fit the processor's cache, and each of them takes 1.7 times as long as one of 125 (ConvNet, width 8 and 16)
TEST_PART = 125


def test_metrics(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> tuple[float, float]:
    """Mean loss and error fraction in eval mode; NaN without test images."""
    n = len(labels)
    if n == 0:
        return math.nan, math.nan
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with mode(model, False), torch.no_grad():
        for start in range(0, n, TEST_BATCH):
            x, y = images[start : start + TEST_BATCH], labels[start : start + TEST_BATCH]
            logits = torch.cat([model(part) for part in torch.split(x, TEST_PART)])
            total += loss(logits, y).double() * len(y)
            wrong += (logits.argmax(1) != y).sum()
    return float(total) / n, float(wrong) / n


def exact_metrics(
    model: nn.Module,
    groups: Mapping[str, Sequence[Tensor]],
    data: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    loss: Loss,
    learning_rates: Sequence[float],
    step: int,
    epoch: int,
    law: str = "sgd",
    recompute_bn: bool = True,
) -> list[Row]:
    """The rows of one evaluation epoch, splits ``train`` and ``test``; costs a forward-backward and a test pass, with
    ``recompute_bn`` a second one: the statistics are there, the test set has to be seen with them.

    ``learning_rates``: the rates that would act now, of the total and of every group: ELR = rate / rho^2, by the law
    ``normalised`` rate / rho (then the effective step size is not known without a step: NaN).
    """
    images, labels = data
    tensors = [t for ts in groups.values() for t in ts]
    rows: list[Row] = []

    def add(split: str, group: str, quantity: str, value: float) -> None:
        rows.append(Row(step, epoch, split, group, quantity, float(value)))

    with mode(model, True), fresh_bn_statistics(model):
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        wrong = torch.zeros((), dtype=torch.int64, device=images.device)
        index = eval_batches(len(labels), batch_size)
        squares = torch.zeros((len(index), len(tensors)), dtype=torch.float64, device=images.device)
        for k, batch in enumerate(index):
            x, y = images[batch[0] : batch[-1] + 1], labels[batch[0] : batch[-1] + 1]
            logits = model(x)
            objective = loss(logits, y)
            gradients = torch.autograd.grad(objective, tensors)
            squares[k] = torch.stack(geometry.norms(gradients)).double().square()
            total += objective.detach().double() * len(y)
            wrong += (logits.detach().argmax(1) != y).sum()
        add("train", "total", "loss", float(total) / len(labels))
        add("train", "total", "error", float(wrong) / len(labels))
        recomputed = test_metrics(model, *test, loss) if recompute_bn and has_bn_statistics(model) else None
    owner = [name for name, ts in groups.items() for _ in ts]
    for name, rate in zip(["total", *groups], learning_rates):
        columns = [i for i, o in enumerate(owner) if name in ("total", o)]
        g = float(squares[:, columns].sum(dim=1).sqrt().mean())
        rho = float(geometry.norm([tensors[i].detach().double() for i in columns]))
        elr = rates.elr(rate, rho, law) if rho > 0 else math.nan
        # (elr g) rho, not elr (g rho): the bits that rows always had. No step is taken, so there is no angle
        ess = rates.ess(elr * g, rho, law, angle=math.nan)
        for quantity, number in (("rho", rho), ("g", g), ("eg", g * rho), ("elr", elr), ("ess", ess)):
            add("train", name, quantity, number)
    test_loss, test_error = test_metrics(model, *test, loss)
    add("test", "total", "loss", test_loss)
    add("test", "total", "error", test_error)
    if recomputed is not None:
        add("test", "total", "loss_recomputed_bn", recomputed[0])
        add("test", "total", "error_recomputed_bn", recomputed[1])
    return rows


def test_rows(
    model: nn.Module,
    data: Tensor,
    test: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    loss: Loss,
    recompute_bn: bool,
    step: int,
    epoch: int,
) -> list[Row]:
    """The rows of the split ``test`` alone, for the mode ``online``; recomputing BN costs a pass over ``data``."""
    results = dict(zip(("loss", "error"), test_metrics(model, *test, loss)))
    if recompute_bn and has_bn_statistics(model):
        with fresh_bn_statistics(model):
            with mode(model, True), torch.no_grad():
                for batch in eval_batches(len(data), batch_size):
                    model(data[batch[0] : batch[-1] + 1])
            results |= zip(("loss_recomputed_bn", "error_recomputed_bn"), test_metrics(model, *test, loss))
    return [Row(step, epoch, "test", "total", quantity, value) for quantity, value in results.items()]

"""Exact metrics at fixed weights: one forward-backward pass over the train set gives all of them.

The pass is in train mode, un-shuffled, at the batch size of training (with ``gradient="full"`` the whole set is one
batch). It yields the train loss and error, the mean effective stochastic gradient norm (mean over batches of the norm,
not norm of the mean) and, for free, recomputed BN statistics: the average of the batch statistics. The network's own
running statistics are left as they were. The test set is seen in eval mode with the running statistics and, where asked
for, with the recomputed ones.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import fresh_bn_statistics, has_bn_statistics, mode
from scaleinv.lab.data import eval_batches
from scaleinv.lab.losses import Loss
from scaleinv.runfolder.rows import Row
from scaleinv.theory import rates


def evaluation_epochs(epochs: int, every: int | None) -> list[int]:
    """List the epochs after which the exact metrics are taken: always 0 and the last.

    ``every`` n: each n-th. ``None``: log-spaced, 0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, ... (powers of sqrt 2, rounded).

    >>> evaluation_epochs(20, None)
    [0, 1, 2, 3, 4, 6, 8, 11, 16, 20]
    >>> evaluation_epochs(5, 2)
    [0, 2, 4, 5]
    """
    spaced = (round(2 ** (k / 2)) for k in range(2 * epochs.bit_length() + 1))
    chosen = spaced if every is None else range(0, epochs + 1, every)
    return sorted({0, epochs} | {epoch for epoch in chosen if epoch <= epochs})


#: test images whose loss is averaged at a time
TEST_BATCH = 500
#: images of a forward pass without gradients; the size changes no logit, only the speed: 500 images of CIFAR-10's form
#: do not fit the processor's cache, and each of them takes 1.7 times as long as one of 125 (ConvNet, width 8 and 16)
TEST_PART = 125


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated: a network, its scale-invariant tensors by group, its loss and its data."""

    model: nn.Module
    groups: Mapping[str, Sequence[Tensor]]
    loss: Loss  # mean over a batch of a function of (logits of one image, its label)
    train: tuple[Tensor, Tensor]  # images, labels
    test: tuple[Tensor, Tensor]
    batch_size: int | None = None  # None: the whole train set is one batch

    @property
    def tensors(self) -> list[Tensor]:
        """The scale-invariant tensors: the point x."""
        return [t for ts in self.groups.values() for t in ts]

    def batches(self, images: int | None = None) -> list[slice]:
        """The fixed batches, as slices of the train set; ``images``: of its first so many images only."""
        n = len(self.train[1])
        if images is not None:
            if images < 2:
                raise UserError(f"images must be at least 2, since batch normalization needs two, got {images}")
            n = min(n, images)
        return [slice(int(b[0]), int(b[-1]) + 1) for b in eval_batches(n, self.batch_size or n)]

    def parts(self, images: int | None = None) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Images, labels and share n_b/N of every batch."""
        cuts = self.batches(images)
        n = cuts[-1].stop
        for cut in cuts:
            yield self.train[0][cut], self.train[1][cut], (cut.stop - cut.start) / n


def test_metrics(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> tuple[float, float]:
    """Return mean loss and error fraction in eval mode; NaN without test images."""
    n = len(labels)
    if n == 0:
        return math.nan, math.nan
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with mode(model, False), torch.no_grad():
        for x, y in zip(torch.split(images, TEST_BATCH), torch.split(labels, TEST_BATCH)):
            logits = torch.cat([model(part) for part in torch.split(x, TEST_PART)])
            total += loss(logits, y).double() * len(y)
            wrong += (logits.argmax(1) != y).sum()
    return float(total) / n, float(wrong) / n


def exact_metrics(
    what: Evaluated,
    learning_rates: Sequence[float],
    *,
    step: int,
    epoch: int,
    law: str = "sgd",
    recompute_bn: bool = True,
) -> list[Row]:
    """Return the rows of one evaluation epoch, splits ``train`` and ``test``; costs a forward-backward and a test pass,
    with ``recompute_bn`` a second one: the statistics are there, the test set has to be seen with them.

    ``learning_rates``: the rates that would act now, of the total and of every group: ELR = rate / rho^2, by the law
    ``normalised`` rate / rho (then the effective step size is not known without a step: NaN).
    """
    model, groups, tensors, (images, labels) = what.model, what.groups, what.tensors, what.train
    rows: list[Row] = []

    def add(split: str, group: str, quantity: str, value: float) -> None:
        rows.append(Row(step, epoch, split, group, quantity, float(value)))

    with mode(model, True), fresh_bn_statistics(model):
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        wrong = torch.zeros((), dtype=torch.int64, device=images.device)
        squares = torch.zeros((len(what.batches()), len(tensors)), dtype=torch.float64, device=images.device)
        for k, (x, y, _) in enumerate(what.parts()):
            logits = model(x)
            objective = what.loss(logits, y)
            gradients = torch.autograd.grad(objective, tensors)
            squares[k] = torch.stack(geometry.norms(gradients)).double().square()
            total += objective.detach().double() * len(y)
            wrong += (logits.detach().argmax(1) != y).sum()
        add("train", "total", "loss", float(total) / len(labels))
        add("train", "total", "error", float(wrong) / len(labels))
        recomputed = _test_results(what, "_recomputed_bn") if recompute_bn and has_bn_statistics(model) else {}
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
    for quantity, number in (_test_results(what) | recomputed).items():
        add("test", "total", quantity, number)
    return rows


def test_rows(what: Evaluated, *, recompute_bn: bool, step: int, epoch: int) -> list[Row]:
    """Return the rows of the split ``test`` alone, for the mode ``online``; recomputing BN costs a pass over the train
    images.
    """
    results = _test_results(what)
    if recompute_bn and has_bn_statistics(what.model):
        with fresh_bn_statistics(what.model):
            with mode(what.model, True), torch.no_grad():
                for x, _, _ in what.parts():
                    what.model(x)
            results |= _test_results(what, "_recomputed_bn")
    return [Row(step, epoch, "test", "total", quantity, value) for quantity, value in results.items()]


def _test_results(what: Evaluated, suffix: str = "") -> dict[str, float]:
    return dict(zip((f"loss{suffix}", f"error{suffix}"), test_metrics(what.model, *what.test, what.loss)))

"""Exact metrics at fixed weights: one forward-backward pass over the train set gives all of them (PAPERS 5).

The pass is in train mode, un-shuffled, at the batch size of training (with ``gradient="full"`` the whole set is one
batch). It yields the train loss and error (5.1), the mean effective stochastic gradient norm (5.3: mean over batches of
the norm, not norm of the mean) and, for free, recomputed BN statistics: the average of the batch statistics. The
network's own running statistics are left as they were. The test set is seen in eval mode with the running statistics
and, where asked for, with the recomputed ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scaleinv import geometry
from scaleinv.lab.data import eval_batches
from scaleinv.lab.losses import Loss
from scaleinv.lab.rows import Row
from scaleinv.theory import rates

#: test images whose loss is averaged at a time
TEST_BATCH = 500
#: images of a forward pass without gradients; the size changes no logit, only the speed: 500 images of CIFAR-10's form
#: do not fit the processor's cache, and each of them takes 1.7 times as long as one of 125 (ConvNet, width 8 and 16)
TEST_PART = 125


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Within: train or eval mode; afterwards every module is in the mode it was in."""
    flags = [(m, m.training) for m in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def fresh_bn_statistics(model: nn.Module) -> Iterator[None]:
    """Within: BN layers average the statistics of the batches they see; afterwards everything is as before."""
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    saved = [([b.clone() for b in m.buffers()], m.momentum) for m in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # cumulative average
        yield
    finally:
        for layer, (buffers, momentum) in zip(layers, saved):
            layer.momentum = momentum
            for buffer, value in zip(layer.buffers(), buffers):
                buffer.copy_(value)


def has_bn_statistics(model: nn.Module) -> bool:
    """Whether eval mode differs from train mode by running statistics."""
    return any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules())


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


#: random directions that set the level of regime 3, and the images they are judged on at most
REFERENCE_DIRECTIONS = 8
REFERENCE_IMAGES = 1024


def reference_rows(
    model: nn.Module,
    groups: Mapping[str, Sequence[Tensor]],
    data: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    loss: Loss,
    generator: torch.Generator,
    step: int = 0,
    epoch: int = 0,
) -> list[Row]:
    """Train-mode loss and error of random directions of the same network with the same head: the level of regime 3.

    It is measured, because it varies several-fold with the draw of the head. Before training (``step`` 0, split
    ``reference``) a direction is uniform on the sphere. Later (split ``reference_present``) every row of every tensor
    gets a random direction and keeps its present norm: deep in regime 3 a few rows become so small that the eps of the
    norm layers silences them, which lowers the level. At most ``REFERENCE_IMAGES`` images, the first ones. The weights
    are restored exactly.
    """
    split = "reference" if step == 0 else "reference_present"
    present = [t.detach().clone() for ts in groups.values() for t in ts]

    def lead(_: int, point: list[Tensor], tensors: list[Tensor]) -> None:
        if step:
            point = [p * (geometry.row_norms(t) / geometry.row_norms(p)) for p, t in zip(point, present)]
        torch._foreach_copy_(tensors, point)

    rows = _level_rows(model, groups, data, lead, batch_size=batch_size, loss=loss, generator=generator)
    return [Row(step, epoch, split, *row) for row in rows]


#: huge steps from a random direction: enough to forget it. Many more and rows shrink until eps silences them all (a
#: ConvNet on CIFAR-10 answers a constant after 64; with an eps of 1e-12 its loss stays that of 16 steps)
LIMIT_STEPS = 16


def limit_rows(
    model: nn.Module,
    groups: Mapping[str, Sequence[Tensor]],
    data: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    loss: Loss,
    generator: torch.Generator,
    step: int = 0,
    epoch: int = 0,
) -> list[Row]:
    """Train-mode loss and error of SGD in the limit of an infinite ELR, split ``reference_limit``.

    On a sphere x' = (x - lr g) / |x - lr g| becomes -g / |g|: every iterate is minus the direction of the gradient
    before it, which is not quite a random direction, and its loss may lie a quarter below (CIFAR-10). From random
    directions ``LIMIT_STEPS`` such steps on successive batches, judged as those are. The weights are restored exactly.
    """
    images, labels = data
    order = eval_batches(len(labels), batch_size)
    radius = geometry.norm([t.detach() for ts in groups.values() for t in ts])

    def lead(k: int, point: list[Tensor], tensors: list[Tensor]) -> None:
        torch._foreach_copy_(tensors, point)
        for j in range(LIMIT_STEPS):
            batch = order[(k * LIMIT_STEPS + j) % len(order)]
            part = slice(int(batch[0]), int(batch[-1]) + 1)
            with torch.enable_grad():
                gradients = torch.autograd.grad(loss(model(images[part]), labels[part]), tensors)
            size = geometry.norm(gradients)
            if not size > 0:  # all ReLUs silent, or the loss exactly 0: it stays there
                break
            torch._foreach_copy_(tensors, [g * (-radius / size) for g in gradients])

    rows = _level_rows(model, groups, data, lead, batch_size=batch_size, loss=loss, generator=generator)
    return [Row(step, epoch, "reference_limit", *row) for row in rows]


#: moves the weights, the last argument, to where the k-th random direction leads
Lead = Callable[[int, list[Tensor], list[Tensor]], None]


def _level_rows(
    model: nn.Module,
    groups: Mapping[str, Sequence[Tensor]],
    data: tuple[Tensor, Tensor],
    lead: Lead,
    *,
    batch_size: int,
    loss: Loss,
    generator: torch.Generator,
) -> list[tuple[str, str, float]]:
    """(group, quantity, value) at the points where ``lead`` goes from random directions; the network is as before."""
    tensors = [t for ts in groups.values() for t in ts]
    keep = [t.detach().clone() for t in tensors]
    radius = geometry.norm(keep)
    few = data[0][:REFERENCE_IMAGES], data[1][:REFERENCE_IMAGES]
    found = []
    with torch.no_grad(), mode(model, True), fresh_bn_statistics(model), _restored(tensors, keep):
        for k in range(REFERENCE_DIRECTIONS):
            lead(k, geometry.random_direction(tensors, generator, radius), tensors)
            for name, value in _train_level(model, *few, batch_size, loss).items():
                found.append((f"direction-{k}", name, value))
    return found


def _train_level(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, loss: Loss) -> dict[str, float]:
    """Loss and error in the mode the model is in."""
    total, wrong = 0.0, 0
    for batch in eval_batches(len(labels), batch_size):
        x, y = images[batch[0] : batch[-1] + 1], labels[batch[0] : batch[-1] + 1]
        logits = model(x)
        total += float(loss(logits, y)) * len(y)
        wrong += int((logits.argmax(1) != y).sum())
    return {"loss": total / len(labels), "error": wrong / len(labels)}


@contextmanager
def _restored(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Afterwards, whatever happens, the tensors hold the values."""
    try:
        yield
    finally:
        torch._foreach_copy_(list(tensors), list(values))

"""levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scaleinv import geometry
from scaleinv.lab.batchnorm import fresh_bn_statistics, mode
from scaleinv.lab.data import eval_batches
from scaleinv.lab.losses import Loss
from scaleinv.runfolder.rows import Row

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

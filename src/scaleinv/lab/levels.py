"""The loss level of divergence (regime 3): at random directions, and in the limit of an infinite ELR."""

import json
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.lab.batchnorm import fresh_bn_statistics, mode
from scaleinv.lab.evaluate import Evaluated, Tally
from scaleinv.runfolder.rows import Row

#: random directions that set the level of regime 3, and the images they are judged on at most
REFERENCE_DIRECTIONS = 8
REFERENCE_IMAGES = 1024
#: huge steps from a random direction: enough to forget it. Many more and rows shrink until eps silences them all (a
#: ConvNet on CIFAR-10 answers a constant after 64; with an eps of 1e-12 its loss stays that of 16 steps)
LIMIT_STEPS = 16

#: what runs trained on last in this process, and the rows of :func:`shared_rows`, by the config but its rate
_source: weakref.ref[Any] | None = None
_shared: dict[str, list[Row]] = {}
_SHARED = 64
_RATES = "elr", "lr"

#: moves the weights, the last argument, to where the k-th random direction leads
Lead = Callable[[int, list[Tensor], list[Tensor]], None]


def shared_rows(source: Any, config: Mapping[str, Any], measure: Callable[[], list[Row]]) -> list[Row]:
    """Give the level before training, measured once a process for runs on one ``source`` that differ in their rate
    alone: all of them start at the same weights.
    """
    global _source
    if _source is None or _source() is not source:
        _shared.clear()
        try:
            _source = weakref.ref(source)
        except TypeError:  # a Problem with slots
            return measure()
    key = json.dumps({name: value for name, value in config.items() if name not in _RATES}, sort_keys=True)
    if key not in _shared:
        if len(_shared) >= _SHARED:
            _shared.clear()
        _shared[key] = measure()
    return _shared[key]


def forget_shared_rows() -> None:
    """Measure anew."""
    _shared.clear()


def reference_rows(what: Evaluated, generator: torch.Generator, *, step: int = 0, epoch: int = 0) -> list[Row]:
    """Measure train-mode loss and error at random directions of the same network with the same head.

    This is the level of regime 3. It is measured, because it varies several-fold with the draw of the head. Before
    training (``step`` 0, split ``reference``) a direction is uniform on the sphere. Later (split ``reference_present``)
    every row of every tensor gets a random direction and keeps its present norm: deep in regime 3 a few rows become so
    small that the eps of the norm layers silences them, which lowers the level. At most ``REFERENCE_IMAGES`` images,
    the first ones. The weights are restored exactly.
    """
    present = [t.detach().clone() for t in what.tensors]

    def lead(_: int, point: list[Tensor], tensors: list[Tensor]) -> None:
        if step:
            point = [p * (geometry.row_norms(t) / geometry.row_norms(p)) for p, t in zip(point, present)]
        torch._foreach_copy_(tensors, point)

    return _level_rows(what, lead, generator, step, epoch, "reference" if step == 0 else "reference_present")


def limit_rows(what: Evaluated, generator: torch.Generator, *, step: int = 0, epoch: int = 0) -> list[Row]:
    """Measure train-mode loss and error of SGD in the limit of an infinite ELR, split ``reference_limit``.

    On a sphere x' = (x - lr g) / |x - lr g| becomes -g / |g|: every iterate is minus the direction of the gradient
    before it, which is not quite a random direction, and its loss may lie a quarter below (CIFAR-10). From random
    directions ``LIMIT_STEPS`` such steps on successive batches, judged as those are. The weights are restored exactly.
    """
    judge, order = what.judge, what.batches()
    radius = geometry.norm([t.detach() for t in what.tensors])

    def lead(k: int, point: list[Tensor], tensors: list[Tensor]) -> None:
        torch._foreach_copy_(tensors, point)
        for j in range(LIMIT_STEPS):
            x, y = what.train.batch(order[(k * LIMIT_STEPS + j) % len(order)], what.device)
            with torch.enable_grad():
                objective, _ = judge.measure(judge.outputs(what.model, x), y)
                found = torch.autograd.grad(objective, tensors, allow_unused=not judge.classes)
            gradients = [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors)]
            size = geometry.norm(gradients)
            if not size > 0:  # all ReLUs silent, or the loss exactly 0: it stays there
                break
            torch._foreach_copy_(tensors, [g * (-radius / size) for g in gradients])

    return _level_rows(what, lead, generator, step, epoch, "reference_limit")


def _level_rows(
    what: Evaluated, lead: Lead, generator: torch.Generator, step: int, epoch: int, split: str
) -> list[Row]:
    """Measure at the points where ``lead`` goes from random directions; the network is as before."""
    tensors, judge = what.tensors, what.judge
    keep = [t.detach().clone() for t in tensors]
    radius = geometry.norm(keep)
    rows = []
    with torch.no_grad(), mode(what.model, True), fresh_bn_statistics(what.model):
        try:
            for k in range(REFERENCE_DIRECTIONS):
                lead(k, geometry.random_direction(tensors, generator, radius), tensors)
                tally = Tally(what)
                for x, y, _ in what.parts(REFERENCE_IMAGES):
                    outputs = judge.outputs(what.model, x)
                    tally.add(*judge.measure(outputs, y), outputs, y)
                for quantity, value in tally.results().items():
                    rows.append(Row(step, epoch, split, f"direction-{k}", quantity, value))
        finally:
            torch._foreach_copy_(tensors, keep)
    return rows

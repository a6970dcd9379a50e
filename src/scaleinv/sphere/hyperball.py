r"""Take steps of a fixed size on the sphere ("hyperball" training): the ELR is the angle.

``normalise_update=True`` turns every sphere by exactly ``elr`` radians along the great circle of the update u ::

    x' = cos(elr) x - sin(elr) R N(t),    t = u - <u, x>/<x, x> x,    N(t) = t / ||t||

``normalise_update="published"`` is the form of the hyperball papers, which keeps the radial part of u and turns by
about ``elr`` (by ``atan(elr)``, where u is tangent)::

    x' = R N(x - elr R N(u))

An update of zero turns nothing. The update is what the wrapped optimizer leaves of weights that are zero, at the
learning rate 1: exact at any size. Where the update may depend on the weights (an optimizer that is not known), it is
the difference of the weights after and before, at the learning rate that the last step would have needed.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.sphere.ruler import Ruler
from scaleinv.sphere.traits import traits_of
from scaleinv.theory.rates import lr as learning_rate_of

Normalise = bool | Literal["published"]
_ROUNDINGS = 16


def check_normalise(value: object) -> None:
    """Raise :class:`~scaleinv.UserError` for anything but True, False and ``published``."""
    if not isinstance(value, bool) and value != "published":
        raise UserError(f"normalise_update={value!r}; choose True (the angle is the ELR), 'published' or False")


def apart_from_weights(optimizer: Optimizer) -> bool:
    """Tell whether the update of an optimizer is known not to depend on the weights."""
    traits = traits_of(optimizer)
    return traits.law is not None and traits.rate_factor is None


def turn(
    ruler: Ruler, weights: Sequence[Tensor], kept: Sequence[Tensor], radius: Tensor | float, elr: float, how: Normalise
) -> Tensor:
    """Turn one unit in place; returns the norm of the update. ``weights`` hold the update, ``kept`` the old point."""
    size = ruler.norms(weights)
    points = ruler.norms(kept)
    here = points > 0
    like = torch.ones_like(size)
    goal = like * radius
    if how == "published":
        outward, length = torch.zeros_like(size), size
        step, stay = elr * goal, like
    else:
        outward = torch.where(here, ruler.dot(weights, kept) / points.square(), torch.zeros_like(size))
        # taken off first: the difference of two squares would lose a small tangent part
        ruler.add(weights, kept, -outward)
        length = ruler.norms(weights)
        step, stay = math.sin(elr) * goal, like * math.cos(elr)
    noise = _ROUNDINGS * torch.finfo(size.dtype).eps
    moves = length > noise * size
    factor = torch.where(moves, step / length, torch.zeros_like(size))
    stay = torch.where(moves, stay, like)
    first = ~here & moves  # a unit that waited gets the direction of its first update
    factor = torch.where(first, goal / length, factor)
    if elr == 0:
        factor = torch.zeros_like(factor)
    ruler.multiply(weights, factor)
    ruler.add(weights, kept, stay)
    return size


class Sizes:
    """Choose the learning rate of the step that is only looked at, for each param group."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.zeros = apart_from_weights(optimizer)
        self.last: dict[int, float] = {}

    def rate(self, unit: int, radius: float, elr: float) -> float:
        """Give 1 where the weights are zero in the step, else what would have made the last step of the right size."""
        if self.zeros:
            return 1.0
        wanted = float(learning_rate_of(max(elr, 1e-6), radius, "normalised"))
        return wanted / self.last[unit] if self.last.get(unit) else wanted

    def note(self, unit: int, size: float, rate: float) -> None:
        """Note the norm of a step at a rate."""
        if not self.zeros and math.isfinite(size) and size > 0:
            self.last[unit] = size / rate


def state_of(sizes: Sizes | None) -> dict[str, Any]:
    """Give what a resumed run needs."""
    return {} if sizes is None else {"last": dict(sizes.last)}

r"""Train the radii of the spheres beside the directions, at a rate of their own.

A weight is ``x = r u`` with a direction u on the unit sphere and a radius ``r = exp(s)``. The gradients of the loss
are ::

    dL/ds = <g, x>,    dL/du = r g

so what trains r is the part of the gradient that the sphere does not use. Both are handed to the wrapped optimizer: u
at the ELR, s as a parameter of a param group of its own at the rate ``learn_radius``. Of weights that are
scale-invariant ``<g, x>`` is zero and r stays; of rows with a scale each learns a gain, as in weight normalisation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scaleinv.sphere import shards
from scaleinv.sphere.ruler import Ruler
from scaleinv.sphere.units import Unit


class Radii:
    """Hold the logarithms of the radii of all units, as parameters."""

    def __init__(self, units: Sequence[Unit], rulers: Sequence[Ruler]) -> None:
        self.logs = [nn.Parameter(_radius(unit).log()) for unit in units]
        self._units, self._rulers = units, rulers
        self._gradients: list[list[Tensor | None]] = []

    @torch.no_grad()
    def enter(self) -> None:
        """Bring the weights to unit norm and hand the wrapped optimizer the gradients of radius and direction."""
        self._gradients = [[p.grad for p in unit.parameters] for unit in self._units]
        for unit, ruler, log in zip(self._units, self._rulers, self.logs):
            weights = [shards.local(p) for p in unit.parameters]
            positions = [i for i, p in enumerate(unit.parameters) if p.grad is not None]
            if positions:
                gradients = [g for p in unit.parameters if (g := shards.gradient(p)) is not None]
                log.grad = ruler.dot(gradients, [weights[i] for i in positions], positions).to(log.dtype)
                for i in positions:
                    p = unit.parameters[i]
                    assert p.grad is not None
                    p.grad = p.grad.clone()
                scaled = [g for p in unit.parameters if (g := shards.gradient(p)) is not None]
                ruler.multiply(scaled, log.exp().to(scaled[0].dtype))
            else:
                log.grad = None
            ruler.multiply(weights, (-log).exp().to(weights[0].dtype))

    @torch.no_grad()
    def leave(self) -> None:
        """Bring the weights to their radii, and the gradients back to those of the loss."""
        for unit, ruler, log, gradients in zip(self._units, self._rulers, self.logs, self._gradients):
            weights = [shards.local(p) for p in unit.parameters]
            ruler.multiply(weights, log.exp().to(weights[0].dtype))
            for p, gradient in zip(unit.parameters, gradients):
                p.grad = gradient

    @torch.no_grad()
    def usable(self) -> bool:
        """Tell whether all radii are positive numbers."""
        return all(bool((log.exp().isfinite() & (log.exp() > 0)).all()) for log in self.logs)

    @torch.no_grad()
    def give_back(self) -> None:
        """Give the gradients of the loss back after a step that failed; the weights are restored by who kept them."""
        for unit, gradients in zip(self._units, self._gradients):
            for p, gradient in zip(unit.parameters, gradients):
                p.grad = gradient

    @torch.no_grad()
    def values(self) -> list[Tensor]:
        """Give the radii."""
        return [log.exp() for log in self.logs]


def _radius(unit: Unit) -> Tensor:
    if unit.radii is not None:
        return unit.radii.clone()
    like = unit.parameters[0]
    dtype = torch.promote_types(like.dtype, torch.float32)
    shape = () if unit.cut is None else unit.cut.pieces(tuple(like.shape))
    return torch.full(shape, unit.radius, dtype=dtype, device=like.device)

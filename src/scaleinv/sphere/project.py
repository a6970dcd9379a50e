"""Return to the spheres after any step: measure, scale, and carry the averaged gradients along."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.sphere import hyperball, shards
from scaleinv.sphere.guard import GuardedSteps

#: a projection shorter than so many roundings of what it projects has no direction
_ROUNDINGS = 16


class ProjectedSteps(GuardedSteps):
    """Bring units back to their spheres by measuring them."""

    normalise_update: hyperball.Normalise
    #: optimizer state that averages gradients and so has to follow the weights around the sphere
    _averages: tuple[str, ...]

    def radius_of(self, unit: int) -> Tensor | float:
        """Give the radius of a unit at present: a number, or one for each piece where they differ or are trained."""
        if self.learned is not None:
            return self.learned.values()[unit]
        radii = self.units[unit].radii
        return self.units[unit].radius if radii is None else radii

    def _radius_now(self, index: int) -> Tensor | float:
        unit = self.units[index]
        return 1.0 if self.learned is not None else unit.radius if unit.radii is None else unit.radii

    def _return_to_sphere(self, index: int) -> None:
        unit, ruler = self.units[index], self._rulers[index]
        weights = [shards.local(p) for p in unit.parameters]
        elr = self._elr_of_unit[index]
        if self._sizes is not None:
            kept = self._copies(index)
            if not self._sizes.zeros:
                torch._foreach_sub_(weights, kept)
            size = hyperball.turn(ruler, weights, kept, self._radius_now(index), elr, self.normalise_update)
            if not self._sizes.zeros:
                rate = self._sizes.rate(index, unit.radius, elr)
                self._sizes.note(index, float(size.square().mean().sqrt()), rate)
        sizes = ruler.norms(weights)
        present = (sizes >= 0) if unit.waits else (sizes > 0)
        if self.check != "step":
            good = (torch.isfinite(sizes) & present).all()
            self._bad = ~good if self._bad is None else self._bad.to(good.device) | ~good
        elif not (bool(present.all()) and math.isfinite(sizes.max().item())):
            self._take_back(unit)
        factor = self._radius_now(index) / sizes
        if unit.waits:
            factor = torch.where(sizes > 0, factor, torch.ones_like(factor))
            self.units[index] = replace(unit, waits=not bool((sizes > 0).all()))
        ruler.multiply(weights, factor)
        if ruler.pieces is not None and ruler.pieces.rest:
            self._step_rest(index, weights[0])
        nowhere = self.units[index].waits and ruler.pieces is None  # at the origin every direction is tangent
        if self.law == "sgd" and not nowhere:
            self._transport(index)

    def _step_rest(self, index: int, weight: Tensor) -> None:
        """Give the slices outside the ranges of a cut the step of their own learning rate."""
        pieces = self._rulers[index].pieces
        assert pieces is not None
        group = self._unit_of_group.index(index)
        rate = float(self.optimizer.param_groups[group]["lr"])
        share = float(self.param_groups[group]["rest_lr"]) / rate if rate else 0.0
        kept = self._copies(index)[0]
        outside = pieces.spread(weight.new_zeros(pieces.count), 1.0) > 0
        update = weight if self._sizes is not None else weight - kept
        weight.copy_(torch.where(outside, kept + share * update, weight))

    def _transport(self, index: int) -> None:
        """Project averaged gradients on the new tangent space and rescale them to the norm they had."""
        unit, ruler = self.units[index], self._rulers[index]
        state_of = self.optimizer.state
        for key in self._averages:
            held = [
                (k, p, state_of[p][key])
                for k, p in enumerate(unit.parameters)
                if p in state_of and state_of[p].get(key) is not None
            ]
            if not held:
                continue
            positions = [k for k, _, _ in held]
            weights, buffers = [shards.local(p) for _, p, _ in held], [shards.local(b) for _, _, b in held]
            before = ruler.norms(buffers, positions)
            if ruler.pieces is not None:
                ruler.add(buffers, weights, -(ruler.dot(buffers, weights) / self._radius_now(index) ** 2))
            elif ruler.sharded or ruler.quick:
                size = ruler.dot(weights, weights, positions)
                ruler.add(buffers, weights, -ruler.dot(buffers, weights, positions) / size)
            else:
                geometry.project_tangent_(buffers, weights)
            after = ruler.norms(buffers, positions)
            noise = _ROUNDINGS * torch.finfo(buffers[0].dtype).eps
            ruler.multiply(buffers, torch.where(after > noise * before, before / after, torch.ones_like(after)))

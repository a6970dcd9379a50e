"""Measure and scale what lies on the spheres of one unit: norms, inner products, factors; over shards as well.

A number of a unit is a 0-d tensor, or one number a piece where its tensor is cut.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.sphere import shards
from scaleinv.sphere.cut import Cut, Pieces
from scaleinv.sphere.passes import products


class Ruler:
    """Measure one unit. ``literal``: by the very operations of :mod:`scaleinv.geometry`, whose last bits differ."""

    def __init__(self, parameters: Sequence[Tensor], cut: Cut | None, *, literal: bool) -> None:
        self.pieces = None if cut is None else Pieces(parameters[0], cut)
        self._groups = [shards.groups_to_sum(p) for p in parameters]
        self.sharded = any(self._groups) or any(shards.is_sharded(p) for p in parameters)
        cpu = all(p.device.type == "cpu" for p in parameters)
        self.quick = not literal and cpu and not self.sharded

    def norms(self, tensors: Sequence[Tensor], positions: Sequence[int] | None = None) -> Tensor:
        """Measure the norm of the unit, or of its pieces; ``positions`` of the tensors where not all are given."""
        if self.pieces is not None:
            return self.pieces.sums(tensors[0]).sqrt()
        if self.sharded:
            return self._summed([t.square().sum() for t in tensors], positions).sqrt()
        if self.quick:
            return torch.tensor(products(tensors)[0] ** 0.5, dtype=tensors[0].dtype, device=tensors[0].device)
        return geometry.norm(tensors)

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor], positions: Sequence[int] | None = None) -> Tensor:
        """Measure the inner product of two vectors of the unit, or of their pieces."""
        if self.pieces is not None:
            return self.pieces.sums(a[0], b[0])
        if self.sharded:
            return self._summed([(x * y).sum() for x, y in zip(a, b)], positions)
        if self.quick:
            return torch.tensor(products(a, b)[1], dtype=a[0].dtype, device=a[0].device)
        return geometry.dot(a, b)

    def _summed(self, values: list[Tensor], positions: Sequence[int] | None) -> Tensor:
        """Add up numbers of tensors that may be distributed in several ways, with one exchange for each way."""
        ways: dict[shards.Groups, Tensor] = {}
        for value, i in zip(values, range(len(values)) if positions is None else positions):
            groups = self._groups[i]
            ways[groups] = value if groups not in ways else ways[groups] + value
        return torch.stack([shards.all_sum(value.clone(), groups) for groups, value in ways.items()]).sum()

    def multiply(self, tensors: Sequence[Tensor], factor: Tensor) -> None:
        """Multiply in place; slices outside the ranges of a cut stay as they are."""
        if self.pieces is not None:
            tensors[0].mul_(self.pieces.spread(factor, 1.0))
        else:
            torch._foreach_mul_(list(tensors), factor)

    def add(self, tensors: Sequence[Tensor], others: Sequence[Tensor], factor: Tensor) -> None:
        """Add ``factor`` times ``others`` in place; slices outside the ranges of a cut stay as they are."""
        if self.pieces is not None:
            wide = self.pieces.spread(factor, 0.0)
            for here in self.pieces.chunks():
                tensors[0][here].add_(others[0][here] * (wide[here] if len(wide) > 1 else wide))
        elif self.quick:
            torch._foreach_add_(list(tensors), list(others), alpha=float(factor))
        else:
            torch._foreach_add_(list(tensors), torch._foreach_mul(list(others), factor))

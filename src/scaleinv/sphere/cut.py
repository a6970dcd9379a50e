"""Say which numbers of a tensor lie on one sphere: a whole tensor, its rows, its columns, blocks, or a part of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.sphere import shards

#: numbers that a chunk has about
_CHUNK = 1 << 16
#: what lies on one sphere, by name
GRANULARITIES = ("total", "group", "tensor", "row", "column", "block")


@dataclass(frozen=True)
class Cut:
    """Cut a tensor into pieces, each on a sphere of its own.

    - ``dim``: the dimension that counts the pieces, after the leading ones; None: only the leading ones do.
    - ``split``: number of equal runs along ``dim`` (3 for a fused qkv, the number of heads); None: every index is one.
    - ``leading``: so many first dimensions count tensors of their own (1 for experts in one tensor).
    - ``ranges``: the pieces as (start, end) along ``dim``, where they are not all of it: ``Partial.blocks`` of
      :func:`~scaleinv.find_symmetries`. What lies outside is free and trained at ``rest_lr``.

    >>> Cut(split=3).pieces((12, 4)), Cut(dim=1).pieces((12, 4)), Cut(leading=1, dim=1).pieces((2, 12, 4))
    ((3,), (4,), (2, 4))
    """

    dim: int | None = 0
    split: int | None = None
    leading: int = 0
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def axis(self) -> int | None:
        """The dimension of the tensor that is cut."""
        return None if self.dim is None else self.leading + self.dim

    @property
    def kept(self) -> tuple[int, ...]:
        """The dimensions that count pieces."""
        axis = self.axis
        return tuple(range(self.leading)) + (() if axis is None else (axis,))

    def pieces(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Count the pieces of a tensor of that shape: for every leading dimension, then along the cut one."""
        axis = self.axis
        along = () if axis is None else (len(self.ranges) or self.split or shape[axis],)
        return (*shape[: self.leading], *along)

    def spans(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """List the pieces of a tensor of that shape as (start, end) along the cut dimension."""
        if self.ranges or self.axis is None:
            return self.ranges
        size = shape[self.axis] // (self.split or shape[self.axis])
        return tuple((start, start + size) for start in range(0, shape[self.axis], size))

    def refuse(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise :class:`~scaleinv.UserError` where a tensor of that shape cannot be cut so."""
        numbers = (self.leading, *(n for n in (self.dim, self.split) if n is not None), *sum(self.ranges, ()))
        if any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
            raise UserError(f"{self}: dim, split, leading and the ends of ranges are whole numbers")
        axis = self.axis
        if self.leading < 0 or (self.dim is not None and self.dim < 0):
            raise UserError(f"{self}: dim and leading count from 0; give numbers of at least 0")
        if len(shape) < 2 or len(shape) <= max(self.kept, default=len(shape)):
            raise UserError(
                f"granularity {self.name!r} needs tensors with {self.name}s; {name!r} has the shape {shape}; "
                "use 'tensor' for it"
            )
        if axis is None:
            return
        if self.split is not None and self.ranges:
            raise UserError(f"{self}: split and ranges both say what the pieces are; give one of the two")
        if self.split is not None and (self.split < 1 or shape[axis] % self.split):
            raise UserError(
                f"{shape[axis]} slices of {name!r} (dimension {axis} of {shape}) do not divide into {self.split} equal "
                "blocks; choose a split that divides them"
            )
        before = 0
        for start, end in self.ranges:
            if not before <= start < end <= shape[axis]:
                raise UserError(
                    f"range {start}:{end} of {name!r} is empty, overlaps another or leaves dimension {axis} of "
                    f"{shape}; give ranges in ascending order"
                )
            before = end

    @property
    def name(self) -> str:
        """The word for a piece."""
        if self.dim is None:
            return "expert"
        if self.split is not None or self.ranges:
            return "block"
        return ("row", "column")[self.dim] if self.dim < 2 else f"slice of dimension {self.dim}"

    def part(self, index: int) -> str:
        """Name the piece of a flat index."""
        return f"{self.name} {index}"


class Pieces:
    """Sum over the pieces of one tensor and spread numbers over them; over all shards where it is distributed."""

    def __init__(self, parameter: Tensor, cut: Cut) -> None:
        shape = tuple(parameter.shape)
        self.cut, self.count = cut, cut.pieces(shape)
        self._others = tuple(d for d in range(len(shape)) if d not in cut.kept)
        self._ids: Tensor | None = None
        self.rest = False
        axis = cut.axis
        local = shards.local(parameter)
        if axis is not None:
            first, here = shards.offset(parameter, axis), local.shape[axis]
            along = torch.arange(first, first + here, device="cpu")
            if cut.split is not None:
                self._ids = along // (shape[axis] // cut.split)
            elif cut.ranges:
                self._ids = torch.full((here,), len(cut.ranges), device="cpu")
                for number, (start, end) in enumerate(cut.ranges):
                    self._ids[(along >= start) & (along < end)] = number
                self.rest = sum(end - start for start, end in cut.ranges) < shape[axis]
            elif shards.is_split(parameter, axis):
                self._ids = along
            if self._ids is not None:
                self._ids = self._ids.to(local.device)
        self._leading = tuple(local.shape[: cut.leading])
        self._groups = shards.groups_to_sum(parameter, tuple(range(cut.leading)))
        self._shape = tuple(local.shape)

    def sums(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        """Sum the products of the local tensors ``a`` and ``b`` (of ``a`` with itself) over every piece."""
        parts = []
        for here in self.chunks():
            product = a[here].square() if b is None else a[here] * b[here]
            parts.append(product.sum(self._others) if self._others else product)
        if len(parts) == 1:
            found = parts[0]
        else:
            found = torch.cat(parts) if 0 in self.cut.kept else torch.stack(parts).sum(0)
        if self._ids is not None:
            wide = found.new_zeros((*found.shape[:-1], self.count[-1] + 1))
            found = wide.index_add_(-1, self._ids, found)[..., :-1]
        return shards.all_sum(found, self._groups)

    def chunks(self) -> list[slice]:
        """Cut the first dimension so that what is made of a chunk stays in the cache; a row is never cut."""
        rows = self._shape[0]
        size = math.prod(self._shape[1:])
        step = max(1, _CHUNK // max(1, size))
        if rows * size <= 2 * _CHUNK:
            return [slice(None)]
        return [slice(start, start + step) for start in range(0, rows, step)]

    def spread(self, values: Tensor, outside: float) -> Tensor:
        """Give every slice the number of its piece (``outside`` the ranges: that), in a form that broadcasts."""
        if self._ids is not None:
            if self.rest:
                values = torch.cat([values, values.new_full((*values.shape[:-1], 1), outside)], -1)
            values = values[..., self._ids]
        full = [n if d in self.cut.kept else 1 for d, n in enumerate(self._shape)]
        return values.reshape(full)


def cut_named(granularity: str, split: int | None) -> Cut | None:
    """Find the cut that a granularity names; None where whole tensors stay together."""
    if granularity not in GRANULARITIES:
        raise UserError(f"unknown granularity {granularity!r}; choose one of: {', '.join(GRANULARITIES)}")
    if granularity == "block":
        if split is None or isinstance(split, bool) or not isinstance(split, int) or split < 1:
            raise UserError(f"granularity 'block' needs split=, the number of blocks of a tensor; got {split!r}")
        return Cut(split=split)
    if split is not None:
        raise UserError(f"split={split!r} is for granularity 'block', not for {granularity!r}")
    return {"row": Cut(), "column": Cut(dim=1)}.get(granularity)


def cuts_of(
    granularity: "str | Cut | Mapping[str, str | Cut]", split: "int | Mapping[str, int] | None", names: list[str]
) -> "tuple[str, dict[str, Cut | None]]":
    """Find for every group how its tensors are cut; the word for all of it, ``mixed`` where they differ."""
    given = list(granularity.values()) if isinstance(granularity, Mapping) else [granularity]
    for one in given:
        if not isinstance(one, (str, Cut)):
            raise UserError(f"granularity {one!r} is no name and no Cut; choose one of: {', '.join(GRANULARITIES)}")
    if isinstance(granularity, Mapping):
        unknown = sorted(set(granularity) - set(names))
        missing = [name for name in names if name not in granularity]
        if unknown or missing:
            what = f"names {unknown[0]!r}, which is no group" if unknown else f"does not name group {missing[0]!r}"
            raise UserError(f"the mapping of granularities {what}; the groups are: {', '.join(names)}")
        word, wanted = "mixed", dict(granularity)
    else:
        word = granularity if isinstance(granularity, str) else granularity.name
        wanted = dict.fromkeys(names, granularity)
    if isinstance(split, Mapping) and (unknown := sorted(set(split) - set(names))):
        raise UserError(f"split names {unknown[0]!r}, which is no group; the groups are: {', '.join(names)}")
    cuts: dict[str, Cut | None] = {}
    for name, one in wanted.items():
        if one == "total" and word == "mixed":
            raise UserError("granularity 'total' is one sphere for all; in a mapping use 'group', 'tensor' or a cut")
        if isinstance(one, Cut):
            cuts[name] = one
        else:
            here = (
                split.get(name) if isinstance(split, Mapping) else split if word != "mixed" or one == "block" else None
            )
            cuts[name] = cut_named(one, here)
    return word, cuts

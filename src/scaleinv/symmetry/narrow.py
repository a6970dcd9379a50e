"""Rows of J from a part of the inputs: one sample of the batch, the first tokens of a causal model.

Where the outputs for one sample depend on no other sample, a row u^T J with u on the outputs of that sample is the same
number for number when the model sees that sample alone, and costs a part of it. Such rows are rows of J like others;
that there are no more of them is seen by rows over all outputs, which follow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.symmetry.probe import Probe, every_tensor, map_tensors

#: tokens that are kept of a sequence, and how much shorter that must make it
_TOKENS, _WORTH = 4, 2
#: change of the outputs of a sample, relative, that is rounding in single precision
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Shortening:
    """What is taken of tensors whose sizes are the batch's or the sequence's: (dimension, size, size kept)."""

    sizes: tuple[tuple[int, int, int], ...]

    def of(self, t: Tensor) -> Tensor:
        """Shortening a tensor where it has these sizes."""
        for dim, size, kept in self.sizes:
            if t.dim() > dim and t.shape[dim] == size:
                t = t.narrow(dim, 0, kept)
        return t


@dataclass(frozen=True)
class Narrowed:
    """A part of the inputs, on which the model gives a part of what it gives on all."""

    cut: Shortening
    region: Tensor  # bool (M,): the outputs that the part gives
    inside: Tensor  # bool (m,): those of the part's outputs that are among them
    mask: Tensor  # (m,) 1.0 where usable

    def widened(self, u: Tensor) -> Tensor:
        """Place a cotangent of the part (m,) among all outputs (M,)."""
        full = u.new_zeros(len(self.region))
        full[self.region] = u[self.inside]
        return full


def narrowed(probe: Probe, mask: Tensor, full: Tensor | None = None) -> Narrowed | None:
    """Find a part of the inputs on which the model gives what it gives there on all inputs; None if there is none.

    full: what it gave on all inputs in the last run, if that is known.
    """
    full = probe.value() if full is None else full
    shapes = probe.shapes
    scale = float(full[mask > 0].abs().max()) if bool((mask > 0).any()) else 0.0
    for cut in _cuts(probe):
        wanted = [tuple(cut.of(torch.empty(shape, device="meta")).shape) for shape in shapes]
        changed = [tuple(shape) != short for shape, short in zip(shapes, wanted)]
        if not any(changed):
            continue
        try:
            with probe.on(map_tensors(probe.given, cut.of)):
                part, found = probe.value(), probe.shapes
        except (UserError, RuntimeError, IndexError, ValueError, TypeError, AssertionError):
            continue  # these inputs are not for this model
        if [tuple(shape) for shape in found] != wanted:
            continue
        regions = [torch.zeros(shape, dtype=torch.bool, device=full.device) for shape in shapes]
        for region, new in zip(regions, changed):
            if new:
                cut.of(region).fill_(True)
        region = torch.cat([r.reshape(-1) for r in regions])
        sizes = [torch.Size(shape).numel() for shape in wanted]
        inside = torch.cat([full.new_full((n,), float(new)) for n, new in zip(sizes, changed)]) > 0
        usable = mask[region] > 0
        gap = (part[inside] - full[region])[usable].abs()
        if not len(gap) or not bool((gap <= _ROUNDING * scale).all()):
            continue
        own = torch.zeros(len(part), dtype=torch.float64, device=full.device)
        own[inside] = mask[region]
        return Narrowed(cut, region, inside, own)
    return None


def _cuts(probe: Probe) -> Iterator[Shortening]:
    """List what may be cut, the shortest first: to one sample, to the first tokens."""
    first = next((t for t in every_tensor(probe.given) if t.dim()), None)
    if first is None:
        return
    samples = (0, first.shape[0], 1)
    tokens = (1, first.shape[1], _TOKENS) if first.dim() == (3 if first.is_floating_point() else 2) else (1, 0, 0)
    parts: Sequence[Sequence[tuple[int, int, int]]] = ([samples, tokens], [samples], [tokens])
    for part in parts:
        if all(size >= _WORTH * kept > 0 for _, size, kept in part):
            yield Shortening(tuple(part))

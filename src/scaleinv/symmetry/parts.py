"""Find the slices of a tensor that are scale-invariant by themselves: every row, or ranges of a fused tensor.

For every dimension of a tensor the products g * w of several random cotangents are summed over the other dimensions. A
slice whose sum vanishes for all of them has no scale; a run of slices has none where the running sum comes back to the
same value (the rows of one head of q in front of a qk-norm).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

#: sums compared with each one at most; a fused tensor has far fewer blocks with the same running sum
_NEIGHBOURS = 256
#: dimensions longer than this are vocabularies, not fused outputs
_LONGEST = 2**15


@dataclass
class Slices:
    """Per dimension d of one tensor: sums (K, n_d) of g*w over the other dimensions, and their sizes (n_d,)."""

    sums: list[list[Tensor]] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)  # norms of the weight's slices; all cotangents are of one place

    def add(self, gradient: Tensor, weight: Tensor) -> tuple[float, float]:
        """Take in the gradient of one more cotangent; the sizes are those of the first two. Give <g, w> and |g| |w|."""
        if not self.weights:
            self.weights = _norms(weight)
        norms = _norms(gradient)
        product = gradient * weight
        if self.draws < 2:
            sizes = [g * w for g, w in zip(norms, self.weights)]
            self.sizes = [torch.maximum(a, b) for a, b in zip(self.sizes, sizes)] if self.sizes else sizes
        if not weight.dim():
            return float(product), float(product.abs())
        for d in range(weight.dim()):
            others = [k for k in range(weight.dim()) if k != d]
            # sums in the tensor's own precision: pairwise, so that rounding stays far below what counts as zero
            total = (product.sum(dim=others) if others else product).double()
            if len(self.sums) <= d:
                self.sums.append([])
            self.sums[d].append(total.detach().cpu())
        longest = max(range(weight.dim()), key=lambda d: weight.shape[d])  # its sums are of the fewest terms
        size = float(torch.linalg.vector_norm(norms[longest]) * torch.linalg.vector_norm(self.weights[longest]))
        return float(self.sums[longest][-1].sum()), size

    @property
    def draws(self) -> int:
        """Number of cotangents taken in."""
        return len(self.sums[0]) if self.sums else 0


def _norms(t: Tensor) -> list[Tensor]:
    """Norms of the slices of a tensor along each of its dimensions, float64."""
    square = t.detach().square()
    if t.dim() == 2:  # products with a vector of ones are the fastest sums over either dimension
        ones = [square.new_ones(n) for n in square.shape]
        sums = [torch.mv(square, ones[1]), torch.mv(square.t(), ones[0])]
    else:
        dims = range(t.dim())
        sums = [square.sum(dim=[k for k in dims if k != d]) if t.dim() > 1 else square for d in dims]
    return [total.double().sqrt().cpu() for total in sums]


def each_slice(slices: Slices, zero: float = 1e-9) -> int | None:
    """Find the first dimension along which every slice that acts is scale-invariant by itself, None if there is none.

    zero: a sum below this fraction of |g_slice| |w_slice| vanishes.
    """
    for d, (sums, size) in enumerate(zip(slices.sums, slices.sizes)):
        if len(size) < 2 or _vector_like(slices):
            continue
        live = size > zero * size.max()
        worst = torch.stack(sums).abs().amax(0)
        if int(live.sum()) > 1 and bool((worst[live] <= zero * size[live]).all()):
            return d
    return None


def ranges(slices: Slices, zero: float = 1e-9) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]] | None:
    """Find the scale-invariant part of a tensor: (dimension, merged ranges, smallest blocks), None if there is none.

    Only parts of at least two slices count: the dimension is the one with the most slices in them.
    """
    best: tuple[int, list[tuple[int, int]], list[tuple[int, int]]] | None = None
    for d, (sums, size) in enumerate(zip(slices.sums, slices.sizes)):
        if not 2 <= len(size) <= _LONGEST or _vector_like(slices):
            continue
        blocks = _blocks(torch.stack(sums), size, zero)
        covered = sum(b - a for a, b in blocks)
        if blocks and (best is None or covered > sum(b - a for a, b in best[1])):
            best = d, _merged(blocks), blocks
    return best


def _vector_like(slices: Slices) -> bool:
    return sum(len(s) > 1 for s in slices.sizes) < 2


def closed_runs(sums: Tensor, size: Tensor, zero: float) -> list[tuple[int, int]]:
    """Find the shortest runs of slices whose sums (K, n) cancel, if together they cover all slices; else none.

    A sum of one slice that is zero by itself is a run of one.
    """
    bound = zero * float(size.norm())
    runs: list[tuple[int, int]] = []
    start, running = 0, torch.zeros_like(sums[:, 0])
    for end in range(sums.shape[1]):
        running = running + sums[:, end]
        if float(running.abs().max()) <= bound:
            runs.append((start, end + 1))
            start, running = end + 1, torch.zeros_like(running)
    return runs if start == sums.shape[1] else []


def _blocks(sums: Tensor, size: Tensor, zero: float) -> list[tuple[int, int]]:
    """Find the shortest runs [a, b) of slices that act and whose sums cancel for every cotangent."""
    acting = torch.nonzero(size > zero * size.max()).flatten()
    sums, size = sums[:, acting], size[acting]
    if not len(acting):
        return []
    running = torch.cat([sums.new_zeros(sums.shape[0], 1), sums.cumsum(1)], dim=1)  # (K, n + 1)
    energy = torch.cat([size.new_zeros(1), size.square().cumsum(0)])
    blocks: list[tuple[int, int]] = []
    start = 0
    for end, begins in sorted(_returns(running, energy, zero).items()):
        # the latest start from which the sums cancel; everything before a found block is closed
        begin = max(begins)
        if begin >= start:
            blocks.append((int(acting[begin]), int(acting[end - 1]) + 1))
            start = end
    return blocks


def _returns(running: Tensor, energy: Tensor, zero: float) -> dict[int, list[int]]:
    """Find the pairs begin < end between which the sums of all cotangents cancel: {end: [begin, ...]}.

    running (K, n + 1): running sums; energy (n + 1,): running sum of the squared sizes. Neighbours in the order of the
    first cotangent's sum are compared, then the second next, and so on, as long as any are near.
    """
    tolerance = zero * float(energy[-1].sqrt())
    order = torch.argsort(running[0])
    found: dict[int, list[int]] = {}
    for step in range(1, min(len(order), _NEIGHBOURS)):
        low, high = order[:-step], order[step:]
        near = running[0, high] - running[0, low] <= tolerance
        if not bool(near.any()):
            break
        low, high = low[near], high[near]
        left = (running[:, low] - running[:, high]).abs().amax(0)
        same = left <= zero * (energy[low] - energy[high]).abs().sqrt()
        for a, b in zip(low[same].tolist(), high[same].tolist()):
            found.setdefault(max(a, b), []).append(min(a, b))
    return found


def _merged(blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    result: list[tuple[int, int]] = []
    for a, b in blocks:
        if result and result[-1][1] == a:
            result[-1] = (result[-1][0], b)
        else:
            result.append((a, b))
    return result

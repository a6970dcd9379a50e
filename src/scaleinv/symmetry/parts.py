"""Which slices of a tensor are scale-invariant by themselves: every row, or ranges of a fused tensor.

For every dimension of a tensor the products g * w of several random cotangents are summed over the other dimensions. A
slice whose sum vanishes for all of them has no scale; a run of slices has none where the running sum comes back to the
same value (the rows of one head of q in front of a qk-norm).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Slices:
    """Per dimension d of one tensor: sums (K, n_d) of g*w over the other dimensions, and their sizes (n_d,)."""

    sums: list[list[Tensor]] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)

    def add(self, gradient: Tensor, weight: Tensor) -> None:
        """Take in the gradient of one more cotangent."""
        product = gradient * weight
        for d in range(weight.dim()):
            others = [k for k in range(weight.dim()) if k != d]
            total = product.sum(dim=others, dtype=torch.float64) if others else product.double()
            energy = (gradient.square().sum(dim=others) if others else gradient.square()).sqrt()
            energy = energy.double() * (weight.square().sum(dim=others) if others else weight.square()).sqrt()
            if len(self.sums) <= d:
                self.sums.append([])
                self.sizes.append(torch.zeros(len(energy), dtype=torch.float64))
            self.sums[d].append(total.detach().cpu())
            self.sizes[d] = torch.maximum(self.sizes[d], energy.detach().cpu())

    @property
    def draws(self) -> int:
        """Number of cotangents taken in."""
        return len(self.sums[0]) if self.sums else 0


def each_slice(slices: Slices, zero: float = 1e-9) -> int | None:
    """The first dimension along which every slice that acts is scale-invariant by itself, None if there is none.

    zero: a sum below this fraction of |g_slice| |w_slice| vanishes.
    """
    for d, (sums, size) in enumerate(zip(slices.sums, slices.sizes)):
        if len(size) < 2 or _vector_like(slices):
            continue
        live = size > zero * size.max()
        worst = torch.stack(sums).abs().amax(0)
        if bool(live.any()) and bool((worst[live] <= zero * size[live]).all()):
            return d
    return None


def ranges(slices: Slices, zero: float = 1e-9) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]] | None:
    """The scale-invariant part of a tensor: (dimension, merged ranges, smallest blocks), None if there is none.

    Only parts of at least two slices count: the dimension is the one with the most slices in them.
    """
    best: tuple[int, list[tuple[int, int]], list[tuple[int, int]]] | None = None
    for d, (sums, size) in enumerate(zip(slices.sums, slices.sizes)):
        if len(size) < 2 or _vector_like(slices):
            continue
        blocks = _blocks(torch.stack(sums), size, zero)
        covered = sum(b - a for a, b in blocks)
        if blocks and (best is None or covered > sum(b - a for a, b in best[1])):
            best = d, _merged(blocks), blocks
    return best


def _vector_like(slices: Slices) -> bool:
    return sum(len(s) > 1 for s in slices.sizes) < 2


def _blocks(sums: Tensor, size: Tensor, zero: float) -> list[tuple[int, int]]:
    """Shortest runs [a, b) of slices that act and whose sums cancel for every cotangent."""
    running = torch.cat([sums.new_zeros(sums.shape[0], 1), sums.cumsum(1)], dim=1)  # (K, n + 1)
    scale = size.max() * len(size) ** 0.5
    live = (size > zero * size.max()).tolist()
    blocks: list[tuple[int, int]] = []
    start = 0
    for end in range(1, running.shape[1]):
        # the latest start from which the sums cancel; everything before a found block is closed
        same = (running[:, start:end] - running[:, end : end + 1]).abs().amax(0) <= zero * scale
        hits = torch.nonzero(same).flatten().tolist()
        for hit in reversed(hits):
            a = start + hit
            own = sums[:, a:end].sum(1).abs().max()
            if not own <= zero * torch.linalg.vector_norm(size[a:end]):
                continue  # small against the whole tensor only
            while a < end and not live[a]:
                a += 1
            b = end
            while b > a and not live[b - 1]:
                b -= 1
            if b > a:
                blocks.append((a, b))
                start = end
                break
    return blocks


def _merged(blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    result: list[tuple[int, int]] = []
    for a, b in blocks:
        if result and result[-1][1] == a:
            result[-1] = (result[-1][0], b)
        else:
            result.append((a, b))
    return result

"""The derivative of a model's outputs with respect to the log-scales of its tensors, row by row, and its null space.

With tensor i multiplied by exp(s_i) and J = d outputs / d s at s = 0, one backward pass with a random cotangent u gives
a whole row u^T J, and as many rows as J has rank, and a few more, have the null space of J with probability one. Entry
i of a row is <g_i, w_i>, g_i = the gradient of <u, outputs>: a cosine of exactly zero between gradient and weight is
scale-invariance (2a of Lobacheva et al. 2021).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from scaleinv.symmetry.probe import Probe

#: rows beyond the rank: they decide that the rank has stopped growing and keep the smallest singular value off zero
SPARE_ROWS = 6


class NoGradient(Exception):
    """The model runs, but autograd cannot differentiate it."""


@dataclass
class JacobianRows:
    """Rows of J, collected at one or several places; all float64 on the CPU.

    values (K, T): u^T J.  size (T,): rms over cotangents of |g_i| |w_i|, the scale of column i (0 for dead tensors).
    """

    size: Tensor  # (T,)
    values: Tensor = field(default_factory=lambda: torch.zeros(0))  # (K, T)

    def add(self, rows: Tensor) -> None:
        self.values = rows if not self.values.numel() else torch.cat([self.values, rows])

    def cosine(self) -> Tensor:
        """Compute the largest |<g_i, w_i>| / (|g_i| |w_i|) over the rows (T,); 0 for dead tensors."""
        safe = torch.where(self.size > 0, self.size, torch.ones_like(self.size))
        return (self.values.abs().amax(0) / safe) * (self.size > 0)


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the scaled columns and the decision where zero begins."""

    singular: Tensor  # (n,) descending
    null: Tensor  # (d, n) null vectors of the unscaled columns
    cut: int  # number of singular values kept
    clear: bool
    kept: float  # smallest kept, relative to the largest (nan: none)
    dropped: float  # largest dropped (nan: none)


def spectrum(columns: Tensor, *, noise: float = 1e-11, floor: float = 1e-7, gap: float = 1e3) -> Spectrum:
    """Compute the null space of a matrix (K, n) whose columns may have very different sizes.

    Each column is scaled to unit length first, which does not change which exponents are null but lets a tensor with a
    small influence be seen. The cut is the widest gap on a log scale below 1e-3 of the largest singular value, with
    everything below ``noise`` counted as equal; it is clear if the dropped are below ``floor`` and the smallest kept
    one is ``gap`` times larger, or, where none is dropped, above ten times ``floor``.
    """
    count = columns.shape[1]
    if count == 0:
        nan = float("nan")
        return Spectrum(torch.zeros(0), torch.zeros(0, 0), 0, True, nan, nan)
    size = torch.linalg.vector_norm(columns, dim=0)
    size = torch.where(size > 0, size, torch.ones_like(size))
    _, singular, right = torch.linalg.svd(columns / size, full_matrices=True)
    singular = torch.cat([singular, singular.new_zeros(count - len(singular))])
    relative = (singular / singular[0].clamp_min(1e-300)).clamp_min(noise)
    steps = torch.cat([relative, relative.new_tensor([noise])])
    ratios = torch.where(steps[1:] <= 1e-3, steps[:-1] / steps[1:], torch.zeros_like(relative))
    cut = count if steps[-2] > 1e-3 else int(torch.argmax(ratios)) + 1
    kept, dropped = float(relative[cut - 1]), float("nan")
    clear = kept > 10 * floor  # nothing to compare with
    if cut < count:
        dropped = float(singular[cut] / singular[0])
        clear = dropped < floor and kept / max(dropped, noise) >= gap
    return Spectrum(singular, right[cut:] / size, cut, clear, kept, dropped)


def cotangent(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a Gaussian vector on the usable outputs (M,)."""
    draw = torch.randn(mask.shape, generator=generator, dtype=torch.float64)
    return draw.to(mask.device) * mask


def full_row(probe: Probe, outputs: Tensor, u: Tensor, which: list[int], *, keep: bool = True) -> list[Tensor | None]:
    """Compute the gradients of <u, outputs> for the chosen tensors; None where the outputs do not depend on one."""
    chosen = [probe.tensors[i] for i in which]
    if not outputs.requires_grad:
        return [None] * len(which)
    try:
        return list(torch.autograd.grad(outputs, chosen, u.to(outputs.dtype), retain_graph=keep, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        raise NoGradient(str(error)) from error


def factor_rows(outputs: Tensor, factors: Tensor, cotangents: list[Tensor]) -> Tensor:
    """Compute u^T J for each cotangent (K, T), by a backward pass through the activations only."""
    rows = []
    for u in cotangents:
        (row,) = torch.autograd.grad(outputs, factors, u.to(outputs.dtype), retain_graph=True)
        rows.append(row.double().cpu())
    return torch.stack(rows)

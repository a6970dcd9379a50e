"""The derivative of a model's outputs with respect to the log-scales of its tensors, row by row, and its null space.

With tensor i multiplied by exp(s_i) and J = d outputs / d s at s = 0, one backward pass with a random cotangent u gives
a whole row u^T J, and as many rows as J has rank, and a few more, have the null space of J with probability one. Entry
i of a row is <g_i, w_i>, g_i = the gradient of <u, outputs>: a cosine of exactly zero between gradient and weight is
scale-invariance (2a of Lobacheva et al. 2021).
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

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
    values: Tensor = field(default_factory=lambda: torch.zeros(0, device="cpu"))  # (K, T)

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
        return Spectrum(torch.zeros(0, device="cpu"), torch.zeros(0, 0, device="cpu"), 0, True, nan, nan)
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


#: entries of a product that are held at a time
_CHUNK = 2**20
#: cotangents at once, in single precision, and the numbers in all of them
_BATCH, _BATCH_SIZE = 16, 2**24
#: a cotangent of more outputs is a product of two random vectors, one of so many entries (a prime number)
_TILE = 65_521


def inner(g: Tensor, w: Tensor) -> float:
    """Compute <g, w> with sums in double precision; of large tensors piece by piece, so that no product is held."""
    g, w = g.reshape(-1), w.reshape(-1)
    if len(g) <= _CHUNK:
        return float((g * w).sum(dtype=torch.float64))
    rows = [
        (a * b).view(-1, 1024).sum(1).double() if len(a) % 1024 == 0 else (a * b).double()
        for a, b in zip(torch.split(g, _CHUNK), torch.split(w, _CHUNK))
    ]
    return float(sum(float(part.sum()) for part in rows))


def cotangent(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a random vector on the usable outputs (M,).

    A Gaussian one; of many outputs u[k] = a[k div n] b[k mod n] with Gaussian a and b, which is drawn sooner and as
    generic: what vanishes for every such product is zero, so rows by them have the rank of J with probability one.
    """
    count = len(mask)
    draw = torch.randn(min(count, _TILE), generator=generator, dtype=torch.float64, device="cpu")
    if count > _TILE:
        times = torch.randn(-(-count // _TILE), generator=generator, dtype=torch.float64, device="cpu")
        draw = torch.outer(times, draw).view(-1)[:count]
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


def each_gradient(
    probe: Probe,
    outputs: Tensor,
    u: Tensor,
    take: Callable[[int, Tensor], None],
    which: Sequence[int] | None = None,
    *,
    keep: bool = False,
) -> None:
    """Compute the gradients of <u, outputs> and give each to ``take(i, gradient)`` as it comes: none is kept.

    Nothing is given for a tensor that the outputs do not depend on. ``which``: the chosen tensors, None: all.  keep:
    the graph of the outputs, for another cotangent.
    """
    if not outputs.requires_grad:
        return

    def given(i: int, p: Tensor) -> None:
        g, p.grad = p.grad, None
        if g is not None:
            take(i, g if g.layout is torch.strided else g.to_dense())

    leaves: dict[int, Any] = {i: probe.tensors[i] for i in (range(len(probe.tensors)) if which is None else which)}
    handles = [p.register_post_accumulate_grad_hook(partial(given, i)) for i, p in leaves.items()]
    try:
        with torch.enable_grad():
            torch.autograd.backward(outputs, u.to(outputs.dtype), retain_graph=keep, inputs=list(leaves.values()))
    except (RuntimeError, NotImplementedError) as error:
        raise NoGradient(str(error)) from error
    finally:
        for handle in handles:
            handle.remove()
        for p in leaves.values():
            p.grad = None


def factor_rows(outputs: Tensor, factors: Tensor, cotangents: Iterable[Tensor]) -> Tensor:
    """Compute u^T J for each cotangent (K, T), by a backward pass through the activations only."""
    rows = []
    together = max(1, min(_BATCH, _BATCH_SIZE // len(outputs))) if outputs.dtype is torch.float32 else 1
    draws = iter(cotangents)
    while us := list(itertools.islice(draws, together)):
        made = _batch(outputs, factors, us) if together > 1 else None
        if made is None:
            together = 1
            made = [torch.autograd.grad(outputs, factors, u.to(outputs.dtype), retain_graph=True)[0] for u in us]
        rows += [row.double().cpu() for row in made]
    return torch.stack(rows)


def _batch(outputs: Tensor, factors: Tensor, us: list[Tensor]) -> list[Tensor] | None:
    """Do several backward passes at once, which reads the weights once; None where an operation does not know how."""
    stack = torch.stack([u.to(outputs.dtype) for u in us])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one by one within is no faster
            (rows,) = torch.autograd.grad(outputs, factors, stack, retain_graph=True, is_grads_batched=True)
    except (RuntimeError, NotImplementedError, UserWarning):
        return None
    return list(rows)


def factor_dots(probe: Probe, u: Tensor) -> Tensor:
    """Compute <g, w> for every tensor (T,), g the gradient of <u, outputs>, without the gradients themselves."""
    factors = torch.ones(len(probe.tensors), dtype=torch.float64, device=u.device, requires_grad=True)
    return factor_rows(probe.outputs(list(factors.unbind())), factors, [u])[0]

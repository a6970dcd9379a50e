"""Pass over lists of plain CPU tensors in pieces that stay in the cache: inner products, steps of SGD."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: numbers added up in the dtype of the weights before the sum goes on in float64
CHUNK = 1 << 17


def flat(t: Tensor) -> Tensor | None:
    """View a tensor without gaps as a vector in the order of its memory, whatever its strides; None if it has gaps."""
    if t.is_contiguous():
        return t.view(-1)
    strides: tuple[int, ...] = t.stride()
    order = sorted(range(t.ndim), key=lambda d: (-strides[d], t.shape[d] == 1))
    dense = t.permute(order)
    return dense.view(-1) if dense.is_contiguous() else None


def products(
    a: Sequence[Tensor], b: Sequence[Tensor] | None = None, *, both: bool = True
) -> tuple[float, float, float]:
    """Compute <a, a>, <a, b> and (``both``) <b, b> in one pass.

    Sums of :data:`CHUNK` products are taken by ``torch.dot`` and added up in float64: as accurate as a pairwise sum
    and without a tensor of products. A pair that lies in memory in two orders is read in one.
    """
    dot = torch.dot
    if b is None:
        return _sum([dot(x, x) for t in a for x in _pieces(t)]), 0.0, 0.0
    squares: list[Tensor] = []
    crossed: list[Tensor] = []
    others: list[Tensor] = []
    for t, other in zip(a, b):
        if other.stride() != t.stride():
            t, other = t.reshape(-1), other.reshape(-1)
        for x, y in zip(_pieces(t), _pieces(other)):
            squares.append(dot(x, x))
            crossed.append(dot(x, y))
            if both:
                others.append(dot(y, y))
    return _sum(squares), _sum(crossed), _sum(others)


def step_of_sgd(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    buffers: Sequence[Tensor],
    *,
    measure: bool,
    carry: float = 0.0,
    **settings: Any,
) -> float:
    """Take a step of torch's fused SGD; returns the squared norm it leads to (0 unless ``measure``).

    The operation is that of ``torch.optim.SGD(..., fused=True)``, one piece after another, so that a piece is measured
    while it is in the cache; the numbers are those of a step over whole tensors.

    - ``weights``, ``gradients``, ``buffers``: tensors :func:`alike`; the averaged gradients, none without momentum.
    - ``carry``: the multiple of the new weights that is added to the averaged gradients, where ``measure``.
    - ``settings``: ``lr``, ``weight_decay``, ``momentum``, ``dampening``.
    """
    settings |= {"nesterov": False, "maximize": False, "is_first_step": False}
    if not measure:
        torch._fused_sgd_(list(weights), list(gradients), list(buffers), **settings)
        return 0.0
    found: list[Tensor] = []
    wide = CHUNK * torch.get_num_threads()
    for of_tensor in zip(weights, gradients, buffers) if buffers else zip(weights, gradients):
        vectors = [x for t in of_tensor if (x := flat(t)) is not None]
        for here, gradient, *buffer in zip(*(torch.split(x, wide) for x in vectors)):
            torch._fused_sgd_([here], [gradient], buffer, **settings)
            found += [torch.dot(piece, piece) for piece in _pieces(here)]
            if carry:
                buffer[0].add_(here, alpha=carry)
    return _sum(found)


def alike(*lists: Sequence[Tensor]) -> bool:
    """Tell whether tensors lie in memory without gaps and in one order: torch's fused steps read no other ones right.

    - ``lists``: of as many tensors; those at the same place are compared.
    """
    if all(t.is_contiguous() and t.dtype == tensors[0].dtype for tensors in zip(*lists) for t in tensors):
        return True
    return all(
        flat(first) is not None and all(t.dtype == first.dtype and _same_order(t, first) for t in others)
        for first, *others in zip(*lists)
    )


def _same_order(a: Tensor, b: Tensor) -> bool:
    if a.stride() == b.stride():
        return True
    return a.shape == b.shape and all(n == 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride()))


def _pieces(t: Tensor) -> Sequence[Tensor]:
    x = flat(t)
    if x is None:
        x = t.reshape(-1)
    return (x,) if x.numel() <= CHUNK else torch.split(x, CHUNK)


def _sum(values: list[Tensor]) -> float:
    if len(values) == 1:
        return float(values[0].item())
    return float(torch.stack(values).sum(dtype=torch.float64).item()) if values else 0.0

r"""Measure one step from the weights before it, the weights after it and the gradient.

Every tensor gives seven sums, from which everything else follows on the host (:mod:`scaleinv.monitor.quantities`).
With ``w`` the weight before the step, ``d`` its change, ``g`` the gradient::

    ww = <w, w>    dw = <d, w>    tt = sum |d - c w|^2    qq = sum c <d, w>    gg = <g, g>    gw = <g, w>    gd = <g, d>

``tt`` and ``qq`` are summed over chunks with ``c = <d, w>/<w, w>`` of the chunk. The tangential part of a group then is
``tt + (qq - dw^2/ww)`` over all its chunks: the first is a sum of squares, the second the spread of the c, so an
angle of 1e-6 rad beside a larger radial change loses nothing (``|d|^2 - dw^2/ww`` would be rounding). The sums are
additive over tensors, over the shards of a tensor and over processes.

A float32 dot product is wrong by 1e-7 to 1e-5 of its size, by how many of its terms the kernel adds in order; so is the
first guess of ``c``, and what it leaves of the radial change would count as a turn. Hence a second look: the rest
``<d - c w, w>`` corrects ``c`` and ``tt``, whose errors are then second order.

On a CPU a tensor is read in chunks that fit the cache, so that each number is fetched from memory once. Nothing here
waits for a device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from scaleinv.geometry import summing_dtype

#: names of the sums, in the order of the columns
SUMS = ("ww", "dw", "tt", "qq", "gd", "gg", "gw")
#: numbers in a chunk on a CPU: 1 MB of float32, so that a chunk of w, d and g stays in the cache
CHUNK = 1 << 18
_SMALL_FLOATS = (torch.bfloat16, torch.float16)


def local(tensor: Tensor) -> Tensor:
    """Get the part of a DTensor that this process holds; any other tensor as it is."""
    to_local = getattr(tensor, "to_local", None)
    if to_local is None:
        return tensor
    return to_local()  # type: ignore[no-any-return]


def memory_order(tensor: Tensor) -> list[int]:
    """Order the dimensions from slow to fast, as they lie in memory."""
    return sorted(range(tensor.ndim), key=lambda i: -tensor.stride()[i])


def flat_in_memory(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """Flatten, without a copy where ``order`` is the tensor's order in memory."""
    if tensor.is_contiguous() and list(order) == sorted(order):
        return tensor.view(-1)
    return tensor.permute(*order).reshape(-1)


def _plain(tensor: Tensor) -> Tensor:
    tensor = local(tensor.detach())
    if tensor.is_sparse:
        tensor = tensor.coalesce().to_dense()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _pieces(tensor: Tensor, order: Sequence[int]) -> Sequence[Tensor]:
    flat = flat_in_memory(tensor, order)
    if tensor.device.type != "cpu" or flat.numel() <= CHUNK:
        return (flat,)
    return torch.split(flat, CHUNK)


def _exact(piece: Tensor) -> Tensor:
    return piece.float() if piece.dtype in _SMALL_FLOATS else piece


def gradient_sums(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    """Compute ``gg, gw`` of every chunk, flat: 0-d tensors."""
    w, g = _plain(weight), _plain(gradient)
    order = memory_order(w)
    rows = []
    for wi, gi in zip(_pieces(w, order), _pieces(g, order)):
        wi, gi = _exact(wi), _exact(gi)
        gi = gi.to(wi.dtype)
        rows += [torch.dot(gi, gi), torch.dot(gi, wi)]
    return rows


def keep(weight: Tensor) -> Tensor:
    """Copy a weight (this process's part of it)."""
    return local(weight.detach()).clone()


def step_sums(before: Tensor, after: Tensor, gradient: Tensor | None) -> list[Tensor]:
    """Compute ``ww``, ``c`` as it was guessed, the sum of ``|d - c w|^2``, the rest ``<d - c w, w>`` and ``gd``.

    All of every chunk, flat: 0-d tensors; ``gd`` is NaN without a gradient.
    """
    w, x = _plain(before), _plain(after)
    order = memory_order(x)
    pieces = _pieces(w, order)
    slopes = [None] * len(pieces) if gradient is None else _pieces(_plain(gradient), order)
    rows = []
    for wi, xi, gi in zip(pieces, _pieces(x, order), slopes):
        wi = _exact(wi)
        d = _exact(xi) - wi
        ww, dw = torch.dot(wi, wi), torch.dot(d, wi)
        c = dw / ww.clamp_min(torch.finfo(ww.dtype).tiny)
        gd = torch.full_like(dw, torch.nan) if gi is None else torch.dot(gi.to(d.dtype), d)
        d.addcmul_(wi, c, value=-1)
        rest = torch.dot(d, wi)
        if d.numel() == 1:
            d.zero_()  # a number alone cannot turn
        rows += [ww, c, torch.dot(d, d), rest, gd]
    return rows


def still_sums(weight: Tensor) -> list[Tensor]:
    """:func:`step_sums` of a tensor that the step leaves alone, one row."""
    w = _plain(weight)
    order = memory_order(w)
    ww = torch.stack([torch.dot(_exact(p), _exact(p)) for p in _pieces(w, order)]).sum()
    zero = torch.zeros_like(ww)
    return [ww, zero, zero, zero, zero]


def accumulate(rows: Sequence[Sequence[Tensor]], width: int) -> Tensor:
    """Sum over the chunks of each tensor, (tensors, width), float64 where the device has it."""
    return _add_up(_stack(rows, width), [len(row) // width for row in rows])


def accumulate_steps(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """:func:`accumulate` of :func:`step_sums`, with ``qq``: (tensors, 5), ``ww, dw, tt, qq, gd``."""
    ww, c, squares, rest, gd = _stack(rows, 5).unbind(1)
    # in float64: qq - dw^2/ww cancels to the last digit where all chunks shrink alike
    c = c + torch.where(ww > 0, rest / ww, rest)
    tt = (squares - torch.where(ww > 0, rest * rest / ww, rest)).clamp_min(0.0)
    dw = c * ww
    return _add_up(torch.stack([ww, dw, tt, c * dw, gd], dim=1), [len(row) // 5 for row in rows])


def _stack(rows: Sequence[Sequence[Tensor]], width: int) -> Tensor:
    numbers = [n for row in rows for n in row]
    if not numbers:
        return torch.zeros(0, width, device="cpu")
    device = numbers[0].device
    exact = summing_dtype(device)
    if any(n.dtype != numbers[0].dtype or n.device != device for n in numbers):
        numbers = [n.to(device, exact, non_blocking=True) for n in numbers]
    return torch.stack(numbers).to(exact).view(-1, width)


def _add_up(chunks: Tensor, counts: Sequence[int]) -> Tensor:
    if all(c == 1 for c in counts):
        return chunks
    owner = torch.tensor([i for i, c in enumerate(counts) for _ in range(c)], device="cpu").to(
        chunks.device, non_blocking=True
    )
    return torch.zeros(len(counts), chunks.shape[1], dtype=chunks.dtype, device=chunks.device).index_add_(
        0, owner, chunks
    )

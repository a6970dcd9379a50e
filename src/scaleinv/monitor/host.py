"""Measure the step of a large tensor on the CPU by numpy, in chunks: each number is fetched from memory once.

The sums are those of :mod:`scaleinv.monitor.measure`. The second look is taken only in chunks where more than a
hundredth of the step's square is radial: elsewhere ``|d|^2 - dw^2/ww`` loses nothing.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.monitor.measure import flat_in_memory, memory_order

#: numbers in a chunk: 256 KB of float32, so that chunks of w, d and g stay in the cache
CHUNK = 1 << 16
#: share of the step's square that is radial, above which a second look is taken
_RADIAL = 1e-2
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
#: numbers in a product of float64 that is taken at once: OpenBLAS splits one of 10000 and more between its threads,
#: which wait for cores that train (220 microseconds on average instead of 3)
ALONE = 1 << 13
Array = npt.NDArray[np.floating]


def dot(x: Array, y: Array) -> float:
    """Compute ``<x, y>`` on this thread."""
    if len(x) <= ALONE or x.dtype != np.float64:
        return float(x @ y)
    total = 0.0
    for i in range(0, len(x), ALONE):
        total += float(x[i : i + ALONE] @ y[i : i + ALONE])
    return total


def on_host(tensor: Tensor) -> bool:
    """Tell whether a tensor is measured here."""
    plain = tensor.is_cpu and tensor.layout is torch.strided and tensor.dtype in _DTYPES
    return plain and getattr(tensor, "placements", None) is None


def _reader(flat: Tensor) -> Callable[[int, int], Array]:
    """Give a function that reads a part of a flat tensor as an array; half precision as float32."""
    if flat.dtype in (torch.float32, torch.float64):
        whole = flat.numpy()
        return lambda begin, end: whole[begin:end]
    return lambda begin, end: flat[begin:end].float().numpy()


def _like(gradient: Tensor, weight: Tensor) -> Tensor:
    gradient = gradient.detach()
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    wide = weight.dtype in (torch.float32, torch.float64) and gradient.dtype is not weight.dtype
    return gradient.to(weight.dtype) if wide else gradient


class HostStep:
    """A step of one tensor: a copy from before it and the sums of its gradient, then the sums of the step.

    The copy is made of parts that fit what the backward pass has just freed: one large piece of memory would be new,
    and its pages are given out one by one, in ten times the time of copying (0.64 s for 124 million weights, not 0.07).
    """

    def __init__(self, weight: Tensor, keep: bool) -> None:
        """Copy the weight (``keep``; a tensor without a gradient stays where it is)."""
        self.weight = weight
        self._order = memory_order(weight)
        self._chunks = [(i, min(i + CHUNK, weight.numel())) for i in range(0, weight.numel(), CHUNK)]
        self._before: list[Array | Tensor] = []  # a part for every chunk
        self._ww: list[float] = []
        self._slopes = [0.0, 0.0]
        self.gradient: Tensor | None = None
        self._version = 0
        self._keep = keep

    def copy(self) -> None:
        """Copy the weight now."""
        self._pass(None)

    def look(self) -> None:
        """Look at the gradient; the weight is copied by the way, if it was not before."""
        gradient = self.weight.grad
        self.gradient = gradient
        if gradient is not None:
            self._version = gradient._version
            self._pass(flat_in_memory(_like(gradient, self.weight), self._order))
        elif self._keep and not self._before:
            self._pass(None)

    def _pass(self, slope: Tensor | None) -> None:
        flat = flat_in_memory(self.weight.detach(), self._order)
        weights, slopes = _reader(flat), None if slope is None else _reader(slope)
        wide = flat.dtype in (torch.float32, torch.float64)
        copied = bool(self._before)
        first = not self._ww
        gg = gw = 0.0
        with np.errstate(all="ignore"):  # what is not finite is a result
            for begin, end in self._chunks:
                w = weights(begin, end)
                if not copied:
                    self._before.append(w.copy() if wide else flat[begin:end].clone())
                if first:
                    self._ww.append(dot(w, w))
                if slopes is not None:
                    g = slopes(begin, end)
                    gg, gw = gg + dot(g, g), gw + dot(g, w)
        self._slopes = [gg, gw]

    @property
    def kept(self) -> int:
        """Bytes of the copy; 0 where there is none."""
        return sum(part.nbytes for part in self._before)

    @property
    def before(self) -> Tensor | None:
        """The copy in the shape of the weight."""
        if not self._before:
            return None
        shape = [self.weight.shape[i] for i in self._order]
        back = sorted(range(len(shape)), key=self._order.__getitem__)
        whole = torch.cat([torch.as_tensor(part) for part in self._before])
        return whole.view(shape).permute(back)

    def sums(self) -> list[float]:
        """Compute ``ww, dw, tt, qq, gd, gg, gw``; ``gd`` is NaN where the step has written into the gradient."""
        flat = flat_in_memory(self.weight.detach(), self._order)
        if not self._before:
            read = _reader(flat)
            with np.errstate(all="ignore"):
                ww = math.fsum(dot(w, w) for w in (read(begin, end) for begin, end in self._chunks))
            return [ww, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] if math.isfinite(ww) else [ww, *[math.nan] * 4, 0.0, 0.0]
        gradient = self.gradient
        same = gradient is not None and self.weight.grad is gradient and gradient._version == self._version
        slopes = (
            _reader(flat_in_memory(_like(gradient, self.weight), self._order))
            if same and gradient is not None
            else None
        )
        new = _reader(flat)
        total = [0.0] * 5
        room: Array | None = None
        with np.errstate(all="ignore"):
            for (begin, end), ww, kept in zip(self._chunks, self._ww, self._before):
                w, x = kept.float().numpy() if isinstance(kept, Tensor) else kept, new(begin, end)
                room = np.empty_like(x) if room is None else room
                d = np.subtract(x, w, out=room[: end - begin])
                gd = math.nan if slopes is None else dot(slopes(begin, end), d)
                for i, value in enumerate((*_parts(w, d, ww, dot(d, w), dot(d, d)), gd)):
                    total[i] += value
        if self.weight.numel() == 1:
            total[2] *= 0.0  # a number alone cannot turn
        return [*total, *self._slopes]


def _parts(w: Array, d: Array, ww: float, dw: float, dd: float) -> tuple[float, float, float, float]:
    """Compute ``ww, dw, tt, qq`` of a chunk."""
    if dw * dw <= _RADIAL * dd * ww and ww > 0:
        c = dw / ww
        return ww, dw, dd - c * dw, c * dw
    tiny = float(np.finfo(d.dtype).tiny)
    first = d.dtype.type(dw / max(ww, tiny))
    d = d - first * w
    rest, square = dot(d, w), dot(d, d)
    c = float(first) + (rest / ww if ww > 0 else rest)
    tt = square - (rest * rest / ww if ww > 0 else rest)
    return ww, c * ww, tt if not tt < 0 else 0.0, c * c * ww

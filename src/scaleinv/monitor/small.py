"""Measure all small tensors of a step together, by numpy in float64: singly they would cost more in calls than sums.

The sums are those of :mod:`scaleinv.monitor.measure`, each tensor in one chunk. In float64 ``|d|^2 - dw^2/ww`` loses
nothing but where the step is radial nearly; there ``d - c w`` is made.
"""

import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from scaleinv.monitor.host import ALONE, dot

#: numbers in a tensor that is measured here, and in all of them together: copies of the gradients are held too
SMALL, TOGETHER = 1 << 14, 1 << 20
#: numbers in a tensor that is summed in one call with others of its kind, and in all of these
TINY, _ALL_TINY = 1 << 10, 1 << 15
#: share of ``|d|^2`` below which the tangential part is summed by itself
_RADIAL = 1e-2
_TINY = 1e-300
Array = npt.NDArray[Any]
_DTYPES = (torch.float32, torch.float64)


def small_places(tensors: Sequence[Tensor]) -> dict[torch.dtype, list[int]]:
    """Find the places of the tensors that are measured here, by their dtype; none where one is elsewhere than on the
    CPU.
    """
    found: dict[torch.dtype, list[int]] = {}
    left = TOGETHER
    for i, t in enumerate(tensors):
        if not t.is_cpu:
            return {}
        size = t.numel()
        plain = t.dtype in _DTYPES and t.layout is torch.strided and getattr(t, "placements", None) is None
        if plain and 0 < size <= min(SMALL, left):
            found.setdefault(t.dtype, []).append(i)
            left -= size
    return found


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """Copy tensors of one dtype into one vector."""
    if len(tensors) == 1:
        return tensors[0].detach().reshape(-1).clone()
    flat: Tensor = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
    return flat


@lru_cache(maxsize=64)
def _order(sizes: tuple[int, ...]) -> tuple[list[int], int, list[int]]:
    """Put the tiny ones first; the order, how many are tiny, and where each ends in the vector of all."""
    tiny = [i for i, size in enumerate(sizes) if size <= TINY]
    if len(tiny) < 2 or sum(sizes[i] for i in tiny) > _ALL_TINY:
        tiny = []
    apart = set(tiny)
    order = [*tiny, *(i for i in range(len(sizes)) if i not in apart)]
    return order, len(tiny), list(accumulate(sizes[i] for i in order))


class SmallStep:
    """A step of small tensors of one dtype: copies of weights and gradients from before it, then the sums."""

    def __init__(self, places: list[int], tensors: Sequence[Tensor]) -> None:
        order, self._tiny, self.ends = _order(tuple([tensors[i].numel() for i in places]))
        self.places = [places[i] for i in order]
        self.weights = [tensors[i] for i in self.places]
        self.before = _flat(self.weights)
        self.gradients: list[Tensor | None] = [None] * len(places)
        self._versions = [0] * len(places)
        self._slopes: Tensor | None = None

    def look(self) -> None:
        """Copy the gradients: the weights are those of before the step."""
        found = [w.grad for w in self.weights]
        self.gradients = found
        self._versions = [0 if g is None else g._version for g in found]
        self._slopes = _flat([_dense(g, w) for g, w in zip(found, self.weights)])

    def copies(self) -> list[Tensor]:
        """Give the copies of the weights in their shapes."""
        return [
            c.view(w.shape) for c, w in zip(torch.split(self.before, [w.numel() for w in self.weights]), self.weights)
        ]

    def sums(self) -> Array:
        """Compute ``ww, dw, tt, qq, gd, gg, gw`` of each tensor; ``gd`` is NaN without a gradient or where the step has
        written into it.
        """
        old, new = self.before.numpy(), _flat(self.weights).numpy()
        slopes = None if self._slopes is None else self._slopes.numpy()
        found = np.empty((len(self.ends), 7))
        with np.errstate(all="ignore"):  # what is not finite is a result
            begin, first = 0, self._tiny
            if first:
                begin = self.ends[first - 1]
                block = _block(old, new, slopes, 0, begin)
                _sum_together(block, [0, *self.ends[: first - 1]], begin, found[:first])
            rows = []
            for end in self.ends[first:]:
                w, d, g = _block(old, new, slopes, begin, end)
                product: Any = dot if end - begin > ALONE else np.dot
                ww, dw, dd = product(w, w), product(d, w), product(d, d)
                c = dw / max(ww, _TINY)
                qq = c * dw
                slope = (0.0, 0.0, 0.0) if slopes is None else (product(g, d), product(g, g), product(g, w))
                rows.append((ww, dw, _tangential(w, d, c, dd - qq, dd), qq, *slope))
                begin = end
            if rows:
                found[first:] = rows
        for i, (weight, gradient) in enumerate(zip(self.weights, self.gradients)):
            if gradient is None or weight.grad is not gradient or gradient._version != self._versions[i]:
                found[i, 4] = math.nan
        return found


def _block(old: Array, new: Array, slopes: Array | None, begin: int, end: int) -> Array:
    """Give weight, step and gradient (without one: zeros) of a part in float64."""
    block = room(3, end - begin)
    w, d, g = block
    w[:], d[:] = old[begin:end], new[begin:end]
    d -= w
    g[:] = 0.0 if slopes is None else slopes[begin:end]
    return block


def _sum_together(block: Array, begins: list[int], size: int, found: Array) -> None:
    """Fill the rows of tensors that lie in one block one behind the other."""
    w, d, g = block
    products = room(6, size)
    np.multiply(block, w, out=products[:3])
    np.multiply(block[1:], d, out=products[3:5])
    np.multiply(g, g, out=products[5])
    ww, dw, gw, dd, gd, gg = np.add.reduceat(products, begins, axis=1)
    c = dw / np.maximum(ww, _TINY)
    qq = c * dw
    tt = dd - qq
    ends = [*begins[1:], size]
    for i in np.flatnonzero(~(tt >= _RADIAL * dd)).tolist():
        tt[i] = _tangential(w[begins[i] : ends[i]], d[begins[i] : ends[i]], c[i], tt[i], dd[i])
    found.T[:] = ww, dw, tt, qq, gd, gg, gw


def _tangential(w: Array, d: Array, c: float, tt: float, dd: float) -> float:
    """Give ``|d - c w|^2``, which ``tt`` is where it is not small; changes ``w`` and ``d``."""
    if len(d) == 1:
        return 0.0 * c  # a number alone cannot turn
    if tt < _RADIAL * dd:
        w *= c
        d -= w
        return dot(d, d)
    return tt


_local = threading.local()


def room(rows: int, size: int) -> Array:
    """Give rows of numbers to work in, the same memory every time that so many rows are asked for."""
    rooms: dict[int, Array] = _local.__dict__.setdefault("rooms", {})
    if rows not in rooms:
        rooms[rows] = np.empty((rows, max(SMALL, _ALL_TINY)))
    return rooms[rows][:, :size]


def _dense(gradient: Tensor | None, weight: Tensor) -> Tensor:
    """Give a gradient as a tensor like its weight; zeros where there is none."""
    if gradient is None:
        return torch.zeros_like(weight)
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    return gradient if gradient.dtype is weight.dtype else gradient.to(weight.dtype)

"""Measure all small tensors of a step together, by numpy in float64: singly they would cost more in calls than sums.

The sums are those of :mod:`scaleinv.monitor.measure`, each tensor in one chunk. In float64 ``|d|^2 - dw^2/ww`` loses
nothing but where the step is radial nearly; there ``d - c w`` is made.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

#: numbers in a tensor that is measured here, and in all of them together: copies of the gradients are held too
SMALL, TOGETHER = 1 << 14, 1 << 20
#: share of ``|d|^2`` below which the tangential part is summed by itself
_RADIAL = 1e-2
_TINY = 1e-300
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


class SmallStep:
    """A step of small tensors of one dtype: copies of weights and gradients from before it, then the sums."""

    def __init__(self, places: list[int], tensors: Sequence[Tensor]) -> None:
        self.places = places
        self.weights = [tensors[i] for i in places]
        self.before = _flat(self.weights)
        self.ends = np.cumsum([w.numel() for w in self.weights]).tolist()
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
        return [c.view(w.shape) for c, w in zip(self.before.split([w.numel() for w in self.weights]), self.weights)]

    def sums(self) -> npt.NDArray[np.float64]:
        """Compute ``ww, dw, tt, qq, gd, gg, gw`` of each tensor; ``gd`` is NaN without a gradient or where the step has
        written into it.
        """
        size = self.ends[-1]
        block = np.empty((3, size))
        block[0] = self.before.numpy()
        block[1] = _flat(self.weights).numpy()
        if self._slopes is None:
            block[2] = 0.0
        else:
            block[2] = self._slopes.numpy()
        w, d, g = block
        rows = []
        with np.errstate(all="ignore"):  # what is not finite is a result
            d -= w
            begin = 0
            for end in self.ends:
                wi, di, gi = w[begin:end], d[begin:end], g[begin:end]
                rows.append((wi @ wi, di @ wi, di @ di, 0.0, gi @ di, gi @ gi, gi @ wi))
                begin = end
            found = np.array(rows)
            ww, dw, dd = found[:, 0], found[:, 1], found[:, 2]
            c = dw / np.maximum(ww, _TINY)
            qq = c * dw
            tt = dd - qq
            for i in np.flatnonzero(tt < _RADIAL * dd).tolist():
                begin, end = self.ends[i - 1] if i else 0, self.ends[i]
                part = d[begin:end] - c[i] * w[begin:end]
                tt[i] = part @ part
            for i, end in enumerate(self.ends):
                if end - (self.ends[i - 1] if i else 0) == 1:
                    tt[i] = 0.0 * c[i]  # a number alone cannot turn
        found[:, 2], found[:, 3] = tt, qq
        for i, (weight, gradient) in enumerate(zip(self.weights, self.gradients)):
            if gradient is None or weight.grad is not gradient or gradient._version != self._versions[i]:
                found[i, 4] = math.nan
        return found


def _dense(gradient: Tensor | None, weight: Tensor) -> Tensor:
    """Give a gradient as a tensor like its weight; zeros where there is none."""
    if gradient is None:
        return torch.zeros_like(weight)
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    return gradient if gradient.dtype is weight.dtype else gradient.to(weight.dtype)

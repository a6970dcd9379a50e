"""Record how far the weights are, in direction, from those one epoch ago and from the start.

Two cosines of the scale-invariant weights at the end of every epoch, of the whole vector and of every group
(Nakhodnov et al. 2022 tell regimes apart by the cosines of iterates even where nothing converges). In float64 by
``cos = 1 - |u - v|^2 / 2`` of unit vectors, so ``1 - cos`` keeps its digits where it is small.

The start is that of the network as it was built. A run that starts from another one may be resumed without that one's
weights, so it keeps its start in its state. The weights of the previous epoch are part of the state while an epoch is
under way; where none is they are the present ones.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.lab.small import flat, is_small
from scaleinv.runfolder.rows import Row


class EpochSimilarity:
    """Remember the weights of the start and of the previous epoch; turn them into rows.

    To be made before a checkpoint is loaded into the network, so that its weights are those of the start.

    Args:
        groups: names and tensors of the scale-invariant groups.
        keep_start: the start cannot be built again, so it belongs to the state.
    """

    def __init__(self, groups: Mapping[str, Sequence[Tensor]], *, keep_start: bool = False) -> None:
        self._groups = groups
        self._keep_start = keep_start
        self._start = self._copy()
        self._previous = [t.clone() for t in self._start]
        ends = [0, *accumulate(len(tensors) for tensors in groups.values())]
        self._spans = [(0, ends[-1]), *pairwise(ends)]  # of the whole vector, then of every group
        small = all(is_small(t) for t in self._start)
        self._sums = _Sums.of([t.numel() for t in self._start]) if small else None
        #: the two in float64, once they have been measured
        self._known: dict[str, Any] = {}

    def _copy(self) -> list[Tensor]:
        return [t.detach().clone() for tensors in self._groups.values() for t in tensors]

    @torch.no_grad()
    def rows(self, step: int, epoch: int, *, whole: bool = True) -> list[Row]:
        """The rows of the epoch that ends at ``step``; the present weights are the previous ones from now on.

        ``whole``: false for an epoch that was cut short: its distance to the previous one is not comparable and left
        out.
        """
        now = self._copy()
        measured = self._measure(now)
        rows = []
        for quantity, place, others in (
            ("cos_previous_epoch", "previous", self._previous),
            ("cos_start", "start", self._start),
        ):
            if whole or quantity == "cos_start":
                if place not in self._known:
                    self._known[place] = self._measure(others)
                cosines = measured.cosines(self._known[place], self._spans)
                for name, cosine in zip(["total", *self._groups], cosines):
                    rows.append(Row(step, epoch, "weights", name, quantity, cosine))
        self._previous, self._known["previous"] = now, measured
        return rows

    def _measure(self, tensors: Sequence[Tensor]) -> Any:
        return _Small(tensors, self._spans, self._sums) if self._sums else _measure(tensors)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """What cannot be had from the network: the weights of the previous epoch, unless they are the present ones."""
        state = {}
        if not all(torch.equal(a, b) for a, b in zip(self._previous, self._copy())):
            state["previous"] = [t.cpu().contiguous() for t in self._previous]
        if self._keep_start:
            state["start"] = [t.cpu().contiguous() for t in self._start]
        return state

    def load_state_dict(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        """The inverse of :meth:`state_dict`, to be called after the network has its weights again."""
        for own, name in ((self._previous, "previous"), (self._start, "start")):
            if name in state:
                for tensor, saved in zip(own, state[name]):
                    tensor.copy_(saved)
        self._known = {}
        if "previous" not in state:
            self._previous = self._copy()


class _Measured(NamedTuple):
    tensors: list[Tensor]  # in float64
    squares: list[float]  # of their norms

    def part(self, first: int, end: int) -> "_Measured":
        return _Measured(self.tensors[first:end], self.squares[first:end])

    def cosines(self, other: "_Measured", spans: Sequence[tuple[int, int]]) -> list[float]:
        """Of the tensors of every span; NaN where a vector has no direction."""
        return [_cosine(self.part(a, b), other.part(a, b)) for a, b in spans]


class _Sums(NamedTuple):
    """An array of vectors and its parts, a tensor each, which are added up in torch's order: made once for all epochs,
    since a call costs more than the sums of few numbers.
    """

    numbers: npt.NDArray[np.float64]  # (1 or 2, all numbers of a vector)
    one: Sequence[Tensor]  # of the first vector
    two: Sequence[Tensor]  # of both

    @classmethod
    def of(cls, sizes: list[int]) -> "_Sums":
        numbers = np.empty((2, sum(sizes)))
        parts = torch.split(torch.from_numpy(numbers.ravel()), 2 * sizes)
        return cls(numbers, parts[: len(sizes)], parts)


class _Small:
    """The same of few numbers on a CPU, whose directions lie in one array: calls cost more than sums."""

    def __init__(self, tensors: Sequence[Tensor], spans: Sequence[tuple[int, int]], sums: _Sums) -> None:
        self.sums = sums
        numbers = np.concatenate([flat(t) for t in tensors], dtype=np.float64)
        np.multiply(numbers, numbers, out=sums.numbers[0])
        squares = [part.sum().item() for part in sums.one]
        self.norms = [math.sqrt(sum(squares[a:b])) for a, b in spans]
        #: by the norm of the whole vector, then by those of the groups
        self.directions = np.empty((2, len(numbers)))
        ends = [0, *accumulate(len(part) for part in sums.one)]
        with np.errstate(all="ignore"):  # a diverged run
            np.divide(numbers, self.norms[0], out=self.directions[0])
            for (a, b), norm in zip(spans[1:], self.norms[1:]):
                part = slice(ends[a], ends[b])
                np.divide(numbers[part], norm, out=self.directions[1, part])

    def cosines(self, other: "_Small", spans: Sequence[tuple[int, int]]) -> list[float]:
        """See :meth:`_Measured.cosines`."""
        difference = self.sums.numbers
        with np.errstate(all="ignore"):
            np.subtract(self.directions, other.directions, out=difference)
            np.multiply(difference, difference, out=difference)
        distances, shift, found = [part.sum().item() for part in self.sums.two], 0, []
        for (first, end), a, b in zip(spans, self.norms, other.norms):
            near = 0 < a < math.inf and 0 < b < math.inf
            found.append(1 - sum(distances[first + shift : end + shift]) / 2 if near else math.nan)
            shift = len(self.sums.one)  # the groups follow the whole vector
        return found


def _measure(tensors: Sequence[Tensor]) -> _Measured:
    double = [t.double() for t in tensors]
    return _Measured(double, [float(t.square().sum()) for t in double])


def _cosine(u: _Measured, v: _Measured) -> float:
    a, b = math.sqrt(sum(u.squares)), math.sqrt(sum(v.squares))
    if not (0 < a < math.inf and 0 < b < math.inf):
        return math.nan
    return 1 - sum(_distance(s, a, t, b) for s, t in zip(u.tensors, v.tensors)) / 2


def _distance(s: Tensor, a: float, t: Tensor, b: float) -> float:
    """Compute |s / a - t / b|^2; what is exactly rounded takes numpy half the time on a CPU."""
    if s.device.type != "cpu" or s.stride() != t.stride():
        return float((s / a - t / b).square().sum())
    difference = s.numpy() / a
    difference -= t.numpy() / b
    difference *= difference
    return float(torch.from_numpy(difference).sum())

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

import torch
from torch import Tensor

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

    def _copy(self) -> list[Tensor]:
        return [t.detach().clone() for tensors in self._groups.values() for t in tensors]

    @torch.no_grad()
    def rows(self, step: int, epoch: int, *, whole: bool = True) -> list[Row]:
        """The rows of the epoch that ends at ``step``; the present weights are the previous ones from now on.

        ``whole``: false for an epoch that was cut short: its distance to the previous one is not comparable and left
        out.
        """
        now = self._copy()
        rows = []
        for quantity, others in (("cos_previous_epoch", self._previous), ("cos_start", self._start)):
            if whole or quantity == "cos_start":
                for name, cosine in zip(["total", *self._groups], self._cosines(now, others)):
                    rows.append(Row(step, epoch, "weights", name, quantity, cosine))
        self._previous = now
        return rows

    def _cosines(self, now: Sequence[Tensor], others: Sequence[Tensor]) -> list[float]:
        """Of the whole vector, then of every group; NaN where a vector has no direction."""
        u, v = ([t.double() for t in tensors] for tensors in (now, others))
        ends = [0, *accumulate(len(tensors) for tensors in self._groups.values())]
        return [_cosine(u, v)] + [_cosine(u[a:b], v[a:b]) for a, b in pairwise(ends)]

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
        if "previous" not in state:
            self._previous = self._copy()


def _cosine(u: Sequence[Tensor], v: Sequence[Tensor]) -> float:
    a, b = (math.sqrt(sum(float(t.square().sum()) for t in tensors)) for tensors in (u, v))
    if not (0 < a < math.inf and 0 < b < math.inf):
        return math.nan
    return 1 - sum(float((s / a - t / b).square().sum()) for s, t in zip(u, v)) / 2

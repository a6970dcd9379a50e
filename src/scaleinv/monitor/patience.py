"""Tell batches that accumulate from steps that no hook sees."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.monitor.groups import held

#: losses told without a step of an optimizer, after which it is looked whether the weights move all the same
FIRST = 100
#: so many times as many without a step are said also where the weights rest
_AT_REST = 10
#: numbers of a tensor that are compared
_SAMPLE = 256


class Patience:
    """Count the losses told since a step was seen, and say when a step should have been.

    A step that calls no hook (compiled, captured, of another optimizer) moves the weights; batches that accumulate do
    not. So half-way to the limit a sample of the weights is kept, and compared at the limit: where they rest the limit
    grows to ten times. A loop that accumulated k batches before one step may take 4 k for the next.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers
        self.losses = 0  # told since a step was seen
        self._limit, self._last = FIRST, False
        self._sample: list[Tensor] = []

    @property
    def ended(self) -> bool:
        """Tell whether no step is waited for: what is told is not kept."""
        return self.losses >= self._limit

    def told(self) -> bool:
        """Count a loss; tell, once, that a step should have been seen."""
        self.losses += 1
        if self.losses == self._limit // 2 and not self._last:
            self._sample = self._weights()
        if self.losses != self._limit:
            return False
        if not self._last and all(map(torch.equal, self._sample, self._weights())):
            self._limit, self._last = _AT_REST * self._limit, True
            return False
        return True

    def stepped(self) -> None:
        """Begin anew: a step was seen."""
        if self.losses > 1:  # accumulated batches
            self._limit, self._last = max(self._limit, 4 * self.losses), False
            self._sample = []
        self.losses = 0

    @torch.no_grad()
    def _weights(self) -> list[Tensor]:
        found = []
        for p in (p for one in self._optimizers for p in held(one)):
            here = getattr(p, "_local_tensor", p).detach().reshape(-1)  # of a DTensor what lies in this process
            found.append(here[:: max(1, len(here) // _SAMPLE)].clone())
        return found

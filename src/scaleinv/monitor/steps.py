"""Which steps there were: rounds of several optimizers, and those that GradScaler has skipped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Steps:
    """Counts. With several optimizers a round is over when each has stepped, or when one steps again."""

    def __init__(self, optimizers: int) -> None:
        self._count = optimizers
        self.round = 0  # calls of step, those included that GradScaler has skipped inside
        self.skipped = 0  # known on the host
        self.late: Tensor | None = None  # (this one is skipped, how many were so far), where it is counted on a device
        self._stepped: set[int] = set()

    @property
    def done(self) -> int:
        """Steps taken; reads the device where skipped ones are counted there."""
        return self.round - self.skipped - (0 if self.late is None else int(self.late[1]))

    def again(self, index: int) -> bool:
        """Whether this optimizer has stepped in this round already."""
        return index in self._stepped

    def took(self, index: int) -> bool:
        """This optimizer has stepped; True if the round is over by that."""
        self._stepped.add(index)
        return len(self._stepped) == self._count

    def start_round(self) -> None:
        """No optimizer has stepped in it yet."""
        self._stepped.clear()

    def skips(self, optimizer: Optimizer) -> bool:
        """Ask an optimizer that GradScaler tells of infinities (a fused one; the others it does not call at all)
        whether its step was none. On a device the answer is not waited for: it is ``late``.
        """
        found: Any = getattr(optimizer, "found_inf", None)
        if not isinstance(found, Tensor):
            return False
        if _on_host(found):
            if bool(found):
                self.skipped += 1
                return True
            return False
        flag = found.detach().reshape(())
        self.late = torch.stack([flag, flag + (0.0 if self.late is None else self.late[1])])
        return False

    def restart(self, done: int) -> None:
        """Go on behind so many steps."""
        self.round, self.skipped, self.late = done, 0, None
        self._stepped.clear()


def _on_host(tensor: Tensor) -> bool:
    """Whether reading the tensor waits for no device."""
    return tensor.device.type == "cpu"

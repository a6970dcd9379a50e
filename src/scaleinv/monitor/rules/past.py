"""Keep the last logged steps for the rules, as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scaleinv.monitor.groups import DEAD, FREE, Group
from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.records import Record
from scaleinv.monitor.state import MonitorState

Array = npt.NDArray[np.float64]
#: logged steps a rule looks back
BACK = 32


class Past:
    """The last logged steps of one set of groups, the newest last; forgets all when groups come or go."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._count = 0
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._names, self._count, self.rows = (), 0, 0
        self._kinds: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None
        self._roots: Array | None = None
        self.largest = self.first = np.zeros(0)

    def expect(self, records: Sequence[Record]) -> Array | None:
        """Take rows that :meth:`take` is going to be given one by one; tell what rows lie in one block, if they do.

        Shape of the block: (31 rows of before and the new ones, 1 + groups, quantities); None where groups come or go,
        or fewer rows are known.
        """
        if self._count < BACK - 1 or any(r.groups != self._names for r in records) or len(records) > BACK:
            return None
        if self._count + len(records) > len(self._steps):
            for kept in (self._values, self._steps, self._losses):
                kept[: BACK - 1] = kept[self._count - (BACK - 1) : self._count].copy()
            self._count = BACK - 1
        for i, record in enumerate(records, start=self._count):
            self._values[i], self._steps[i] = record.values, record.step
        return self._values[self._count - (BACK - 1) : self._count + len(records)]

    def steps_of_block(self, count: int) -> Array:
        """Give the steps of the block that :meth:`expect` gave."""
        return self._steps[self._count - (BACK - 1) : self._count + count]

    def take(self, record: Record) -> None:
        """Take the newest row."""
        if record.groups != self._names:
            self.clear()
            self._names = record.groups
            self._values = np.empty((4 * BACK, *record.values.shape))
            self._steps, self._losses = np.empty(4 * BACK), np.empty(4 * BACK)
            self.first = record.values[:, COLUMN["rho"]].copy()
            self.largest = self.first.copy()
            self.largest_lr = np.zeros(len(record.groups))
        if self._count == len(self._steps):
            for kept in (self._values, self._steps, self._losses):
                kept[: BACK - 1] = kept[-(BACK - 1) :]
            self._count = BACK - 1
        i = self._count
        self._values[i], self._steps[i], self._losses[i] = record.values, record.step, record.loss
        self._count += 1
        self.rows += 1
        np.fmax(self.largest, record.values[:, COLUMN["rho"]], out=self.largest)

    def kinds(self, monitor: MonitorState) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Tell of the total (no) and every group whether it is a matrix, and whether it has no scale."""
        if self._kinds is None or len(self._kinds[0]) != 1 + len(monitor.groups):
            matrices = np.array([False, *(is_matrix(g) for g in monitor.groups)])
            self._kinds = matrices, np.array([False, *(g.scale_free for g in monitor.groups)])
        return self._kinds

    def roots(self, monitor: MonitorState) -> Array:
        """Give the root of the size of every group that has no scale; 0 of the others and of the total."""
        if self._roots is None or len(self._roots) != 1 + len(monitor.groups):
            self._roots = np.array([0.0, *(math.sqrt(g.size) if g.scale_free else 0.0 for g in monitor.groups)])
        return self._roots

    def seen_lr(self, record: Record) -> None:
        """Take the learning rates of the newest row, once the rules have looked at it."""
        np.fmax(self.largest_lr, record.values[:, COLUMN["lr"]], out=self.largest_lr)

    def __len__(self) -> int:
        return min(self._count, BACK)

    @property
    def steps(self) -> Array:
        """Steps of the rows, the newest last."""
        return self._steps[max(0, self._count - BACK) : self._count]

    @property
    def losses(self) -> Array:
        """Losses of the rows."""
        return self._losses[max(0, self._count - BACK) : self._count]

    def column(self, name: str) -> Array:
        """Values of a quantity, shape (rows, 1 + groups): the total first."""
        return self._values[max(0, self._count - BACK) : self._count, :, COLUMN[name]]

    def enough(self, few: int, span: int) -> int:
        """Count the last rows that a rule needs: ``few`` of them that span ``span`` steps; 0: not there yet."""
        steps = self.steps
        for n in range(few, len(steps) + 1):
            if steps[-1] - steps[-n] >= span:
                return n
        return 0


def is_matrix(group: Group) -> bool:
    """Tell whether a group has a direction that matters: one without scale, or a matrix."""
    if group.kind == DEAD:
        return False
    return group.kind == FREE or any(
        t.ndim >= 2 and min(t.shape[0], t.numel() // t.shape[0]) > 1 for t in group.tensors
    )


def trained(group: Group) -> bool:
    """Tell whether the group is meant to be trained."""
    return all(t.requires_grad for t in group.tensors)

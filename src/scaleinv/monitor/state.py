"""What sinks, alerts and the summary may read of a monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import nn
from torch.optim import Optimizer

from scaleinv.monitor.forecast import Forecast
from scaleinv.monitor.groups import Group
from scaleinv.monitor.rates import Rates
from scaleinv.monitor.records import Alert, Record


class MonitorState(Protocol):
    """The read-only side of :class:`scaleinv.Monitor`."""

    model: nn.Module
    total_steps: int | None
    boundary: float | None
    epoch: int | None
    alerts: list[Alert]

    @property
    def every(self) -> int:
        """Every n-th step is logged."""

    @property
    def step(self) -> int:
        """Optimizer steps seen."""

    @property
    def groups(self) -> list[Group]:
        """What is measured together, without the total."""

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers whose steps are measured."""

    @property
    def records(self) -> Sequence[Record]:
        """Logged steps in memory, the oldest first."""

    @property
    def rates(self) -> Sequence[Rates]:
        """Learning rate and decay of the last record: of the total, then of each group."""

    @property
    def proved(self) -> bool:
        """Whether the groups come from ``find_symmetries``: scale-invariant but for eps."""

    def forecasts(self) -> list[Forecast]:
        """What is to come for every scale-invariant group and for all together."""

"""Hold what a monitor has measured, and tell what follows from it: what its user, sinks and alerts read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.monitor.breakdowns import Journal, MonitoredPeriod
from scaleinv.monitor.forecast import Forecast, outlook
from scaleinv.monitor.groups import Given, Group, Roster
from scaleinv.monitor.interval import LoggingInterval
from scaleinv.monitor.probe import StepCounter
from scaleinv.monitor.rates import Rates
from scaleinv.monitor.records import Alert, History, Record
from scaleinv.symmetry.result import Symmetries

if TYPE_CHECKING:
    import pandas


class MonitorState:
    """Base of :class:`scaleinv.Monitor`: its groups, its records, and the forecasts made of them."""

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], given: Given | None, every: int | None, keep: int
    ) -> None:
        self.model = model
        #: the optimizers whose steps are measured
        self.optimizers = tuple(optimizers)
        self.total_steps: int | None = None
        self.boundary: float | None = None
        #: the present epoch, if you tell it (``monitor.epoch = 3``); it goes into the run folder
        self.epoch: int | None = None
        self.alerts: list[Alert] = []
        #: learning rate and decay of the last record: of the total, then of each group
        self.rates: Sequence[Rates] = []
        #: whether the groups come from ``find_symmetries``: scale-invariant but for eps
        self.proved = isinstance(given, Symmetries)
        self._given = given
        self._roster = Roster.of(model, self.optimizers, given)
        self._interval = LoggingInterval(every)
        self._history = History(keep)
        self._journal = Journal()
        self._steps = StepCounter(len(self.optimizers))

    @property
    def every(self) -> int:
        """The present interval: every n-th step is logged."""
        return self._interval.every

    @property
    def step(self) -> int:
        """Optimizer steps seen (with several optimizers: rounds). Steps that GradScaler skips are none."""
        return self._steps.done

    @property
    def groups(self) -> list[Group]:
        """What is measured together: the scale-invariant groups first, then every other tensor by itself."""
        return self._roster.groups

    @property
    def records(self) -> Sequence[Record]:
        """Logged steps in memory, the oldest first."""
        return self._history.records

    def history(self) -> dict[str, Any]:
        """Give everything in memory as numpy columns of one length: ``step``, ``loss``, ``GROUP/QUANTITY``, ...

        Quantities: :mod:`scaleinv.monitor.quantities`. ``step`` counts the steps done before; NaN = not measured. The
        group ``total`` is all scale-invariant groups together; where none is known, all tensors.
        """
        self._collect(wait=True)
        return self._history.columns()

    def to_pandas(self) -> pandas.DataFrame:
        """Give :meth:`history` as a table with the step as index. Needs pandas."""
        try:
            import pandas
        except ImportError:
            raise UserError(
                "to_pandas() needs pandas: pip install pandas; history() gives numpy columns without it"
            ) from None
        return pandas.DataFrame(self.history()).set_index("step")

    def forecasts(self) -> list[Forecast]:
        """Forecast every scale-invariant group, and all of them together (:mod:`scaleinv.monitor.forecast`)."""
        self._collect(wait=True)
        return outlook(self._history, self._journal, self.groups, self.optimizers, self.rates)

    def breakdowns(self, group: str = "total") -> list[MonitoredPeriod]:
        """List the break-downs so far, each with the window told for it (:mod:`scaleinv.monitor.breakdowns`)."""
        self._collect(wait=True)
        return list(self._journal.of[group].periods) if group in self._journal.of else []

    def _collect(self, wait: bool) -> None:
        """Take what has arrived on the host; ``wait``: take all that was measured."""
        raise NotImplementedError

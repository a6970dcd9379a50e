"""Hold what a monitor has measured, and tell what follows from it: what its user, sinks and alerts read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.monitor.breakdowns import Journal, MonitoredPeriod
from scaleinv.monitor.forecast import Forecast, outlook
from scaleinv.monitor.groups import Given, Group, Roster, bare, clean, held
from scaleinv.monitor.interval import LoggingInterval
from scaleinv.monitor.measure import local
from scaleinv.monitor.probe import StepCounter
from scaleinv.monitor.quantities import QUANTITIES
from scaleinv.monitor.rates import Rates, Stated
from scaleinv.monitor.records import Alert, History, Record
from scaleinv.symmetry.result import Symmetries

if TYPE_CHECKING:
    import pandas


def _mark(optimizer: Optimizer) -> list[float]:
    """Note a few numbers of the weights of an optimizer, to tell later whether they have moved at all."""
    found: list[float] = []
    for p in held(optimizer)[:8]:
        found += local(p.detach()).reshape(-1)[:8].float().tolist()
    return found


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
        self._alerts: list[Alert] = []
        #: learning rate and decay of the last record: of the total, then of each group
        self.rates: Sequence[Rates] = []
        #: whether the groups come from ``find_symmetries``: scale-invariant but for eps
        self.proved = isinstance(given, Symmetries)
        #: names of groups whose weights something else than their optimizer has changed
        self.changed_outside: set[str] = set()
        #: further columns that were asked for
        self.extra: tuple[str, ...] = ()
        #: what was said of the optimizer instead of what its name says
        self.said = Stated()
        #: the scheduler that was given, or several, or a function of the step
        self.schedule: Any = None
        #: of every tensor where it is known: length of the optimizer's very first step, measured by predicted
        self.first_steps: dict[str, float] = {}
        self._marks = [_mark(one) for one in self.optimizers]
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
    def owners(self) -> dict[int, int]:
        """Map the id of each tensor to the place of its group."""
        return self._roster.owner

    @property
    def alerts(self) -> list[Alert]:
        """What it has said so far, the oldest first."""
        self._collect(wait=True)
        return self._alerts

    @property
    def records(self) -> Sequence[Record]:
        """Logged steps in memory, the oldest first."""
        self._collect(wait=True)
        return self._history.records

    def forgotten(self) -> list[str]:
        """Name the parameters of the model that ask for gradients and that none of the optimizers holds."""
        known = {id(p) for one in self.optimizers for p in held(one)}
        parameters = bare(self.model).named_parameters()
        return [clean(name) for name, p in parameters if p.requires_grad and id(p) not in known]

    def unseen(self) -> list[int]:
        """List the optimizers, by place, of which no step was seen, though others stepped or their weights moved."""
        return [
            i
            for i, seen in enumerate(self._steps.seen)
            if not seen and (self.step > 0 or _mark(self.optimizers[i]) != self._marks[i])
        ]

    def history(self) -> dict[str, Any]:
        """Give everything in memory as numpy columns of one length: ``step``, ``loss``, ``GROUP/QUANTITY``, ...

        Quantities: :mod:`scaleinv.monitor.quantities`. ``step`` counts the steps done before; NaN = not measured. The
        group ``total`` is all scale-invariant groups together; where none is known, all tensors.
        """
        self._collect(wait=True)
        return self._history.columns()

    def to_pandas(self, *, tidy: bool = False) -> pandas.DataFrame:
        """Give :meth:`history` as a table with the step as index. Needs pandas.

        ``tidy``: a row a number instead, with the columns ``step``, ``epoch``, ``group``, ``kind``, ``quantity`` and
        ``value``; what was not measured is left out, the loss is a quantity of the total.
        """
        try:
            import pandas
        except ImportError:
            raise UserError(
                "to_pandas() needs pandas: pip install pandas; history() gives numpy columns without it"
            ) from None
        if not tidy:
            return pandas.DataFrame(self.history()).set_index("step")
        self._collect(wait=True)
        kinds = {g.name: g.kind for g in self.groups}
        rows: list[tuple[Any, ...]] = []
        for record in self.records:
            if record.told:
                rows.append((record.step, record.epoch, "total", "total", "loss", record.loss))
            for name, values in zip(record.groups, record.values.tolist()):
                kind = "total" if name == "total" else kinds.get(name, "")
                rows += [(record.step, record.epoch, name, kind, q, v) for q, v in zip(QUANTITIES, values) if v == v]
        return pandas.DataFrame(rows, columns=["step", "epoch", "group", "kind", "quantity", "value"])

    def forecasts(self) -> list[Forecast]:
        """Forecast every scale-invariant group, and all of them together (:mod:`scaleinv.monitor.forecast`)."""
        self._collect(wait=True)
        return outlook(self._history, self._journal, self)

    def breakdowns(self, group: str = "total") -> list[MonitoredPeriod]:
        """List the break-downs so far, each with the window told for it (:mod:`scaleinv.monitor.breakdowns`)."""
        self._collect(wait=True)
        return list(self._journal.of[group].periods) if group in self._journal.of else []

    def _collect(self, wait: bool) -> None:
        """Take what has arrived on the host; ``wait``: take all that was measured."""
        raise NotImplementedError

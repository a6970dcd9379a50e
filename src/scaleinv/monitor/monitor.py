"""``Monitor``: measures a training loop of anybody's own, from hooks on the optimizer's step."""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.monitor.breakdowns import Journal
from scaleinv.monitor.extras import Extras, Numbers
from scaleinv.monitor.forces import Forces
from scaleinv.monitor.groups import FREE, Given, Roster, bare, held, parameter_names
from scaleinv.monitor.patience import Patience
from scaleinv.monitor.probe import StepProbe, agree, attach, steps_on_the_stack
from scaleinv.monitor.quantities import OPTIONAL
from scaleinv.monitor.rates import RateBook, Rates, Stated, engine, unwrap
from scaleinv.monitor.reading import Arrival, Reader, Reading, mean_loss
from scaleinv.monitor.records import Alert, History
from scaleinv.monitor.sinks import Sink
from scaleinv.monitor.sinks.open import Guard, open_sinks
from scaleinv.monitor.state import MonitorState
from scaleinv.monitor.summary import Summary
from scaleinv.monitor.watch import Watch
from scaleinv.symmetry import find_symmetries
from scaleinv.symmetry.outputs import Outputs
from scaleinv.symmetry.result import Symmetries
from scaleinv.text import count

_log = logging.getLogger("scaleinv")
#: logged steps that wait at most to be read together (an alert comes so many late), and seconds between two below which
#: they do so
TOGETHER, QUICK = 16, 6e-2
#: seconds after which steps that wait are read, also where the loop pauses
_LATEST = 1.0
#: rounds without a step of an optimizer, after which that is said
NO_STEP = 100


class Monitor(MonitorState):
    r"""Measure how fast each weight really turns, in a training loop of your own.

    It attaches itself to the optimizer's step by hooks and changes nothing: losses and weights are bit-identical with
    and without.

    Args:
        model: the model, also inside ``torch.compile``, DistributedDataParallel or ``fully_shard``.
        optimizer: the optimizer whose steps are measured, or several; a :class:`~scaleinv.Sphere` is one.
        inputs: a batch for the model. Given, ``find_symmetries(model, inputs)`` says which weights have no scale
            (seconds, once).
        outputs: with ``inputs``: which of the model's results count, as for ``find_symmetries``.
        groups: instead of ``inputs``, what is known: the result of ``find_symmetries``, or names or tensors, alone or
            in lists, or a mapping from names to such. All other tensors are measured too, one by one, as "scale
            unknown".
        every: log every n-th step. Default: the smallest of 1, 2, 5, 10, ... at which logging takes at most 1 % of
            the time (a run whose ``total_steps`` are known is logged 50 times all the same).
        sinks: where numbers go besides memory: a folder (string or path) for a run folder that ``scaleinv report``
            reads, a function of one dict, or sinks of :mod:`scaleinv.monitor.sinks`.
        keep: logged steps kept in memory.
        total_steps: length of the run, for the forecasts.
        boundary: an ELR known from a sweep at which training changes its regime; nearing it is an alert.
        law: ``sgd``, ``normalised`` or ``relative`` (:mod:`scaleinv.theory.rates`), or ``measured``: instead of what
            the name of the optimizer says.
        decay: ``coupled``, ``decoupled``, ``corrected``, ``independent``, ``cautious`` or ``none``, likewise
            (:mod:`scaleinv.theory.traits`).
        schedule: the learning-rate scheduler, or several, or a function from the step to the learning rate (or to a
            multiple of it): asked for the future by the forecasts. Default: torch's schedulers of these optimizers are
            found; without one the past is extrapolated.
        extra: more columns: ``update_rms`` (root mean square of the step's numbers), ``spectral`` (largest singular
            value of every matrix, by power iteration).

    Raises:
        UserError: an optimizer that holds no parameter of the model, unknown groups, a folder that cannot be written.

    Cost of a logged step: one copy of the weights while the step is taken, one transfer. Other steps: nothing but a
    counter.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> monitor = Monitor(model, optimizer, groups=["0.weight"], every=1)
    >>> _ = torch.nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.arange(16) % 2).backward()
    >>> optimizer.step()
    >>> column = monitor.history()
    >>> bool(abs(column["0.weight/elr"][0] * column["0.weight/rho"][0] ** 2 - 0.1) < 1e-6)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        inputs: Any = None,
        outputs: Outputs = None,
        groups: Given | None = None,
        every: int | None = None,
        sinks: Sink | str | PathLike[str] | Callable[..., Any] | Iterable[Any] = (),
        keep: int = 10_000,
        total_steps: int | None = None,
        boundary: float | None = None,
        law: str | None = None,
        decay: str | None = None,
        schedule: Any = None,
        extra: str | Iterable[str] = (),
    ) -> None:
        if not isinstance(model, nn.Module):
            raise UserError(f"Monitor(model, optimizer): the model is a {type(model).__name__}, not a torch.nn.Module")
        if isinstance(optimizer, Optimizer):
            given = [optimizer]
        else:
            given = list(optimizer) if isinstance(optimizer, Iterable) else [optimizer]
        for one in given:
            if not isinstance(one, Optimizer):
                raise UserError(
                    f"Monitor(model, optimizer): the optimizer is a {type(one).__name__}, not a torch.optim.Optimizer; "
                    "give the optimizer whose step() the loop calls, or a list of them"
                )
        said = Stated(law, decay)
        for name in (wanted := (extra,) if isinstance(extra, str) else tuple(extra)):
            if name not in OPTIONAL:
                raise UserError(f"extra={name!r}: choose from {', '.join(OPTIONAL)}")
        if every is not None and (not isinstance(every, int) or every < 1):
            raise UserError(f"every={every}: log every n-th step with a whole number n >= 1, or leave it out")
        if keep < 1:
            raise UserError(f"keep={keep}: keep at least 1 logged step in memory")
        optimizers, known = [unwrap(one) for one in given], parameter_names(model)
        if not any(id(p) in known for one in optimizers for p in held(one)):
            raise UserError(
                "the optimizer holds no parameter of this model; build it from model.parameters() of the same model"
            )
        if inputs is not None and groups is not None:
            raise UserError("give inputs or groups, not both: groups are found with the inputs")
        if outputs is not None and inputs is None:
            raise UserError("outputs says which results count where groups are found; give inputs with it")
        if inputs is not None:
            groups = find_symmetries(bare(model), inputs, outputs=outputs)
        if groups is not None and not isinstance(groups, (Symmetries, Mapping)):
            groups = list(groups)
        super().__init__(model, optimizers, groups, every, keep)
        self.extra = wanted
        self.said = said
        self.schedule = schedule
        self._book = RateBook(said)
        fresh = not any(engine(one).state for one in optimizers)
        self._extras, self._numbers = Extras(wanted, fresh), Numbers()
        self._forces = Forces(fresh)
        self.total_steps = total_steps
        self.boundary = boundary
        self.closed = False
        self._watch = Watch(self, self._extras.rows)
        self._depth = [0] * len(optimizers)  # hooked steps within one another: a subclass calls super().step()
        self._patience = Patience(optimizers)
        self._measured: list[tuple[StepProbe, dict[int, Rates]]] = []  # in this round
        self._open: dict[int, StepProbe] = {}  # between the two hooks
        self._losses: list[Tensor | float] = []  # told for the coming step
        self._waiting: deque[Arrival] = deque()
        self._reader = Reader(self._forces, self._book)
        self._reading, self._busy = threading.RLock(), False
        self._gathers = False  # the steps that wait do so for others to come
        self._timer: threading.Timer | None = None  # runs while steps wait
        self._last_logged = -math.inf
        self._spent = 0.0
        self._reading_cost = 0.0  # seconds to read a step of those read last
        self._last_end: float | None = None
        self._started = False
        self._sinks: list[Guard] = open_sinks(sinks, self)
        self._last = weakref.finalize(self, _hand_over, weakref.ref(self))  # for a monitor that nobody closes
        self._handles = attach(self.optimizers, self._before, self._after)

    # -- what a loop calls ---------------------------------------------------------------------------------------------

    def loss(self, loss: Tensor | float) -> None:
        """Tell the loss of the coming step, between the forward pass and ``optimizer.step()``; calls are averaged.

        It reads nothing from the device, and does nothing at all for a step that is not logged.
        """
        if self.closed:
            return
        if self._patience.told():  # a compiled step, or another optimizer has taken its place
            self._say(self._watch.no_step(self.step, range(len(self.optimizers)), self._patience.losses))
        elif (self._open or self._steps.any_due()) and not self._patience.ended:
            self._losses.append(loss.detach() if isinstance(loss, Tensor) else float(loss))

    def summary(self) -> Summary:
        """Say what the numbers mean, the answer first; prints as a table, shows itself in a notebook."""
        self._collect(wait=True)
        return Summary.of(self)

    def close(self) -> None:
        """Take the hooks off, hand over what is measured, close the sinks. The history stays; a second call is free."""
        if not self.closed:
            self._collect(wait=True)
            self._end()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Give history, step count, interval and alerts in a form that ``torch.load(weights_only=True)`` reads.

        What was measured is put on the disk, too, so that a run resumed from here lacks no rows.
        """
        self._collect(wait=True)
        for sink in self._sinks:
            sink.flush()
        return {
            "step": self.step,
            "every": self._interval.every,
            "history": self._history.state_dict(),
            "alerts": [alert.to_dict() for alert in self.alerts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where :meth:`state_dict` was taken: also in the run folder that this monitor or an earlier one wrote,
        whose rows of later steps are left out.
        """
        self._collect(wait=True)
        try:
            step, every, alerts = int(state["step"]), int(state["every"]), [Alert.of(a) for a in state["alerts"]]
            self._history.load_state_dict(state["history"])
        except (KeyError, TypeError) as error:
            raise UserError(f"this is not the state of a Monitor: {error!r}") from error
        if not self._interval.given:
            self._interval.every = every
        self._start(step, resumed=True)
        self._steps.restart(step, self._interval.every)
        self._drop()
        self._forces.forget()
        self._extras.forget()
        self._journal = Journal()  # what is in memory is read again; break-downs before that are forgotten
        for record in self._history.records:
            self._journal.take(record)
        self._alerts[:] = alerts
        self._watch.told(alerts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Monitor:
        """Copy the history into a closed monitor: the copy measures nothing, since its optimizer is this one's."""
        twin = object.__new__(Monitor)
        memo[id(self)] = twin
        self._collect(wait=True)
        twin.__dict__.update(self.__dict__)
        twin._history = History(self._history.records.maxlen or 1)
        twin._history.records.extend(self._history.records)
        twin._history.rates.extend(self._history.rates)
        twin._alerts = list(self._alerts)
        twin._handles, twin._sinks, twin.closed = [], [], True
        twin._reading, twin._busy, twin._timer = threading.RLock(), False, None
        twin._open, twin._measured, twin._losses, twin._waiting, twin._numbers = {}, [], [], deque(), Numbers()
        return twin

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"every {self.every}"
        free = sum(g.kind == FREE for g in self.groups)
        groups, logged = count(len(self.groups), "group"), count(len(self._history), "step")
        return f"Monitor({groups}, {free} scale-invariant; {logged} logged, {state})"

    # -- the hooks -----------------------------------------------------------------------------------------------------

    def _before(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        depth = self._depth[index]
        if depth and depth < steps_on_the_stack(self.optimizers[index]):
            self._depth[index] = depth + 1
            return None  # the step of a base class within a step
        self._depth[index] = 1  # also where a step has ended in an exception
        if index in self._steps.stepped:
            self._finish_round()
        if not self._steps.is_due(index):
            return None
        if not self._started:
            self._start(self.step, resumed=False)
        begin = time.perf_counter()
        try:
            if not self._roster.is_of(self.optimizers):
                self._collect(wait=True)  # with the groups of their time
                self._roster = Roster.of(self.model, self.optimizers, self._given)
            optimizer = self.optimizers[index]
            mine = held(optimizer)
            if len(self.optimizers) > 1:  # a tensor that two optimizers hold is measured by the one that steps first
                taken = {id(t) for probe, _ in self._measured for t in probe.tensors}
                mine = [t for t in mine if id(t) not in taken]
            probe = StepProbe(optimizer, list({id(t): t for t in mine}.values()))
            self._steps.measured(index, self._interval.every)
            self._open[index] = probe
            self._extras.before(probe, self._numbers)
            return probe.before(args, kwargs)
        except Exception as error:  # a monitor must not end the training it watches
            self._give_up(error)
            return None
        finally:
            self._spent += time.perf_counter() - begin

    def _after(self, index: int) -> None:
        self._depth[index] -= 1
        if self._depth[index] > 0:
            return
        self._patience.stepped()
        probe = self._open.pop(index, None)
        optimizer = self.optimizers[index]
        if self._steps.skips(optimizer):
            self._losses.clear()
            probe = None
        if probe is not None:
            begin = time.perf_counter()
            try:
                first = not self._steps.seen[index]
                self._extras.after(probe, index, first, self._book, self._roster, self._numbers)
                probe.after()
                self._measured.append((probe, self._book.rates(optimizer)))
                if probe.loss is not None and not self._losses:
                    self._losses.append(probe.loss)
            except Exception as error:
                self._give_up(error)
            self._spent += time.perf_counter() - begin
        if self._steps.took(index):
            self._finish_round()

    def _finish_round(self) -> None:
        steps = self._steps
        steps.stepped.clear()
        if not (self._measured or self._waiting or self._losses or self._numbers.keys):  # a round that is not logged
            self._count_round()
            if not self._interval.given:
                self._tell_interval(time.perf_counter(), self._spent)
            return
        begin, reading = time.perf_counter(), 0.0
        measured, losses, numbers = self._measured, self._losses, self._numbers
        self._drop()
        try:
            if measured:
                step = steps.round - steps.skipped
                arrival = Arrival(
                    step,
                    self.epoch,
                    measured,
                    mean_loss(losses),
                    steps.late,
                    self._roster,
                    numbers,
                    self.optimizers,
                    self.extra,
                )
                self._waiting.append(arrival)
            if measured:
                self._gathers = self._may_wait(begin)
            if self._waiting and not self._gathers:
                count, start = len(self._waiting), time.perf_counter()
                self._collect(wait=False)
                reading = time.perf_counter() - start
                self._reading_cost = reading / count
        except Exception as error:
            self._give_up(error)
        self._count_round()
        if self._interval.given:
            return
        end = time.perf_counter()
        spent = self._spent + end - begin
        self._tell_interval(end, spent)
        # each logged step costs its share of the reading
        if measured and self._interval.logged(spent - reading + self._reading_cost):
            self._interval.every = agree(self._interval.choice(self.total_steps), self._roster.tensors)
            steps.reschedule(self._interval.every)

    def _tell_interval(self, end: float, spent: float) -> None:
        """Take the end of a round, of which ``spent`` seconds went to logging."""
        if self._last_end is not None:
            self._interval.step(end - self._last_end - spent)
        self._spent, self._last_end = 0.0, end

    def _count_round(self) -> None:
        steps = self._steps
        steps.round += 1
        if steps.round in (NO_STEP, 10 * NO_STEP) and not all(steps.seen):
            self._say(self._watch.no_step(self.step, [i for i, n in enumerate(steps.seen) if not n], steps.round))

    def _may_wait(self, now: float) -> bool:
        """Tell whether the step just logged may be read with the next ones: those come at once, and few wait."""
        quick, self._last_logged = now - self._last_logged < QUICK, now
        if not quick or self._waiting[-1].urgent or len(self._waiting) >= TOGETHER:
            return False
        if self._sinks:  # they get every row at once
            return False
        if self._timer is None:
            self._timer = threading.Timer(_LATEST, _read_late, (weakref.ref(self),))
            self._timer.daemon = True
            self._timer.start()
        return True

    def _collect(self, wait: bool) -> None:
        if not self._waiting or not self._reading.acquire(blocking=wait):
            return
        if self._busy:  # asked by a rule or a sink that is being told
            self._reading.release()
            return
        self._busy = True
        try:
            here = []
            while self._waiting and self._waiting[0].ready(wait):
                here.append(self._waiting.popleft())
            if here:
                self._take(self._reader.read(here))
        finally:
            self._busy = False
            self._reading.release()

    def _take(self, readings: Sequence[Reading]) -> None:
        for reading, unusual in zip(readings, self._watch.expect(readings)):
            record, self.rates = reading.record, reading.rates
            self.first_steps.update(reading.firsts)
            self._history.append(record, self.rates)
            for sink in self._sinks:
                sink.take(record)
            window = self._journal.of["total"].window() if self._journal.take(record) else None
            self._say(self._watch.look(reading, window, unusual))

    def _say(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self._alerts.append(alert)
            _log.log(logging.INFO if alert.severity == "note" else logging.WARNING, "%s", alert)
            for sink in self._sinks:
                sink.alert(alert)

    def _drop(self) -> None:
        self._measured, self._losses, self._numbers = [], [], Numbers()
        self._open.clear()

    def _start(self, step: int, resumed: bool) -> None:
        """Ask the sinks whether they can take what is to come; a user's mistake ends the training before it begins."""
        try:
            for sink in self._sinks:
                sink.start(step, resumed)
        except BaseException:
            self._end()
            raise
        self._started = True

    def _give_up(self, error: Exception) -> None:
        self._end()
        warnings.warn(
            f"scaleinv.Monitor stopped measuring at step {self._steps.round}, training goes on: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )

    def _end(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.closed = True
        self._drop()
        if self._timer is not None:
            self._timer.cancel()
        self._last.detach()
        for sink in self._sinks:
            sink.close()


def _read_late(ref: weakref.ref[Monitor]) -> None:
    """Read the steps that wait, in a thread of its own: the loop may pause now, for an evaluation say."""
    monitor = ref()
    if monitor is not None:
        monitor._timer = None
        if not monitor.closed:
            try:
                monitor._collect(wait=False)
            except Exception as error:
                monitor._give_up(error)


def _hand_over(ref: weakref.ref[Monitor]) -> None:
    """Hand over what is measured to the sinks, and have them write it: the process ends."""
    monitor = ref()
    if monitor is not None and not monitor.closed:
        monitor._collect(wait=True)
        for sink in monitor._sinks:
            sink.flush()

"""``Monitor``: two lines in anybody's training loop."""

from __future__ import annotations

import logging
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.monitor.alerts import Alert, Watch
from scaleinv.monitor.groups import FREE, Given, Group, bare, held, make_groups, parameter_names
from scaleinv.monitor.history import History, Record
from scaleinv.monitor.interval import Interval
from scaleinv.monitor.measure import SUMS
from scaleinv.monitor.probe import Probe, shard_groups, to_host
from scaleinv.monitor.quantities import QUANTITIES, Rates, common, derive
from scaleinv.monitor.rates import engine, rates, unwrap
from scaleinv.monitor.sinks import Sink, open_sinks
from scaleinv.monitor.summary import Summary

if TYPE_CHECKING:
    import pandas

    from scaleinv.monitor.forecast import Forecast
    from scaleinv.monitor.sinks.base import Guard

_log = logging.getLogger("scaleinv")
#: logged steps that forecasts look at
_LOOK = 512
_HAS_G = [SUMS.index(name) for name in ("gg", "gw", "gd")]


class _Hook:
    """What an optimizer holds of a monitor. A copy of the optimizer gets a hook that does nothing."""

    def __init__(self, call: Callable[..., Any] | None) -> None:
        self.call = call

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        return None if self.call is None else self.call(args, kwargs)

    def __deepcopy__(self, memo: Any) -> _Hook:
        return _Hook(None)

    def __reduce__(self) -> Any:
        return _Hook, (None,)


class _Waiting:
    """A logged step whose numbers are on their way to the host."""

    def __init__(
        self,
        step: int,
        epoch: int | None,
        probes: list[tuple[Probe, dict[int, Rates]]],
        loss: Tensor | None,
        skipped: Tensor | None,
    ) -> None:
        self.step, self.epoch = step, epoch
        self.tensors = [(t, has) for probe, _ in probes for t, has in zip(probe.tensors, probe.has_gradient)]
        self.rates = {key: rate for _, found in probes for key, rate in found.items()}
        parts = [probe.sums.reshape(-1) for probe, _ in probes if probe.sums is not None]
        self.told = loss is not None
        if loss is not None:
            parts.append(loss.to(parts[0].dtype).reshape(1))
        self.counted = skipped is not None
        if skipped is not None:
            parts.append(skipped.to(parts[0].dtype))
        self.host, self.event = to_host(parts)

    def ready(self, wait: bool) -> bool:
        if self.event is None:
            return True
        if wait:
            self.event.synchronize()
        return bool(self.event.query())


class Monitor:
    r"""Measure how fast each weight really turns, in a training loop of your own.

    It attaches itself to the optimizer's step by hooks and changes nothing: losses and weights are bit-identical with
    and without.

    Args:
        model: the model, also inside ``torch.compile``, DistributedDataParallel or ``fully_shard``.
        optimizer: the optimizer whose steps are measured, or several; a :class:`~scaleinv.Sphere` is one.
        inputs: a batch for the model. Given, ``find_symmetries(model, inputs)`` says which weights have no scale
            (seconds, once).
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

    Raises:
        UserError: an optimizer that holds no parameter of the model, unknown groups, a folder that cannot be written.

    Cost of a logged step: one copy of the weights while the step is taken, one transfer. Other steps: nothing but a
    counter.

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
        groups: Given | None = None,
        every: int | None = None,
        sinks: Sink | str | PathLike[str] | Callable[..., Any] | Iterable[Any] = (),
        keep: int = 10_000,
        total_steps: int | None = None,
        boundary: float | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise UserError(f"Monitor(model, optimizer): the model is a {type(model).__name__}, not a torch.nn.Module")
        given = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        for one in given:
            if not isinstance(one, Optimizer):
                raise UserError(
                    f"Monitor(model, optimizer): the optimizer is a {type(one).__name__}, not a torch.optim.Optimizer"
                )
        if every is not None and (not isinstance(every, int) or every < 1):
            raise UserError(f"every={every}: log every n-th step with a whole number n >= 1, or leave it out")
        if keep < 1:
            raise UserError(f"keep={keep}: at least one logged step is kept in memory")
        self.model = model
        self._optimizers = [unwrap(one) for one in given]
        known = parameter_names(model)
        if not self._optimizers or not any(id(p) in known for one in self._optimizers for p in held(one)):
            raise UserError(
                "the optimizer holds no parameter of this model; build it from model.parameters() of the same model"
            )
        if inputs is not None and groups is not None:
            raise UserError("give inputs or groups, not both: groups are found with the inputs")
        if inputs is not None:
            from scaleinv.symmetry import find_symmetries

            groups = find_symmetries(bare(model), inputs)
        self._given = (
            groups if groups is None or hasattr(groups, "verdict") or isinstance(groups, Mapping) else list(groups)
        )
        self.groups: list[Group] = []
        self._known_tensors: list[Tensor] = []
        self._names: dict[int, str] = {}
        self._regroup()
        self._interval = Interval(every)
        self._history = History(keep)
        self.total_steps = total_steps
        self.boundary = boundary
        self._watch = Watch(self)
        self.alerts: list[Alert] = []
        #: the present epoch, if you tell it (``monitor.epoch = 3``); it goes into the run folder
        self.epoch: int | None = None
        self._round = 0
        self._skipped = 0
        self._late: Tensor | None = None  # skipped steps that were counted on the device
        self._stepped: set[int] = set()
        self._measured: list[tuple[Probe, dict[int, Rates]]] = []
        self._open: dict[int, Probe] = {}
        self._losses: list[Tensor | float] = []
        self._waiting: deque[_Waiting] = deque()
        self._spent = 0.0
        self._last_end: float | None = None
        self._closed = False
        self._first_bad = ""
        self._rates: list[Rates] = []
        self._sinks: list[Guard] = open_sinks(sinks, self)
        self._handles = []
        for i, one in enumerate(self._optimizers):
            before = _Hook(lambda args, kwargs, i=i: self._before(i, args, kwargs))
            after = _Hook(lambda args, kwargs, i=i: self._after(i))
            self._handles += [one.register_step_pre_hook(before), one.register_step_post_hook(after)]

    # -- what a loop calls ---------------------------------------------------------------------------------------------

    def loss(self, loss: Tensor | float) -> None:
        """Tell the loss of the coming step (between the forward pass and ``optimizer.step()``); several calls are
        averaged.

        Nothing is read from the device here, and nothing is done at all for a step that is not logged.
        """
        if not self._closed and self._logged_now():
            self._losses.append(loss.detach() if isinstance(loss, Tensor) else float(loss))

    @property
    def every(self) -> int:
        """The present interval: every n-th step is logged."""
        return self._interval.every

    @property
    def step(self) -> int:
        """Optimizer steps seen (with several optimizers: rounds). Steps that GradScaler skips are none."""
        return self._round - self._skipped - (0 if self._late is None else int(self._late[1]))

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers whose steps are measured."""
        return tuple(self._optimizers)

    def history(self) -> dict[str, Any]:
        """Everything in memory as numpy columns of one length: ``step``, ``loss``, ``total/rho``, ``GROUP/QUANTITY``,
        ...

        Quantities: :mod:`scaleinv.monitor.quantities`. ``step`` counts the steps done before; NaN = not measured.
        ``total`` is all scale-invariant groups together; where none is known, all tensors.
        """
        self._collect(wait=True)
        return self._history.columns()

    def to_pandas(self) -> pandas.DataFrame:
        """:meth:`history` as a table with the step as index. Needs pandas."""
        try:
            import pandas
        except ImportError:
            raise UserError(
                "to_pandas() needs pandas: pip install pandas; history() gives numpy columns without it"
            ) from None
        return pandas.DataFrame(self.history()).set_index("step")

    def forecasts(self) -> list[Forecast]:
        """What is to come for every scale-invariant group and for all together; see :mod:`scaleinv.monitor.forecast`.
        """
        from scaleinv.monitor.forecast import forecast

        self._collect(wait=True)
        part = History(_LOOK)
        part.records.extend(self._history.records)
        if not len(part):
            return []
        cube, names = part.cube(), part.groups
        steps = np.array([r.step for r in part.records], np.float64)
        holder: dict[int, tuple[Optimizer, dict[str, Any]]] = {}
        for one in self._optimizers:
            for options in engine(one).param_groups:
                holder.update(dict.fromkeys(map(id, options["params"]), (one, options)))
        found = []
        for i, g in enumerate(self.groups, start=1):
            mine = [holder[id(t)] for t in g.tensors if id(t) in holder]
            if not g.scale_free or not mine or any(m[1] is not mine[0][1] for m in mine):
                continue
            if g.name not in names:
                continue  # not logged yet
            numbers = dict(zip(QUANTITIES, cube[:, names.index(g.name)].T))
            optimizer, options = mine[0]
            size = sum(t.numel() for t in g.tensors)
            found.append(forecast(g.name, {"step": steps, **numbers}, optimizer, options, size, self._rates[i].law))
        return found

    def summary(self) -> Summary:
        """What the numbers say, the answer first; prints as a table, shows itself in a notebook."""
        self._collect(wait=True)
        return Summary.of(self)

    def close(self) -> None:
        """Take the hooks off, hand over what is measured, close the sinks. The history stays readable; a second call
        does nothing.
        """
        if self._closed:
            return
        self._collect(wait=True)
        self._detach()
        for sink in self._sinks:
            sink.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """History, step count, interval and alerts; plain enough for ``torch.load(weights_only=True)``."""
        self._collect(wait=True)
        return {
            "step": self.step,
            "every": self._interval.every,
            "history": self._history.state_dict(),
            "alerts": [alert.to_dict() for alert in self.alerts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        try:
            step, every, alerts = int(state["step"]), int(state["every"]), [Alert(**a) for a in state["alerts"]]
            self._history.load_state_dict(state["history"])
        except (KeyError, TypeError) as error:
            raise UserError(f"this is not the state of a Monitor: {error!r}") from error
        if not self._interval.given:
            self._interval.every = every
        self._round, self._skipped, self._late = step, 0, None
        self._stepped.clear()
        self._drop()
        self.alerts[:] = alerts
        self._watch.told(alerts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Monitor:
        """A closed snapshot of the history: the copy measures nothing, since its optimizer is this one's."""
        twin = object.__new__(Monitor)
        memo[id(self)] = twin
        self._collect(wait=True)
        twin.__dict__.update(self.__dict__)
        twin._history = History(self._history.records.maxlen or 1)
        twin._history.records.extend(self._history.records)
        twin.alerts = list(self.alerts)
        twin._handles, twin._sinks, twin._closed = [], [], True
        twin._open, twin._measured, twin._losses, twin._waiting = {}, [], [], deque()
        return twin

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"every {self.every}"
        free = sum(g.kind == FREE for g in self.groups)
        return f"Monitor({len(self.groups)} groups, {free} scale-invariant; {len(self._history)} steps logged, {state})"

    # -- the hooks
    # ------------------------------------------------------------------------------------------------------

    def _logged_now(self) -> bool:
        return self._round % self._interval.every == 0

    def _before(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if index in self._stepped:
            self._finish_round()
        if not self._logged_now():
            return None
        begin = time.perf_counter()
        try:
            self._update_tensors()
            optimizer = self._optimizers[index]
            mine = held(optimizer)
            if len(self._optimizers) > 1:  # a tensor that two optimizers hold is measured by the one that steps first
                taken = {id(t) for probe, _ in self._measured for t in probe.tensors}
                mine = [t for t in mine if id(t) not in taken]
            probe = Probe(optimizer, list({id(t): t for t in mine}.values()))
            self._open[index] = probe
            return probe.before(args, kwargs)
        except Exception as error:  # a monitor must not end the training it watches
            self._give_up(error)
            return None
        finally:
            self._spent += time.perf_counter() - begin

    def _after(self, index: int) -> None:
        probe = self._open.pop(index, None)
        optimizer = self._optimizers[index]
        found = getattr(
            optimizer, "found_inf", None
        )  # GradScaler tells a fused optimizer; others it does not call at all
        if isinstance(found, Tensor):
            if _on_host(found):
                if bool(found):
                    self._skipped += 1  # the round below counts it
                    self._losses.clear()
                    probe = None
            else:  # not to wait for the device: (is this step skipped, how many were so far), read with the sums
                before = 0.0 if self._late is None else self._late[1]
                self._late = torch.stack([found.detach().reshape(()), found.detach().reshape(()) + before])
        if probe is not None:
            begin = time.perf_counter()
            try:
                probe.after()
                self._measured.append((probe, rates(optimizer)))
                if probe.loss is not None and not self._losses:
                    self._losses.append(probe.loss)
            except Exception as error:
                self._give_up(error)
            self._spent += time.perf_counter() - begin
        self._stepped.add(index)
        if len(self._stepped) == len(self._optimizers):
            self._finish_round()

    def _finish_round(self) -> None:
        begin = time.perf_counter()
        measured, losses = self._measured, self._losses
        self._drop()
        self._stepped.clear()
        try:
            if measured:
                self._waiting.append(
                    _Waiting(self._round - self._skipped, self.epoch, measured, _mean(losses), self._late)
                )
            if self._waiting:
                self._collect(wait=False)
        except Exception as error:
            self._give_up(error)
        self._round += 1
        if self._interval.given:
            return
        end = time.perf_counter()
        spent = self._spent + end - begin
        if self._last_end is not None:
            self._interval.step(end - self._last_end - spent)
        self._spent, self._last_end = 0.0, end
        if measured and self._interval.logged(spent):
            self._interval.every = self._agreed(self._interval.choice(self.total_steps))

    def _drop(self) -> None:
        self._measured, self._losses = [], []
        self._open.clear()

    def _agreed(self, every: int) -> int:
        """One interval for all processes where a logged step needs all of them (sharded weights)."""
        if not any(shard_groups(t) for t in self._known_tensors):
            return every
        device = next(t.device for t in self._known_tensors if shard_groups(t))
        largest = torch.tensor([every], device=device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def _give_up(self, error: Exception) -> None:
        self._detach()
        warnings.warn(
            f"scaleinv.Monitor stopped measuring at step {self._round}, training goes on: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._closed = True
        self._drop()

    # -- on the host
    # ----------------------------------------------------------------------------------------------------

    def _update_tensors(self) -> None:
        present = [p for one in self._optimizers for p in held(one)]
        if len(present) != len(self._known_tensors) or any(a is not b for a, b in zip(present, self._known_tensors)):
            self._regroup()

    def _regroup(self) -> None:
        self._known_tensors = [p for one in self._optimizers for p in held(one)]
        self.groups = make_groups(self.model, self._known_tensors, self._given)
        self._names = parameter_names(self.model)
        self._owner = {id(t): i for i, g in enumerate(self.groups) for t in g.tensors}
        self._titles = ("total", *(g.name for g in self.groups))
        self._in_total = [g.scale_free for g in self.groups]
        self._any_free = any(self._in_total)

    def _collect(self, wait: bool) -> None:
        """Take what has arrived on the host."""
        while self._waiting and self._waiting[0].ready(wait):
            self._record(self._waiting.popleft())

    def _record(self, arrived: _Waiting) -> None:
        numbers = [h.numpy() for h in arrived.host]
        step = arrived.step
        if arrived.counted:
            skipped, so_far = numbers.pop()
            if skipped:
                return
            step -= int(so_far)
        loss = float(numbers.pop()[0]) if arrived.told else float("nan")
        sums = np.concatenate(numbers).astype(np.float64).reshape(-1, len(SUMS))
        count = len(self.groups)
        owner = np.array([self._owner[id(t)] for t, _ in arrived.tensors])
        has = np.array([h for _, h in arrived.tensors], bool)
        self._first_bad = self._find_bad(arrived, sums, has)
        sums[np.ix_(~has, np.array(_HAS_G))] = 0.0
        grouped, seen, slopes = np.zeros((count + 1, len(SUMS))), np.zeros(count + 1, int), np.zeros(count + 1, int)
        np.add.at(grouped[1:], owner, sums)
        np.add.at(seen[1:], owner, 1)
        np.add.at(slopes[1:], owner, has)
        chosen = [i for i in range(count) if seen[i + 1] and (self._in_total[i] or not self._any_free)]
        grouped[0] = grouped[1:][chosen].sum(axis=0)
        slopes[0] = slopes[1:][chosen].sum()
        grouped[np.ix_(slopes == 0, np.array(_HAS_G))] = np.nan
        rate_of = [[arrived.rates[id(t)] for t in g.tensors if id(t) in arrived.rates] for g in self.groups]
        none = [Rates(float("nan"), float("nan"), "measured")]
        merged = [common(r or none) for r in rate_of]
        merged.insert(0, common([merged[i] for i in chosen] or none))
        values = derive(grouped, merged, [self._any_free, *self._in_total])
        # of a group that only some optimizers of this round have moved, nothing is known
        whole = [True, *(seen[i + 1] == len(g.tensors) for i, g in enumerate(self.groups))]
        values[~np.array(whole)] = np.nan
        record = Record(step, arrived.epoch, loss, self._titles, values, arrived.told)
        self._history.records.append(record)
        self._rates = merged
        for sink in self._sinks:
            sink.take(record)
        for alert in self._watch.look(record, merged):
            self.alerts.append(alert)
            _log.warning("%s", alert)
            for sink in self._sinks:
                sink.alert(alert)

    def _find_bad(self, arrived: _Waiting, sums: Any, has: Any) -> str:
        """The first tensor, in the order of the model, with a gradient or a weight that is not finite."""
        gradient = has & ~np.isfinite(sums[:, SUMS.index("gg")])
        weight = ~np.isfinite(sums[:, SUMS.index("ww")]) | ~np.isfinite(sums[:, SUMS.index("dw")])
        if not (gradient | weight).any():
            return ""
        order = {key: i for i, key in enumerate(self._names)}
        bad = sorted(np.flatnonzero(gradient | weight), key=lambda i: order.get(id(arrived.tensors[i][0]), len(order)))
        first = bad[0]
        what = "gradient" if gradient[first] else "weight"
        return f"{what} of {self._names.get(id(arrived.tensors[first][0]), 'a tensor outside the model')}"


def _on_host(tensor: Tensor) -> bool:
    """Whether reading the tensor waits for no device."""
    return tensor.device.type == "cpu"


def _mean(losses: Sequence[Tensor | float]) -> Tensor | None:
    if not losses:
        return None
    tensors = [x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64) for x in losses]
    device = tensors[0].device
    exact = torch.float32 if device.type == "mps" else torch.float64
    return torch.stack([x.to(device, exact).mean() for x in tensors]).mean()

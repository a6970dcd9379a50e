"""Forecast a scale-invariant group: equilibrium, phase, and when large steps are possible and certain.

The formulas are those of :mod:`scaleinv.theory`; this file says which of them apply to an optimizer and feeds them
with what was measured. A number is NaN where no formula applies; ``why`` says which condition fails.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.monitor.breakdowns import Journal, Window
from scaleinv.monitor.groups import Group
from scaleinv.monitor.quantities import QUANTITIES
from scaleinv.monitor.rates import Rates, Stated, engine
from scaleinv.monitor.records import History
from scaleinv.monitor.schedule import STEADY, Ahead, look_ahead
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of
from scaleinv.theory import Equilibrium, OutsideConditions, kosson2024, lobacheva2021, rates
from scaleinv.theory.traits import Measured, OptimizerTraits

Array = npt.NDArray[np.float64]
NAN = float("nan")
#: logged steps that a statement about the present rests on
WINDOW = 32
#: fewer say nothing
FEWEST = 8
#: logged steps that give the bounds of the effective gradient norm
LOOK = 512
#: equilibrium is reached when rho^2 is within this share of its value there
NEAR = 0.1
#: of the effective gradient norm in the window: its lower and upper bound l and L
PERCENTILES = (1.0, 99.0)
#: a turn of so many times the equilibrium rotation counts as a break-down
BREAK = 4.0
Phase = Literal["A", "B", "C", "steady", ""]


class Monitored(Protocol):
    """What forecasts ask of a monitor (:class:`scaleinv.monitor.state.MonitorState`)."""

    optimizers: tuple[Optimizer, ...]
    total_steps: int | None
    rates: Sequence[Rates]
    changed_outside: set[str]
    said: Stated
    schedule: Any

    @property
    def groups(self) -> list[Group]:
        """What is measured together."""

    @property
    def step(self) -> int:
        """Steps done."""


@dataclass(frozen=True)
class Forecast:
    """The forecast of one group. Angles in radians a step, times in steps from now, ``rho`` in units of the weights."""

    group: str
    angle: float  # measured, RMS over the window
    rho: float  # measured, last
    elr: float
    phase: Phase  # A rho grows, B rho shrinks and the ELR grows, C break-down, steady, "" too little seen
    growth: float  # of log rho, per step
    equilibrium_angle: float = NAN  # RMS over the window, at the learning rate and decay of each row
    equilibrium_rho: float = NAN
    equilibrium_elr: float = NAN
    time_scale: float = NAN
    time_to_equilibrium: float = NAN
    jump_angle: float = NAN  # the step the window below speaks of
    t_min: float = NAN  # no step of that size before, if l <= eg <= L
    t_max: float = NAN  # one by then
    break_angle: float = NAN  # a break-down: BREAK times the equilibrium rotation in one step
    break_earliest: float = NAN  # no break-down before, if l <= eg <= L
    low: float = NAN  # l
    high: float = NAN  # L
    breakdowns: int = 0  # seen so far
    window: Window | None = None  # for the next one, from those before (scaleinv.monitor.breakdowns)
    why: str = ""  # what is missing, and why
    schedule: str = ""  # where the learning rate to come is known from; empty: it is taken as it is now


def forecast(
    group: str,
    columns: Mapping[str, Array],
    optimizer: Optimizer,
    options: Mapping[str, Any],
    size: int,
    law: str,
    *,
    traits: OptimizerTraits | None = None,
    ahead: Ahead = STEADY,
    outside: bool = False,
    sides: tuple[int, int] | None = None,
) -> Forecast:
    """Forecast a group from its last logged steps (``columns``: step, rho, eg, elr, angle, tangential ...) and the
    options of its param group.

    Predictions are made row by row, at the learning rate and the decay (column ``wd``) of the row, and compared with
    what was measured in the same rows.  ``traits``: of the param group, if they are not those of its name.  ``ahead``:
    the learning rate to come.  ``outside``: something else than the optimizer changes the weights.
    ``sides``: of its largest matrix.
    """
    long = columns["eg"]  # all that is given: l and L should know the last break-down
    last = min(WINDOW, max(FEWEST, len(columns["step"]) // 2))  # not the start of the run
    columns = {name: column[-last:] for name, column in columns.items()}
    step, rho, eg, angle = (columns[name] for name in ("step", "rho", "eg", "angle"))
    now, elr, lr = (float(columns[name][-1]) if len(rho) else NAN for name in ("rho", "elr", "lr"))
    growth, sure = slope(step, rho)
    base = Forecast(group, _rms(angle), now, elr, phase_of(angle, growth, sure, len(rho)), growth, schedule=ahead.told)
    if outside:
        return replace(base, phase="", why="its weights are changed between steps by something else than the optimizer")
    whole = float(options.get("weight_decay", 0.0) or 0.0)
    decays = columns["wd"] if "wd" in columns else np.full(len(rho), whole)
    wd = float(decays[-1]) if len(rho) else NAN
    if wd > 0 and np.isfinite(decays).all() and (weights := columns["lr"][np.isfinite(columns["lr"])]).sum() > 0:
        # the norm remembers more than a window: of a decay that changes from step to step the mean acts
        wd = float(np.sum(columns["lr"] * decays) / weights.sum()) if len(weights) == len(decays) else wd
        decays = np.full(len(decays), wd)
    if isinstance(optimizer, Sphere):
        return replace(base, why="on a sphere the norm is fixed: the ELR alone sets the angle")
    if not wd > 0:
        if not whole and np.isfinite(rho).any() and growth < 0 and sure >= 5:
            return replace(base, why="no weight decay, yet the norm falls")
        return replace(base, why="no weight decay: the norm only grows, there is no equilibrium")
    if not (math.isfinite(now) and lr > 0 and 0 < lr * wd < 1):
        return replace(base, why=f"no forecast for rho {now:g}, lr {lr:g}, weight decay {wd:g}")
    good = np.isfinite(eg) & (eg > 0)
    pull = float(np.sqrt(np.mean(eg[good] ** 2))) if good.sum() >= FEWEST else NAN
    known = Measured(eg=pull, dimension=max(size, 2), update=_update_norm(columns, lr, wd), sides=sides)
    traits = traits_of(engine(optimizer), options) if traits is None else traits

    def rest_at(lr: float, wd: float) -> Equilibrium | None:
        if traits.equilibrium is None or not 0 < lr * wd < 1:
            return None
        return traits.equilibrium(options, lr, wd, known)

    at = rest_at(lr, wd)
    if at is None:
        return replace(base, why=f"no equilibrium formula for {type(engine(optimizer)).__name__} as it is set")
    rest = float(at.norm)
    elr_rest = float(rates.elr(lr, rest, law)) if rest > 0 and law in rates.LAWS else NAN
    scale = float(at.time_scale)
    if ahead.constant:
        left = _time_left(now, rest, scale, at.power)
    else:
        left = _time_on_the_way(now, lr, wd, ahead, rest_at)
    turns = [rest_at(float(a), float(b)) for a, b in _spread(columns["lr"], decays)]
    measured, turn = _rms(angle), _rms(np.array([float(t.angle) for t in turns if t is not None]))
    filled = replace(
        base, angle=measured, equilibrium_angle=turn, equilibrium_rho=rest, equilibrium_elr=elr_rest, time_scale=scale,
        time_to_equilibrium=left,
    )  # fmt: skip
    if at.law != "sgd":
        return replace(filled, why="the window of large steps is known for SGD without momentum only")
    if good.sum() < FEWEST:
        return replace(filled, why=f"the window of large steps needs {FEWEST} logged gradients")
    low, high = (float(x) for x in np.percentile(long[np.isfinite(long) & (long > 0)], PERCENTILES))
    return replace(filled, **jump_window(now, low, high, lr, wd))


def _spread(lr: Array, wd: Array) -> list[tuple[float, float]]:
    """Learning rate and decay of the rows; of rows that differ a dozen, spread over the window."""
    pairs = list(zip(lr.tolist(), wd.tolist()))
    if len(set(pairs)) == 1:
        return pairs[-1:]
    kept = pairs if len(pairs) <= 12 else [pairs[i] for i in np.linspace(0, len(pairs) - 1, 12).astype(int)]
    return [(a, b) for a, b in kept if a > 0 and b > 0]


def _time_on_the_way(
    rho: float, lr: float, wd: float, ahead: Ahead, rest_at: Callable[[float, float], Equilibrium | None]
) -> float:
    """Count the steps until rho^2 is near its equilibrium, which moves with the learning rate; inf: not in sight."""
    for i, (start, factor) in enumerate(zip(ahead.steps, ahead.factor)):
        at = rest_at(lr * float(factor), wd)
        if at is None or not float(at.norm) > 0:  # the learning rate is 0: nothing moves any more
            continue
        rest, power = float(at.norm), at.power
        if abs((rho / rest) ** 2 - 1) <= NEAR:
            return float(start)
        last = i + 1 == len(ahead.steps)
        span = math.inf if last else float(ahead.steps[i + 1] - start)
        needs = _time_left(rho, rest, float(at.time_scale), power)
        if last:
            return float(start) + needs
        rho = relaxed(rho, at, span)
    return math.inf


def relaxed(rho: float, at: Equilibrium, steps: float) -> float:
    """Compute the norm after so many steps on its way to an equilibrium that stands still.

    ``rho^p = r^p + (rho0^p - r^p) exp(-steps/T)`` with the equilibrium's norm r, power p and time scale T.
    """
    rest, power = float(at.norm), at.power
    y = 1.0 + ((rho / rest) ** power - 1.0) * math.exp(-steps / float(at.time_scale))
    return rest * float(max(y, 1e-300) ** (1 / power))


def jump_window(rho: float, low: float, high: float, lr: float, wd: float) -> dict[str, Any]:
    """Apply Proposition 2 of Lobacheva et al. 2021: when is a step of ``jump_angle`` possible, and when certain?

    The size is the largest of which the proposition speaks, ``delta = 0.9 lr wd (l/L)^2``: 0.95 l/L of the
    equilibrium rotation.
    """
    delta = 0.9 * lr * wd * (low / high) ** 2
    found: dict[str, Any] = {"low": low, "high": high}
    found["jump_angle"] = math.acos(1 - delta) if delta > 1e-12 else math.sqrt(2 * delta)
    for name, formula in (("t_min", lobacheva2021.t_min), ("t_max", lobacheva2021.t_max)):
        try:
            found[name] = formula(rho**2, low, high, lr, wd, delta)
        except OutsideConditions as error:
            words = str(error).partition("(")[2].partition(")")[0]
            bound = "earliest" if name == "t_min" else "latest"
            found["why"] = f"no {bound} time of the next large step: the theorem asks for {words}"
    found["break_angle"] = BREAK * kosson2024.sgd_angle(lr, wd)
    if found["break_angle"] < math.pi / 2:
        size = 1 - math.cos(found["break_angle"])
        with contextlib.suppress(OutsideConditions):
            found["break_earliest"] = lobacheva2021.t_min(rho**2, low, high, lr, wd, size)
    return found


def slope(step: Array, values: Array) -> tuple[float, float]:
    """Fit the growth of log ``values`` per step by least squares; it, and how many standard errors it is from zero."""
    good = np.isfinite(values) & (values > 0)
    if good.sum() < FEWEST:
        return NAN, 0.0
    t, y = step[good] - step[good].mean(), np.log(values[good])
    spread = float(t @ t)
    if spread == 0:
        return NAN, 0.0
    rate = float(t @ y) / spread
    rest = y - y.mean() - rate * t
    error = math.sqrt(float(rest @ rest) / (len(t) - 2) / spread)
    return rate, abs(rate) / error if error > 0 else (math.inf if rate else 0.0)


def phase_of(angle: Array, growth: float, sure: float, count: int) -> Phase:
    """Name the phase. C: one of the last four logged steps turned ten times as far as the median of those before."""
    if count < FEWEST or not math.isfinite(growth):
        return ""
    before, last = angle[:-4], angle[-4:]
    if len(before) >= FEWEST and np.nanmax(last, initial=0.0) > 10 * np.nanmedian(before) > 0:
        return "C"
    if sure < 5:
        return "steady"
    return "A" if growth > 0 else "B"


def _rms(values: Array) -> float:
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if len(values) else NAN


def _time_left(rho: float, rest: float, scale: float, power: int) -> float:
    """Count the steps until rho^2 is near its equilibrium; a deviation of rho^power falls by e in ``scale`` steps."""
    if not rest > 0:
        return NAN
    start = abs((rho / rest) ** power - 1)
    near = abs((1 + NEAR) ** (power / 2) - 1)
    return max(0.0, scale * math.log(start / near)) if start > 0 else 0.0


def _update_norm(columns: Mapping[str, Array], lr: float, wd: float) -> float:
    """Measure the norm of the update of the last steps, in units of the learning rate, without weight decay."""
    tangential, radial, rho = (columns[name] for name in ("tangential", "radial", "rho"))
    decay = columns.get("decay", lr * wd * rho)
    with np.errstate(divide="ignore", invalid="ignore"):  # the rate may have been 0, in a warm-up
        sizes = np.hypot(tangential, radial + decay) / columns["lr"]
    return float(np.nanmedian(sizes)) if np.isfinite(sizes).any() else NAN


def outlook(history: History, journal: Journal, monitor: Monitored) -> list[Forecast]:
    """Forecast the total and every scale-invariant group that one param group holds."""
    part = History(LOOK)
    known = [*history.rates, *[()] * (len(history.records) - len(history.rates))]
    for record, rate in zip(list(history.records)[-LOOK:], known[-LOOK:]):
        part.append(record, rate)
    if not len(part):
        return []
    cube, names = part.cube(), part.groups
    steps = np.array([r.step for r in part.records], np.float64)
    holder: dict[int, tuple[Optimizer, int, dict[str, Any]]] = {}
    for one in monitor.optimizers:
        for place, options in enumerate(engine(one).param_groups):
            holder.update(dict.fromkeys(map(id, options["params"]), (one, place, options)))
    free = [(i, g.name, g.tensors) for i, g in enumerate(monitor.groups, start=1) if g.scale_free]
    if len(free) > 1:
        free.insert(0, (0, "total", tuple(t for _, _, tensors in free for t in tensors)))
    found: list[Forecast] = []
    coming: dict[tuple[int, int], Ahead] = {}
    for i, name, tensors in free:
        mine = [holder[id(t)] for t in tensors if id(t) in holder]
        if not mine or name not in names:  # not logged yet
            continue
        optimizer, place, options = mine[0]
        traits = monitor.said.traits(optimizer, options)
        numbers = dict(zip(QUANTITIES, cube[:, names.index(name)].T))
        numbers["wd"] = np.array([_decay_of(r, i, traits, options) for r in part.rates])
        if any(m[2] is not options for m in mine):
            if name == "total":  # of several param groups: measured, not predicted
                found.append(_measured_only(name, steps, numbers, optimizer))
            continue
        key = (id(optimizer), place)
        if key not in coming:
            coming[key] = _coming(monitor, optimizer, place, traits, steps, numbers)
        outside = name in monitor.changed_outside or (name == "total" and bool(monitor.changed_outside))
        law = monitor.rates[i].law if len(monitor.rates) > i else "measured"
        told = forecast(
            name, {"step": steps, **numbers}, optimizer, options, sum(t.numel() for t in tensors), law,
            traits=traits, ahead=coming[key], outside=outside, sides=_sides(tensors),
        )  # fmt: skip
        seen = journal.of.get(name)
        if seen is not None:
            told = replace(told, breakdowns=len(seen.periods), window=seen.window())
        found.append(told)
    return found


def _sides(tensors: Sequence[Tensor]) -> tuple[int, int] | None:
    """Give rows and columns of the largest matrix, a kernel taken as one."""
    matrices = [t for t in tensors if t.ndim >= 2 and t.numel()]
    if not matrices:
        return None
    largest = max(matrices, key=Tensor.numel)
    return len(largest), largest.numel() // len(largest)


def _decay_of(rates: Sequence[Rates], i: int, traits: OptimizerTraits, options: Mapping[str, Any]) -> float:
    """The decay of a row as equilibria count it."""
    if len(rates) > i:
        return float(rates[i].wd)
    share = 1.0 if traits.share is None else traits.share(options)
    return share * float(options.get("weight_decay", 0.0) or 0.0)


def _measured_only(name: str, steps: Array, columns: Mapping[str, Array], optimizer: Optimizer) -> Forecast:
    """What was measured of a total that several param groups hold, over the same window as everything else."""
    last = min(WINDOW, max(FEWEST, len(steps) // 2))
    rho, angle = columns["rho"][-last:], columns["angle"][-last:]
    growth, sure = slope(steps[-last:], rho)
    phase = phase_of(angle, growth, sure, len(rho))
    on_sphere = isinstance(optimizer, Sphere)
    why = "on a sphere the norm is fixed: the ELR alone sets the angle" if on_sphere else "several param groups hold it"
    return Forecast(name, _rms(angle), float(rho[-1]), float(columns["elr"][-1]), phase, growth, why=why)


def _coming(
    monitor: Monitored,
    optimizer: Optimizer,
    place: int,
    traits: OptimizerTraits,
    steps: Array,
    columns: Mapping[str, Array],
) -> Ahead:
    """The learning rate to come of a param group: up to the end of the run, or as far as its norm remembers."""
    lr, wd = float(columns["lr"][-1]), float(columns["wd"][-1])
    if isinstance(optimizer, Sphere) or not (lr > 0 and wd > 0 and lr * wd < 1):
        return STEADY
    left = 10 / (lr * wd) if monitor.total_steps is None else monitor.total_steps - steps[-1]
    rows = slice(-WINDOW, None)
    return look_ahead(
        monitor.schedule, optimizer, place, monitor.step, int(min(left, 10**7)), steps[rows], columns["lr"][rows]
    )

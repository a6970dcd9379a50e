"""Forecast a scale-invariant group: equilibrium, phase, and when large steps are possible and certain.

The formulas are those of :mod:`scaleinv.theory`; this file says which of them apply to an optimizer and feeds them
with what was measured. A number is NaN where no formula applies; ``why`` says which condition fails.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch.optim import Optimizer

from scaleinv.monitor.breakdowns import Journal, Window
from scaleinv.monitor.groups import Group
from scaleinv.monitor.quantities import QUANTITIES
from scaleinv.monitor.rates import Rates, engine
from scaleinv.monitor.records import History
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of
from scaleinv.theory import OutsideConditions, kosson2024, lobacheva2021, rates
from scaleinv.theory.optimizers import Measured

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


@dataclass(frozen=True)
class Forecast:
    """The forecast of one group. Angles in radians a step, times in steps from now, ``rho`` in units of the weights."""

    group: str
    angle: float  # measured, RMS over the window
    rho: float  # measured, last
    elr: float
    phase: Phase  # A rho grows, B rho shrinks and the ELR grows, C break-down, steady, "" too little seen
    growth: float  # of log rho, per step
    equilibrium_angle: float = NAN
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


def forecast(
    group: str, columns: Mapping[str, Array], optimizer: Optimizer, options: Mapping[str, Any], size: int, law: str
) -> Forecast:
    """Forecast a group from its last logged steps (``columns``: step, rho, eg, elr, angle, tangential ...) and the
    options of its param group.
    """
    long = columns["eg"]  # all that is given: l and L should know the last break-down
    last = min(WINDOW, max(FEWEST, len(columns["step"]) // 2))  # not the start of the run
    columns = {name: column[-last:] for name, column in columns.items()}
    step, rho, eg, angle = (columns[name] for name in ("step", "rho", "eg", "angle"))
    now, elr, lr = (float(columns[name][-1]) if len(rho) else NAN for name in ("rho", "elr", "lr"))
    growth, sure = slope(step, rho)
    base = Forecast(group, _rms(angle), now, elr, phase_of(angle, growth, sure, len(rho)), growth)
    wd = float(options.get("weight_decay", 0.0) or 0.0)
    if isinstance(optimizer, Sphere):
        return replace(base, why="on a sphere the norm is fixed: the ELR alone sets the angle")
    if not wd:
        return replace(base, why="no weight decay: the norm only grows, there is no equilibrium")
    if not (math.isfinite(now) and lr > 0 and 0 < lr * wd < 1):
        return replace(base, why=f"no forecast for rho {now:g}, lr {lr:g}, weight decay {wd:g}")
    good = np.isfinite(eg) & (eg > 0)
    pull = float(np.sqrt(np.mean(eg[good] ** 2))) if good.sum() >= FEWEST else NAN
    known = Measured(eg=pull, dimension=max(size, 2), update=_update_norm(columns, lr, wd))
    rests_at = traits_of(engine(optimizer), options).equilibrium
    at = None if rests_at is None else rests_at(options, lr, wd, known)
    if at is None:
        return replace(base, why=f"no equilibrium formula for {type(engine(optimizer)).__name__} as it is set")
    rest = float(at.norm)
    elr_rest = float(rates.elr(lr, rest, law)) if rest > 0 and law in rates.LAWS else NAN
    scale = float(at.time_scale)
    left = _time_left(now, rest, scale, 4 if at.law in ("sgd", "sgdm") else 2)
    filled = replace(
        base, equilibrium_angle=float(at.angle), equilibrium_rho=rest, equilibrium_elr=elr_rest, time_scale=scale,
        time_to_equilibrium=left,
    )  # fmt: skip
    if at.law != "sgd":
        return replace(filled, why="the window of large steps is known for SGD without momentum only")
    if good.sum() < FEWEST:
        return replace(filled, why=f"the window of large steps needs {FEWEST} logged gradients")
    low, high = (float(x) for x in np.percentile(long[np.isfinite(long) & (long > 0)], PERCENTILES))
    return replace(filled, **jump_window(now, low, high, lr, wd))


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
    near = (1 + NEAR) ** (power / 2) - 1
    return max(0.0, scale * math.log(start / near)) if start > 0 else 0.0


def _update_norm(columns: Mapping[str, Array], lr: float, wd: float) -> float:
    """Measure the norm of the update of the last steps, in units of the learning rate, without weight decay."""
    tangential, radial, rho = (columns[name] for name in ("tangential", "radial", "rho"))
    with np.errstate(divide="ignore", invalid="ignore"):  # the rate may have been 0, in a warm-up
        sizes = np.hypot(tangential, radial + lr * wd * rho) / columns["lr"]
    return float(np.nanmedian(sizes)) if np.isfinite(sizes).any() else NAN


def outlook(
    history: History,
    journal: Journal,
    groups: Sequence[Group],
    optimizers: Sequence[Optimizer],
    present: Sequence[Rates],
) -> list[Forecast]:
    """Forecast the total and every scale-invariant group that one param group holds; ``present``: the total's first."""
    part = History(LOOK)
    part.records.extend(history.records)
    if not len(part):
        return []
    cube, names = part.cube(), part.groups
    steps = np.array([r.step for r in part.records], np.float64)
    holder: dict[int, tuple[Optimizer, dict[str, Any]]] = {}
    for one in optimizers:
        for options in engine(one).param_groups:
            holder.update(dict.fromkeys(map(id, options["params"]), (one, options)))
    free = [(i, g.name, g.tensors) for i, g in enumerate(groups, start=1) if g.scale_free]
    if len(free) > 1:
        free.insert(0, (0, "total", tuple(t for _, _, tensors in free for t in tensors)))
    found = []
    for i, name, tensors in free:
        mine = [holder[id(t)] for t in tensors if id(t) in holder]
        if not mine or any(m[1] is not mine[0][1] for m in mine) or name not in names:  # not logged yet
            continue
        numbers = dict(zip(QUANTITIES, cube[:, names.index(name)].T))
        optimizer, options = mine[0]
        size = sum(t.numel() for t in tensors)
        ahead = forecast(name, {"step": steps, **numbers}, optimizer, options, size, present[i].law)
        known = journal.of.get(name)
        if known is not None:
            ahead = replace(ahead, breakdowns=len(known.periods), window=known.window())
        found.append(ahead)
    return found

"""Find the break-downs of a log, and how far they depend on the thresholds of the definition."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaleinv.analysis.periods.log import Log
from scaleinv.theory.breakdowns.definition import LEAST_LOSS_RISE, Definition
from scaleinv.theory.breakdowns.find import On, Rise, Smooth, find_rises, last_below, smooth
from scaleinv.theory.breakdowns.turning import Turns

NAN = math.nan
#: what each threshold is set to in turn, as factors of its value
_VARIED: dict[On, dict[str, tuple[float, ...]]] = {
    "norm": {
        "rise": (0.5, 1, 2, 4, 10),
        "window": (0.5, 2, 5),
        "spike": (0.5, 2),
        "excess": (0.75, 2),
        "burn_in": (0.5, 2),
    },
    "loss": {"loss_spike": (0.3, 1, 3, 10), "loss_window": (0.5, 2), "excess": (0.75, 2)},
}


@dataclass(frozen=True)
class BreakDown:
    """A candidate; ``spike`` says whether training broke down there. Steps are the log's, times are 1/(lr wd)."""

    step: int  # norm: where rho^2 is lowest. loss: where the loss passes half-way (log) from its low to its high
    time: float
    fall_from: int  # step of the maximum before
    onset: int | None  # step from which on the loss stays above half-way (log) to its high; None: no rise
    loss_high: int  # step of the highest loss (running median) of the break-down
    peak: int  # step of the maximum after (loss: of the smoothed loss)
    log_rise: float  # of rho^2 from ``step`` to ``peak``; NaN without norm, or with a fixed one
    large: bool
    eg_factor: float  # break-down over the median of the second half of the fall before; NaN: not logged
    loss_factor: float
    excess: float  # of eg (not logged: of the loss): break-down over the maximum of the second half of the fall before
    free_fall: float  # fall of log rho^2 / what decay alone takes: 1 = the gradients do nothing; NaN: lr wd unknown
    lead: float  # steps from ``onset`` to where log rho^2 is half-way up too, in the break-down; NaN: no onset or norm
    lead_minimum: float  # steps from ``onset`` to the minimum of rho^2; mostly negative: one bad batch turns the norm
    elr: float  # by the law of the optimizer, at ``step``
    min_loss: float  # lowest smoothed loss since the event before (or the start of the log)
    spike: bool  # a break-down
    settled: bool  # after the burn-in
    complete: bool  # the rise had ended when the log did; else ``log_rise`` is what was seen of it
    row: int  # of ``step`` in the log


def chosen(log: Log, definition: Definition) -> On:
    """Choose whether norm or loss is looked at."""
    if definition.on != "auto":
        return definition.on
    return "loss" if log.rho_sq is None or log.fixed_norm else "norm"


def find_events(log: Log, definition: Definition, series: Smooth, on: On) -> tuple[list[BreakDown], Turns]:
    """Find all candidates in order, and the turning points they come from."""
    rises, turns = find_rises(log.bare, definition, series, on)
    events: list[BreakDown] = []
    for rise in rises:
        events.append(_event(log, definition, series, rise, events[-1].row if events else 0))
    return events, turns


def _event(log: Log, definition: Definition, series: Smooth, rise: Rise, previous: int) -> BreakDown:
    before, row, after = rise.before, rise.row, rise.after
    onset = None
    if rise.loss_factor >= LEAST_LOSS_RISE:
        half = (rise.loss_low + float(series.log_loss[rise.loss_high])) / 2
        onset = last_below(series.log_loss, half, rise.base, rise.loss_high)
    norm_half, log_rise, free_fall = None, _log_rise(log, rise), NAN
    if log.rho_sq is not None and not log.fixed_norm:
        stretch = np.log(log.rho_sq[row : rise.last + 1])
        norm_half = row + int(np.argmax(stretch >= (stretch[0] + stretch.max()) / 2))
        passed = 0.0 if log.time is None else float(log.time[row] - log.time[before])
        if passed > 0:
            free_fall = float(np.log(log.rho_sq[before] / log.rho_sq[row])) / (2 * passed)
    time = NAN if log.time is None else float(log.time[row])
    return BreakDown(
        step=int(log.step[row]),
        time=time,
        fall_from=int(log.step[before]),
        onset=None if onset is None else int(log.step[onset]),
        loss_high=int(log.step[rise.loss_high]),
        peak=int(log.step[max(after, row)]),
        log_rise=log_rise,
        large=log_rise >= math.log(definition.large),
        eg_factor=rise.eg_factor,
        loss_factor=rise.loss_factor,
        excess=rise.excess,
        free_fall=free_fall,
        lead=NAN if onset is None or norm_half is None else float(log.step[norm_half] - log.step[onset]),
        lead_minimum=NAN if onset is None or log.rho_sq is None else float(log.step[row] - log.step[onset]),
        elr=NAN if log.elr is None else float(log.elr[row]),
        min_loss=float(np.min(series.mean_loss[previous : row + 1])),
        spike=rise.breaks,
        settled=log.time is None or time - float(log.time[0]) >= definition.burn_in,
        complete=rise.complete,
        row=row,
    )


@dataclass(frozen=True)
class Sensitivity:
    """One threshold at another value, and what is then found."""

    threshold: str
    value: float
    events: int  # break-downs after the burn-in
    mean_interval: float  # steps; NaN for fewer than 2 events
    mean_time: float  # in 1/(lr wd)
    half_mean_rise: float  # half the mean log rise: what the books say mean_time is


def vary(log: Log, definition: Definition, on: On, series: Smooth | None = None) -> list[Sensitivity]:
    """Find the events with one threshold varied at a time; the row with a threshold's own value is the result's own.

    ``series``: smoothed by ``definition``. Rises are looked for again only where a threshold moves them.
    """
    found = []
    smoothed = {} if series is None else {(definition.window, definition.loss_window): series}
    rises: dict[tuple[float, ...], list[Rise]] = {}
    begin = 0.0 if log.time is None else float(log.time[0])
    for name, value in _values(definition, on):
        changes: dict[str, Any] = {name: value}
        other = replace(definition, **changes)
        windows = (other.window, other.loss_window)
        key = (*windows, other.rise if on == "norm" else other.loss_spike)
        if key not in rises:
            if windows not in smoothed:  # one at a time is kept besides the result's own
                smoothed = {w: s for w, s in smoothed.items() if w == (definition.window, definition.loss_window)}
                smoothed[windows] = smooth(log.bare, other)
            rises[key] = find_rises(log.bare, other, smoothed[windows], on)[0]
        events = [
            rise
            for rise in rises[key]
            if (other.plain or other.is_break_down(rise.eg_factor, rise.loss_factor, rise.excess))
            and (log.time is None or float(log.time[rise.row]) - begin >= other.burn_in)
        ]
        rows = [rise.row for rise in events]
        steps = np.diff(log.step[rows])
        times = np.full(len(steps), NAN) if log.time is None else np.diff(log.time[rows])
        log_rises = [r for rise in events if math.isfinite(r := _log_rise(log, rise))]
        means = (float(np.mean(x)) if len(x) else NAN for x in (steps, times, log_rises))
        found.append(Sensitivity(name, float(value), len(events), next(means), next(means), next(means) / 2))
    return found


def _log_rise(log: Log, rise: Rise) -> float:
    """Compute the rise of log rho^2 from its minimum to the maximum after; NaN without norm, or with a fixed one."""
    if log.rho_sq is None or log.fixed_norm:
        return NAN
    return float(np.log(log.rho_sq[rise.after] / log.rho_sq[rise.row])) if rise.after > rise.row else 0.0


def _values(definition: Definition, on: On) -> Iterator[tuple[str, float]]:
    for name, factors in _VARIED[on].items():
        own = getattr(definition, name)
        for factor in factors:
            value = own * factor
            if isinstance(own, int):
                value = max(1, round(value))
            elif name in ("spike", "loss_spike"):
                value = max(value, 1.5)
            yield name, value

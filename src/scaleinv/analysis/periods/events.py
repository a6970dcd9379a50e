"""Find the destabilisations of a log, and how far they depend on the thresholds of the definition."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from scaleinv.analysis.periods.definition import BREAK_DOWN, LEAST_LOSS_RISE, Definition
from scaleinv.analysis.periods.log import LEAST_LOSS, Log
from scaleinv.analysis.periods.turning import Turns, centred_mean, finite_log, rows, running_median, turning_points
from scaleinv.runfolder.read import Floats

On = Literal["norm", "loss"]
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
class Destabilisation:
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
    spike: bool  # a destabilisation
    settled: bool  # after the burn-in
    complete: bool  # the rise had ended when the log did; else ``log_rise`` is what was seen of it
    row: int  # of ``step`` in the log


@dataclass(frozen=True)
class Smooth:
    """Smoothed series of a log, shape (n,) each."""

    log_rho_sq: Floats | None  # log of the mean over ``window`` steps
    log_loss: Floats  # running median
    log_eg: Floats | None  # running median
    mean_loss: Floats  # mean over ``window`` steps
    long_loss: Floats  # log of the mean over ``loss_window`` steps


def smooth(log: Log, definition: Definition) -> Smooth:
    """Smooth the series that detection looks at."""
    width = rows(definition.window, log.spacing)
    median = rows(definition.window + 1, log.spacing)
    return Smooth(
        log_rho_sq=None if log.rho_sq is None else np.log(centred_mean(log.rho_sq, width)),
        log_loss=running_median(finite_log(log.loss, LEAST_LOSS), median),
        log_eg=None if log.eg is None else running_median(finite_log(log.eg, LEAST_LOSS), median),
        mean_loss=centred_mean(log.loss, width),
        long_loss=finite_log(centred_mean(log.loss, rows(definition.loss_window, log.spacing)), LEAST_LOSS),
    )


def chosen(log: Log, definition: Definition) -> On:
    """Choose whether norm or loss is looked at."""
    if definition.on != "auto":
        return definition.on
    return "loss" if log.rho_sq is None or log.fixed_norm else "norm"


def find_events(log: Log, definition: Definition, series: Smooth, on: On) -> tuple[list[Destabilisation], Turns]:
    """Find all candidates in order, and the turning points they come from."""
    if on == "norm":
        assert series.log_rho_sq is not None
        turns = turning_points(series.log_rho_sq, math.log1p(definition.rise))
    else:
        turns = turning_points(series.long_loss, math.log(definition.loss_spike))
    events: list[Destabilisation] = []
    previous = 0
    points = turns.turns
    least = 2 * rows(definition.window if on == "norm" else definition.loss_window, log.spacing)
    for k, turn in enumerate(points):
        if not turn.low or (k == 0 and turn.row < least):  # a rise from the very start: nothing was low before
            continue
        complete = k + 1 < len(points)
        before, after = points[k - 1].row if k else 0, points[k + 1].row if complete else turns.extreme
        place = (_place_in_norm if on == "norm" else _place_in_loss)(log, definition, series, before, turn.row, after)
        events.append(_event(log, definition, series, *place, previous, complete))
        previous = events[-1].row
    return events, turns


def _place_in_norm(
    log: Log, definition: Definition, series: Smooth, before: int, low: int, after: int
) -> tuple[int, int, int]:
    """Find the turning points of the norm itself, up to half a window off those of the smoothed norm."""
    assert log.rho_sq is not None
    width = rows(definition.window, log.spacing)
    row = max(before, low - width) + int(np.argmin(log.rho_sq[max(before, low - width) : min(after, low + width) + 1]))
    top = max(row, after - width) + int(np.argmax(log.rho_sq[max(row, after - width) : after + width + 1]))
    start = max(0, before - width)
    return start + int(np.argmax(log.rho_sq[start : min(row, before + width) + 1])), row, top


def _place_in_loss(
    log: Log, definition: Definition, series: Smooth, before: int, low: int, after: int
) -> tuple[int, int, int]:
    """Find the row between the turning points at which the loss passes half-way (log) from its low to its high."""
    top = low + int(np.argmax(series.log_loss[low : after + 1]))
    base = float(np.median(series.log_loss[(before + low) // 2 : low + 1]))
    return before, _last_below(series.log_loss, (base + float(series.log_loss[top])) / 2, low, top), after


def _event(
    log: Log, definition: Definition, series: Smooth, before: int, row: int, after: int, previous: int, complete: bool
) -> Destabilisation:
    base = (before + row) // 2
    width = rows(definition.window, log.spacing)
    # the break-down: a tenth of 1/(lr wd) steps on, at least two windows, not after the peak
    last = after
    if log.time is not None:
        last = min(after, int(np.searchsorted(log.time, log.time[row] + BREAK_DOWN)))
    last = min(max(last, row + 2 * width), max(after, row), len(log) - 1)
    first = max(base, row - 2 * width)
    loss_high = first + int(np.argmax(series.log_loss[first : last + 1]))
    loss_low = float(np.median(series.log_loss[base : row + 1]))
    loss_factor = float(np.exp(series.log_loss[loss_high] - loss_low))
    eg_factor = NAN
    if series.log_eg is not None:
        eg_factor = float(np.exp(np.max(series.log_eg[first : last + 1]) - np.median(series.log_eg[base : row + 1])))
    decides = series.log_loss if series.log_eg is None else series.log_eg
    excess = float(np.exp(np.max(decides[first : last + 1]) - np.max(decides[base : max(first, base + 1)])))
    onset = None
    if loss_factor >= LEAST_LOSS_RISE:
        onset = _last_below(series.log_loss, (loss_low + float(series.log_loss[loss_high])) / 2, base, loss_high)
    norm_half, log_rise, free_fall = None, NAN, NAN
    if log.rho_sq is not None and not log.fixed_norm:
        stretch = np.log(log.rho_sq[row : last + 1])
        norm_half = row + int(np.argmax(stretch >= (stretch[0] + stretch.max()) / 2))
        log_rise = float(np.log(log.rho_sq[after] / log.rho_sq[row])) if after > row else 0.0
        passed = 0.0 if log.time is None else float(log.time[row] - log.time[before])
        if passed > 0:
            free_fall = float(np.log(log.rho_sq[before] / log.rho_sq[row])) / (2 * passed)
    time = NAN if log.time is None else float(log.time[row])
    return Destabilisation(
        step=int(log.step[row]),
        time=time,
        fall_from=int(log.step[before]),
        onset=None if onset is None else int(log.step[onset]),
        loss_high=int(log.step[loss_high]),
        peak=int(log.step[max(after, row)]),
        log_rise=log_rise,
        large=log_rise >= math.log(definition.large),
        eg_factor=eg_factor,
        loss_factor=loss_factor,
        excess=excess,
        free_fall=free_fall,
        lead=NAN if onset is None or norm_half is None else float(log.step[norm_half] - log.step[onset]),
        lead_minimum=NAN if onset is None or log.rho_sq is None else float(log.step[row] - log.step[onset]),
        elr=NAN if log.elr is None else float(log.elr[row]),
        min_loss=float(np.min(series.mean_loss[previous : row + 1])),
        spike=definition.plain or _is_spike(definition, eg_factor, loss_factor, excess),
        settled=log.time is None or time - float(log.time[0]) >= definition.burn_in,
        complete=complete,
        row=row,
    )


def _is_spike(definition: Definition, eg_factor: float, loss_factor: float, excess: float) -> bool:
    if excess < definition.excess:
        return False
    if math.isnan(eg_factor):
        return loss_factor >= definition.loss_spike
    return eg_factor >= definition.spike and loss_factor >= LEAST_LOSS_RISE


def _last_below(x: Floats, level: float, first: int, last: int) -> int:
    """Find the row after the last one in [first, last] at which ``x`` is not above ``level``."""
    below = np.nonzero(x[first : last + 1] <= level)[0]
    return min(first + int(below[-1]) + 1, last) if len(below) else first


@dataclass(frozen=True)
class Sensitivity:
    """One threshold at another value, and what is then found."""

    threshold: str
    value: float
    events: int  # destabilisations after the burn-in
    mean_interval: float  # steps; NaN for fewer than 2 events
    mean_time: float  # in 1/(lr wd)
    half_mean_rise: float  # half the mean log rise: what the books say mean_time is


def vary(log: Log, definition: Definition, on: On) -> list[Sensitivity]:
    """Find the events with one threshold varied at a time; the row with a threshold's own value is the result's own."""
    found = []
    for name, value in _values(definition, on):
        changes: dict[str, Any] = {name: value}
        other = replace(definition, **changes)
        events = [e for e in find_events(log, other, smooth(log, other), on)[0] if e.spike and e.settled]
        steps, times = (np.diff([getattr(e, field) for e in events]) for field in ("step", "time"))
        rises = [e.log_rise for e in events if math.isfinite(e.log_rise)]
        means = (float(np.mean(x)) if len(x) else NAN for x in (steps, times, rises))
        found.append(Sensitivity(name, float(value), len(events), next(means), next(means), next(means) / 2))
    return found


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

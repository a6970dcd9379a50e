"""Find the break-downs of a log: the rises of its norm (or loss), and which of them are break-downs.

What counts is written in :mod:`scaleinv.theory.breakdowns.definition` alone.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from scaleinv.theory.breakdowns.definition import BREAK_DOWN, FIXED, Definition
from scaleinv.theory.breakdowns.turning import (
    Floats,
    Ints,
    Turns,
    centred_mean,
    finite_log,
    rows,
    running_median,
    turning_points,
)

On = Literal["norm", "loss"]
NAN = math.nan
#: a loss below this counts as this: cross-entropy in float32 reaches 0
LEAST_LOSS = 1e-12
#: gradients that give the norm less than this share of what decay takes count as this: rounding, momentum
_LEAST_GIVEN = 1e-2
#: -log(1 - lr wd) is a little more than lr wd
_ROUNDED = 1.02


class LogRows(NamedTuple):
    """Columns of n logged steps, in order; shape (n,) each, None where nothing is known. Finite but for ``eg``.

    - ``step``: of the row, growing. ``rho_sq``: squared norm of the scale-invariant weights, above 0.
    - ``loss``, ``eg``: of the step; the effective gradient norm, rho times the norm of the gradient.
    - ``time``: sum of lr wd over the steps before, in which decay alone takes 2 time from log rho^2. ``exact``: from
      known rates; an estimate made from rows far apart runs slow.
    """

    step: Ints
    rho_sq: Floats | None
    loss: Floats | None = None
    eg: Floats | None = None
    time: Floats | None = None
    exact: bool = True

    @property
    def spacing(self) -> float:
        """Steps between rows, the median."""
        return float(np.median(np.diff(self.step))) if len(self.step) > 1 else 1.0


@dataclass(frozen=True)
class Rise:
    """A minimum of rho^2 with the rise after it, or a rise of the loss. Places are rows; NaN: not known."""

    before: int  # the maximum before
    row: int  # the minimum; of a loss: where it is half-way up (log)
    after: int  # the maximum after
    complete: bool  # the rise had ended when the log did
    base: int  # from here to ``row``: the second half of the fall, with which the break-down is compared
    first: int  # from here ...
    last: int  # ... to here: the stretch in which a break-down shows itself
    loss_low: float  # log of the usual loss before
    loss_high: int  # of the highest loss in the break-down
    eg_factor: float  # of the effective gradient over its median before; from row to row, where it is known
    excess: float  # of it (not logged: of the loss) over its maximum before
    loss_factor: float
    breaks: bool  # training broke down here


@dataclass(frozen=True)
class Smooth:
    """Smoothed series of a log, shape (n,) each."""

    log_rho_sq: Floats | None  # log of the mean over ``window`` steps
    log_loss: Floats  # running median; NaN where no loss is known
    log_eg: Floats | None  # running median
    log_between: (
        Floats | None
    )  # of the RMS effective gradient over ``window + 1`` steps, from the norm, up to a constant
    mean_loss: Floats  # mean over ``window`` steps
    long_loss: Floats  # log of the mean over ``loss_window`` steps


def break_downs(log: LogRows, definition: Definition = Definition()) -> list[Rise]:  # noqa: B008 - frozen
    """Find the break-downs of training in a log, as the monitor and ``scaleinv periods`` both count them.

    - ``log``: its rows; without ``eg`` and ``loss`` nothing can be judged and the list is empty.
    - ``definition``: the thresholds.
    - Source: Lobacheva et al. 2021 (what breaks down); the thresholds are this package's own.

    >>> n = np.arange(3000)
    >>> rho_sq = 10.0 * np.exp(-2e-3 * (n % 600))                  # lr wd = 1e-3, a jump every 600 steps
    >>> eg = np.where(n % 600 < 20, 1.0, 1e-3)
    >>> [found.row for found in break_downs(LogRows(n, rho_sq, eg=eg, time=1e-3 * n))]
    [599, 1199, 1799, 2399]
    """
    if log.rho_sq is None and log.loss is None:
        return []
    on: On = "loss" if log.rho_sq is None or is_fixed(log.rho_sq) else "norm"
    if on == "loss" and log.loss is None:
        return []
    return [rise for rise in find_rises(log, definition, smooth(log, definition), on)[0] if rise.breaks]


def is_fixed(rho_sq: Floats) -> bool:
    """Tell whether the norm stays where it is, within 0.1 %: then nothing makes the ELR grow."""
    return bool(np.ptp(rho_sq) <= 2 * FIXED * np.mean(rho_sq))


def smooth(log: LogRows, definition: Definition) -> Smooth:
    """Smooth the series that detection looks at."""
    spacing = log.spacing
    width, median = rows(definition.window, spacing), rows(definition.window + 1, spacing)
    loss = np.full(len(log.step), NAN) if log.loss is None else log.loss
    between = gradient_between(log)
    top = 0.0 if between is None else float(np.max(between))
    return Smooth(
        log_rho_sq=None if log.rho_sq is None else np.log(centred_mean(log.rho_sq, width)),
        log_loss=running_median(finite_log(loss, LEAST_LOSS), median),
        log_eg=None if log.eg is None else running_median(finite_log(log.eg, LEAST_LOSS), median),
        # no draw of one step: what was given to the norm in the window
        log_between=None if between is None else np.log(centred_mean(np.exp(2 * (between - top)), median)) / 2 + top,
        mean_loss=centred_mean(loss, width),
        long_loss=finite_log(centred_mean(loss, rows(definition.loss_window, spacing)), LEAST_LOSS),
    )


def gradient_between(log: LogRows) -> Floats | None:
    r"""Compute the log of the RMS effective gradient since the row before, up to a constant; shape (n,).

        given = change of log rho^2 + 2 change of time,    RMS eg ~ rho^2 sqrt(given steps) / time

    Weights without scale gain exactly what gradients push: a step gives log(1 + (lr eg/rho^2)^2) to log rho^2. So the
    norm remembers what happened between two rows. None where every step is logged (the gradient itself is known then),
    where the norm or the rates are not known, and where rows are further apart than a break-down is long.
    """
    if log.rho_sq is None or log.time is None or not log.exact or len(log.step) < 2 or not log.spacing > 1:
        return None
    steps, time, log_rho_sq = np.diff(log.step), np.diff(log.time), np.log(log.rho_sq)
    known = time > 0
    if not known.any() or np.median(time[known]) > BREAK_DOWN * _ROUNDED:
        return None
    time = np.where(known, time, 1.0)
    given = np.maximum(np.diff(log_rho_sq) + 2 * time, 2 * _LEAST_GIVEN * time)
    middle = (log_rho_sq[1:] + log_rho_sq[:-1]) / 2
    rms = middle + np.log(given * steps) / 2 - np.log(time)
    rms = np.where(known, rms, np.min(rms[known]))
    return np.concatenate([rms[:1], rms])


def find_rises(log: LogRows, definition: Definition, series: Smooth, on: On) -> tuple[list[Rise], Turns]:
    """Find all rises in order, those that are no break-downs as well, and the turning points they come from."""
    spacing = log.spacing
    if on == "norm":
        assert series.log_rho_sq is not None
        turns = turning_points(series.log_rho_sq, math.log1p(definition.rise))
    else:
        turns = turning_points(series.long_loss, math.log(definition.loss_spike))
    found: list[Rise] = []
    points = turns.turns
    width = rows(definition.window, spacing)
    least = 2 * (width if on == "norm" else rows(definition.loss_window, spacing))
    for k, turn in enumerate(points):
        if not turn.low or (k == 0 and turn.row < least):  # a rise from the very start: nothing was low before
            continue
        complete = k + 1 < len(points)
        place = (points[k - 1].row if k else 0), turn.row, (points[k + 1].row if complete else turns.extreme)
        place = _place_in_loss(series, *place) if on == "loss" else _place_in_norm(log.rho_sq, width, *place)
        found.append(_judge(log, definition, series, width, *place, complete))
    return found, turns


def _place_in_norm(rho_sq: Floats | None, width: int, before: int, low: int, after: int) -> tuple[int, int, int]:
    """Find the turning points of the norm itself, up to half a window off those of the smoothed norm."""
    assert rho_sq is not None
    row = max(before, low - width) + int(np.argmin(rho_sq[max(before, low - width) : min(after, low + width) + 1]))
    top = max(row, after - width) + int(np.argmax(rho_sq[max(row, after - width) : after + width + 1]))
    start = max(0, before - width)
    return start + int(np.argmax(rho_sq[start : min(row, before + width) + 1])), row, top


def _place_in_loss(series: Smooth, before: int, low: int, after: int) -> tuple[int, int, int]:
    """Find the row between the turning points at which the loss passes half-way (log) from its low to its high."""
    top = low + int(np.argmax(series.log_loss[low : after + 1]))
    base = float(np.median(series.log_loss[(before + low) // 2 : low + 1]))
    return before, last_below(series.log_loss, (base + float(series.log_loss[top])) / 2, low, top), after


def _judge(
    log: LogRows, definition: Definition, series: Smooth, width: int, before: int, row: int, after: int, complete: bool
) -> Rise:
    base = (before + row) // 2
    # the break-down: a tenth of 1/(lr wd) steps on, at least two windows, not after the peak
    last = after
    if log.time is not None:
        last = min(after, int(np.searchsorted(log.time, log.time[row] + BREAK_DOWN)))
    last = min(max(last, row + 2 * width), max(after, row), len(log.step) - 1)
    first = max(base, row - 2 * width)

    def grows(x: Floats) -> tuple[float, float]:
        high = np.max(x[first : last + 1])
        over_median = float(np.exp(high - np.median(x[base : row + 1])))
        return over_median, float(np.exp(high - np.max(x[base : max(first, base + 1)])))

    loss_factor, eg_factor, excess, loss_low, loss_high = NAN, NAN, NAN, NAN, first
    if log.loss is not None:
        loss_high = first + int(np.argmax(series.log_loss[first : last + 1]))
        loss_low = float(np.median(series.log_loss[base : row + 1]))
        loss_factor, excess = grows(series.log_loss)
    if series.log_eg is not None:
        eg_factor, excess = grows(series.log_eg)
    if series.log_between is not None:
        eg_factor, excess = grows(series.log_between)
    breaks = definition.plain or definition.is_break_down(eg_factor, loss_factor, excess)
    return Rise(
        before, row, after, complete, base, first, last, loss_low, loss_high, eg_factor, excess, loss_factor, breaks
    )


def last_below(x: Floats, level: float, first: int, last: int) -> int:
    """Find the row after the last one in [first, last] at which ``x`` is not above ``level``."""
    below = np.nonzero(x[first : last + 1] <= level)[0]
    return min(first + int(below[-1]) + 1, last) if len(below) else first

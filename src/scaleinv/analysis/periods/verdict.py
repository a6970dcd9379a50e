"""Periodic, equilibrium, not yet, or undecided; the rules, in their order.

- **periodic**: at least 3 destabilisations, and they carry at least half of all log rises of rho^2 (the rest are rises
  without a spike).
- **not yet**: no destabilisation, and decay still wins at the end: over the last 1/(lr wd) steps (or the whole of a
  shorter log) log rho^2 fell by at least half of what decay takes; or the log is shorter than 2/(lr wd) steps.
- **equilibrium**: destabilisations carry at most a quarter of all log rises (there may be none), at least 3/(lr wd)
  steps were seen after the burn-in, and log rho^2 does not drift (its first and last third differ by less than 0.15, or
  by less than 3 standard errors and less than 0.5). With a fixed norm: no destabilisation in at least 4 loss windows.
- **undecided** otherwise, with the reason: one or two destabilisations, a mixture of both kinds, a norm that drifts, no
  weight decay, rows more than 0.1/(lr wd) apart (break-downs fall between them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from scaleinv.analysis.periods.definition import Definition
from scaleinv.analysis.periods.events import Event, On, Smooth
from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.statistics import drift

Verdict = Literal["periodic", "equilibrium", "not yet", "undecided"]
FEWEST = 3
MOSTLY, HARDLY = 0.5, 0.25  # share of the log rises that destabilisations carry
SHORT = 2.0  # units of 1/(lr wd)
LONG = 3.0
FALLING = 0.5  # of what decay takes
COARSE = 0.1  # units between rows
SHORTEST_WINDOWS = 4  # of the loss, with a fixed norm
STILL, STILL_AT_MOST = 0.15, 0.5  # drift of log rho^2
SIGNIFICANT = 3.0
_BLOCKS = 60


def carried(events: Sequence[Event]) -> float:
    """Share of the log rises of all candidates that those with a spike carry; NaN without a candidate."""
    rises = [e.log_rise for e in events]
    total = sum(rises)
    return sum(e.log_rise for e in events if e.spike) / total if events and total > 0 else math.nan


def judge(
    log: Log, definition: Definition, events: Sequence[Event], series: Smooth, on: On, first_row: int
) -> tuple[Verdict, str]:
    """The verdict and its reason; ``events``: all candidates; ``first_row``: where the settled part begins."""
    spikes = [e for e in events if e.spike]
    count = len(spikes)
    if on == "loss":
        return _judge_loss(log, count, definition)
    share = carried(events)
    if log.clock == "given" and log.time is not None and not log.time[-1] > log.time[0]:
        words = "without weight decay nothing brings the ELR back up"
        if not count:
            return "undecided", f"{words}, so there are no periods to speak of"
        return "undecided", f"{words}, yet {_number(count)}: is the weight decay really 0?"
    if count >= FEWEST and share >= MOSTLY:
        words = f"{count} destabilisations, which carry {share:.0%} of the rises of the norm"
        return "periodic", words + (f"; {coarse}, and some are missed" if (coarse := _too_coarse(log)) else "")
    if log.time is None:
        return _judge_without_clock(count, len(events))
    if coarse := _too_coarse(log):
        return "undecided", f"{coarse}, and break-downs fall between them; log every {_fine(log)} or closer"
    length = float(log.time[-1] - log.time[0])
    if not count:
        fall = free_fall_at_end(log, series)
        if fall >= FALLING:
            return "not yet", (
                f"no destabilisation in {length:.2g}/(lr wd) steps, and the norm still shrinks at {fall:.0%} of the "
                "speed of weight decay alone"
            )
        if length < SHORT:
            return "not yet", f"no destabilisation, and {length:.2g}/(lr wd) steps are shorter than a period may be"
    seen = float(log.time[-1] - log.time[min(first_row, len(log) - 1)])
    if count and share > HARDLY:
        if count < FEWEST:
            return "undecided", f"{_number(count)}; {FEWEST} are needed to speak of periods"
        return "undecided", f"{_number(count)}, but they carry only {share:.0%} of the rises of the norm"
    if seen < LONG:
        enough = definition.burn_in + LONG
        return "undecided", (
            f"{length:.2g}/(lr wd) steps, the first {definition.burn_in:g} of them burn-in, do not tell an equilibrium "
            f"from a pause; train {enough:g}/(lr wd) = {enough * log.unit:.0f} steps, or take a shorter burn-in"
        )
    moved = _drift(series, first_row)
    if moved is not None:
        return "undecided", f"the norm still drifts: log rho^2 changed by {moved:+.2f} after the burn-in"
    other = f"{len(events) - count} rises of the norm are fluctuations, without a spike in loss and effective gradient"
    number = "no destabilisation" if not count else f"{_number(count)} carry {share:.0%} of the rises of the norm"
    return "equilibrium", f"{number} in {length:.3g}/(lr wd) steps; the norm is stationary; {other}"


def _judge_loss(log: Log, count: int, definition: Definition) -> tuple[Verdict, str]:
    fixed = log.fixed_norm
    where = "the norm is fixed" if fixed else "judged by the loss alone"
    if count >= FEWEST:
        return "periodic", f"{count} break-downs of the loss ({where})"
    if count:
        return "undecided", f"{_number(count)} of the loss ({where}); {FEWEST} are needed to speak of periods"
    steps = int(log.step[-1] - log.step[0]) + 1
    words = f"no {definition.loss_spike:g}-fold rise of the loss in {steps} steps ({where})"
    if steps < SHORTEST_WINDOWS * definition.loss_window:
        return "not yet", f"{words}, which is short beside the {definition.loss_window} steps a rise may take"
    if not fixed:
        if log.time is None:
            return "undecided", f"{words}; without the norm and lr wd nobody knows how long a period would be"
        length = float(log.time[-1] - log.time[0])
        if length < SHORT:
            return "not yet", f"{words}, {length:.2g}/(lr wd)"
    return "equilibrium", words


def _judge_without_clock(count: int, candidates: int) -> tuple[Verdict, str]:
    if count:
        return "undecided", f"{_number(count)} and {candidates - count} rises without a spike"
    return "undecided", "no destabilisation; without lr and wd nobody knows how long a period would be"


def _too_coarse(log: Log) -> str:
    """Where rows are too far apart for break-downs to be seen, words that say so."""
    if log.time is None or log.spacing <= COARSE * log.unit:
        return ""
    return f"rows are {log.spacing:.0f} steps = {log.spacing / log.unit:.2g}/(lr wd) apart"


def _fine(log: Log) -> str:
    steps = max(1, int(COARSE / 2 * log.unit))
    return f"{steps} step{'s' * (steps != 1)}"


def free_fall_at_end(log: Log, series: Smooth) -> float:
    """Fall of log rho^2 over the last unit of time, as a share of what decay alone takes."""
    assert log.time is not None
    assert series.log_rho_sq is not None
    row = int(np.searchsorted(log.time, max(float(log.time[-1]) - 1.0, float(log.time[0]))))
    # after the last maximum only: what rose before has turned since
    row += int(np.argmax(series.log_rho_sq[row:]))
    passed = float(log.time[-1] - log.time[row])
    window = min(1.0, float(log.time[-1] - log.time[0]))
    if passed < 0.5 * window or passed <= 0:
        return 0.0
    return float(series.log_rho_sq[row] - series.log_rho_sq[-1]) / (2 * passed)


def _drift(series: Smooth, first_row: int) -> float | None:
    """The drift of log rho^2 where there is one, from means over 60 blocks."""
    assert series.log_rho_sq is not None
    rest = series.log_rho_sq[first_row:]
    blocks = np.array([float(block.mean()) for block in np.array_split(rest, min(_BLOCKS, len(rest)))])
    found = drift(blocks)
    size = abs(found.value)
    still = size < STILL or (size < SIGNIFICANT * found.error and size < STILL_AT_MOST)
    return None if still else found.value


def _number(count: int) -> str:
    return f"{count} destabilisation" + "s" * (count > 1)

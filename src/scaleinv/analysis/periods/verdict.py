"""Judge a log: periodic, equilibrium, not yet, or undecided; the rules, in their order.

- **periodic**: at least 3 break-downs, and they carry at least half of all log rises of rho^2 (the rest are rises
  without a spike), in rows that are not too far apart for it.
- **undecided** where rows are more than 0.25/(lr wd) steps apart, or 0.1 and it is not periodic, or 0.05 and it would
  be an equilibrium: whole break-downs lie between them.
- **undecided** where the weights became exactly 0 before any: they stay there.
- **not yet**: no break-down, and decay still wins at the end: over the last 1/(lr wd) steps (or the whole of a
  shorter log) log rho^2 fell by at least half of what decay takes; or the log is shorter than 2/(lr wd) steps.
- **equilibrium**: break-downs carry at most a quarter of all log rises (there may be none), at least 3/(lr wd)
  steps were seen after the burn-in, and log rho^2 does not drift (its first and last third differ by less than 0.15, or
  by less than 3 standard errors and less than 0.5).
- **equilibrium** in name only (:func:`rests` is False; the answer says "no periods"): without weight decay, where
  periods are impossible; and, where the norm is fixed, no break-down in at least 2/(lr wd) steps and four windows
  of the loss (fewer are **not yet**). Where no norm is logged the same is **undecided**: a break-down may raise the
  loss less than tenfold.
- **undecided** otherwise, with the reason: one or two break-downs, a mixture of both kinds, a norm that drifts.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from scaleinv.analysis.periods.events import BreakDown
from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.statistics import drift
from scaleinv.text import count as counted
from scaleinv.theory.breakdowns.definition import Definition
from scaleinv.theory.breakdowns.find import On, Smooth
from scaleinv.theory.breakdowns.turning import turning_points

PeriodVerdict = Literal["periodic", "equilibrium", "not yet", "undecided"]
FEWEST = 3
MOSTLY, HARDLY = 0.5, 0.25  # share of the log rises that break-downs carry
SHORT = 2.0  # units of 1/(lr wd)
LONG = 3.0
#: windows of the loss that a log judged by the loss alone has to be long
WINDOWS = 4
#: a rise of the loss that is worth a word where nothing else is known
_SMALL = 3.0
#: units of 1/(lr wd) between rows: what to log at least (9 in 10 break-downs of small networks were then found);
#: above SPARSE (a third is missed) their absence is no evidence, above COARSE (two thirds) nothing is judged by it,
#: above BLIND even a regular interval may be one of the rows
FINE, SPARSE, COARSE, BLIND = 0.02, 0.05, 0.1, 0.25
FALLING = 0.5  # of what decay takes
STILL, STILL_AT_MOST = 0.15, 0.5  # drift of log rho^2
SIGNIFICANT = 3.0
_BLOCKS = 60


def carried(events: Sequence[BreakDown], kind: str = "spike") -> float:
    """Compute the share of all log rises that those with a spike (or ``large`` ones) carry; NaN without a candidate."""
    total = sum(e.log_rise for e in events)
    return sum(e.log_rise for e in events if getattr(e, kind)) / total if events and total > 0 else math.nan


def rests(log: Log, on: On) -> bool:
    """Whether an "equilibrium" is one of gradients and decay; False: it says no more than that there are no periods."""
    return on == "norm" and not log.no_decay


def coarse(log: Log, least: float = COARSE) -> str:
    """Say ``rows are 200 steps = 1/(lr wd) apart`` and what to do, where they are more than ``least`` units apart."""
    if (log.spacing <= 1 and not log.counted) or not log.gap > least * (1 + 1e-6):
        return ""
    if log.counted:
        return f"rows are {log.gap:.2g}/(lr wd) apart, break-downs fall between them; log every few steps"
    finer = max(1, math.floor(FINE / log.gap * log.spacing * (1 + 1e-9)))
    every = "every step" if finer == 1 else f"every {finer} steps or closer"
    return f"rows are {log.spacing:g} steps = {log.gap:.2g}/(lr wd) apart, break-downs fall between them; log {every}"


def judge(
    log: Log, definition: Definition, events: Sequence[BreakDown], series: Smooth, on: On, first_row: int
) -> tuple[PeriodVerdict, str]:
    """Decide, with the reason; ``events``: all candidates; ``first_row``: where the settled part begins."""
    spikes = [e for e in events if e.spike]
    count = len(spikes)
    if on == "loss":
        return _judge_loss(log, count, definition, series)
    share = carried(events)
    if count >= FEWEST and share >= MOSTLY and not coarse(log, BLIND):
        return "periodic", f"{count} break-downs, which carry {share:.0%} of the rises of the norm"
    if log.no_decay:
        return _judge_without_decay(count)
    if log.time is None:
        if count:
            return "undecided", f"{_number(count)} and {len(events) - count} rises without a spike"
        return "undecided", "no break-down; without lr and wd nobody knows how long a period would be"
    if hidden := coarse(log):
        return "undecided", hidden
    length = float(log.time[-1] - log.time[0])
    if not count:
        if log.zero_at is not None:
            return "undecided", f"no break-down in {length:.2g}/(lr wd) steps"
        fall = free_fall_at_end(log, series)
        if fall >= FALLING:
            return "not yet", (
                f"no break-down in {length:.2g}/(lr wd) steps, and the norm still shrinks at {fall:.0%} of the "
                "speed of weight decay alone"
            )
        if length < SHORT:
            return "not yet", f"no break-down, and {length:.2g}/(lr wd) steps are shorter than a period may be"
    if count and share > HARDLY:
        few = f"; {FEWEST} are needed to speak of periods"
        little = f", but they carry only {share:.0%} of the rises of the norm"
        return "undecided", f"{_number(count)}{few if count < FEWEST else little}"
    if hidden := coarse(log, SPARSE):
        return "undecided", hidden
    seen = float(log.time[-1] - log.time[min(first_row, len(log) - 1)])
    if seen < LONG:
        return "undecided", _too_short(log, seen, definition)
    moved = _drift(series, first_row)
    if moved is not None:
        return "undecided", f"the norm still drifts: log rho^2 changed by {moved:+.2f} after the burn-in"
    rest = len(events) - count
    other = ""
    if rest:
        verb = "is a fluctuation" if rest == 1 else "are fluctuations"
        other = f"; {counted(rest, 'rise')} of the norm {verb}, without a spike in loss and effective gradient"
    number = "no break-down" if not count else f"{_number(count)} carry {share:.0%} of the rises of the norm"
    return "equilibrium", f"{number} in {length:.3g}/(lr wd) steps; the norm is stationary{other}"


def _too_short(log: Log, seen: float, definition: Definition) -> str:
    """Say how many steps are missing; ``seen``: units of time after the burn-in."""
    burn_in, needed = definition.burn_in, definition.burn_in + LONG
    start = f"{burn_in:g}/(lr wd) = {burn_in * log.unit_by_hand:.0f} steps"
    # burn-in and log end at a row: up to two gaps between rows are lost
    steps = needed * log.unit_by_hand + 2 * (log.spacing - 1)
    mend = f"train at least {steps:.0f} steps ({needed:g}/(lr wd)), or lower --burn-in"
    if seen <= 0:
        return f"the log ends within the burn-in ({start}); {mend}"
    return (
        f"only {seen:.2g}/(lr wd) steps after the burn-in ({start}), and {LONG:g}/(lr wd) are needed to "
        f"tell an equilibrium from a pause; {mend}"
    )


def _judge_without_decay(count: int) -> tuple[PeriodVerdict, str]:
    if count:
        return "undecided", f"{_number(count)}, but there is no weight decay that could bring the ELR back up"
    return "equilibrium", "without weight decay none are possible, since nothing brings the ELR back up"


def _judge_loss(log: Log, count: int, definition: Definition, series: Smooth) -> tuple[PeriodVerdict, str]:
    fixed = log.fixed_norm
    where = "the norm is fixed" if fixed else "judged by the loss alone"
    if count >= FEWEST:
        return "periodic", f"{count} break-downs of the loss ({where})"
    if count:
        return "undecided", f"{_number(count)} of the loss ({where}); {FEWEST} are needed to speak of periods"
    if log.no_decay and not fixed:
        return _judge_without_decay(count)
    steps = int(log.step[-1] - log.step[0]) + 1
    words = f"no {definition.loss_spike:g}-fold rise of the loss in {counted(steps, 'step')} ({where})"
    if log.time is None and not fixed:
        return "undecided", f"{words}; without the norm and lr wd nobody knows how long a period would be"
    if hidden := coarse(log):
        return "undecided", hidden
    least = WINDOWS * definition.loss_window
    if steps < least:
        mean = f"the loss is averaged over {definition.loss_window}"
        return "not yet", f"{words}, and at least {least} are needed: {mean}"
    if log.time is not None:
        length = float(log.time[-1] - log.time[0])
        if length < SHORT:
            return "not yet", f"{words}, {length:.2g}/(lr wd): shorter than a period may be"
    if not fixed:  # that the norm rests, or that no break-down raises the loss less, is not known
        small = sum(turn.low for turn in turning_points(series.long_loss, math.log(_SMALL)).turns)
        rises = f", but {counted(small, 'rise')} of {_SMALL:g}-fold or more" if small else ""
        return "undecided", f"{words}{rises}; the loss alone does not tell periods from noise: log the norm too"
    return "equilibrium", f"{words}; {_course(log)}"


def _course(log: Log) -> str:
    """Say where loss and effective gradient were and are: whether training converges or rests is not judged by them."""
    part = max(1, len(log) // 10)
    said = []
    for name, values in (("the loss went", log.loss), ("the effective gradient", log.eg)):
        if values is not None:
            said.append(f"{name} from {np.median(values[:part]):.3g} to {np.median(values[-part:]):.3g}")
    return f"{', '.join(said)} (medians of the first and last tenth)"


def free_fall_at_end(log: Log, series: Smooth) -> float:
    """Compute the fall of log rho^2 over the last unit of time, as a share of what decay alone takes."""
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
    """Find the drift of log rho^2, from means over 60 blocks; None where there is none."""
    assert series.log_rho_sq is not None
    rest = series.log_rho_sq[first_row:]
    blocks = np.array([float(block.mean()) for block in np.array_split(rest, min(_BLOCKS, len(rest)))])
    found = drift(blocks)
    size = abs(found.value)
    still = size < STILL or (size < SIGNIFICANT * found.error and size < STILL_AT_MOST)
    return None if still else found.value


def _number(count: int) -> str:
    return counted(count, "break-down")

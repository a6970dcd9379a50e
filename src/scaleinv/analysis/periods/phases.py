"""Divide a log into periods and their phases (Lobacheva et al. 2021, Fig. 4).

A: the norm grows, the ELR falls, the loss comes down. B: decay wins, the norm shrinks and the ELR grows. C: the
break-down: large steps leave the minimum, loss and effective gradient jump, and the norm after them. C begins before
and ends after the minimum of the norm that ends a period, so the last part of C lies in the next period.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from scaleinv.analysis.periods.events import BreakDown
from scaleinv.analysis.periods.log import Log
from scaleinv.theory.breakdowns.find import On, Smooth
from scaleinv.theory.breakdowns.turning import Turns

Phase = Literal["A", "B", "C", ""]
StepRange = tuple[int, int]


@dataclass(frozen=True)
class Span:
    """A stretch of one phase, in steps of the log: [start, end)."""

    phase: Phase
    start: int
    end: int


@dataclass(frozen=True)
class Period:
    """From one break-down to the next. Steps of the log; spans are (first step, first step after)."""

    start: int
    end: int
    length: int  # steps
    time: float  # length in 1/(lr wd); NaN where lr wd is not known
    a: StepRange  # from the highest loss of the break-down before to the largest norm
    b: StepRange  # from there to the onset of the next break-down
    c: StepRange  # from the onset to the highest loss; ends after ``end``
    lead: float  # steps by which the loss rose before the norm at ``end``, both half-way (log); NaN: no onset
    min_loss: float  # lowest smoothed loss
    elr: float  # at the break-down ``end``
    rho_sq: tuple[float, float]  # least and largest; NaN without norm
    log_rise: float  # of rho^2 at ``end``
    large: bool  # that rise
    settled: bool  # begins after the burn-in


def make_periods(log: Log, events: Sequence[BreakDown]) -> list[Period]:
    """Make the periods between consecutive break-downs."""
    periods = []
    for first, last in pairwise(events):
        inside = slice(first.row, last.row + 1)
        peak, onset = _turn(log, first, last)
        rho_sq = (math.nan, math.nan)
        if log.rho_sq is not None:
            rho_sq = (float(log.rho_sq[inside].min()), float(log.rho_sq[inside].max()))
        periods.append(
            Period(
                start=first.step,
                end=last.step,
                length=last.step - first.step,
                time=last.time - first.time,
                a=(min(first.loss_high, peak), peak),
                b=(peak, onset),
                c=(onset, max(last.loss_high, onset)),
                rho_sq=rho_sq,
                settled=first.settled,
                **{name: getattr(last, name) for name in ("lead", "min_loss", "elr", "log_rise", "large")},
            )
        )
    return periods


def _turn(log: Log, first: BreakDown, last: BreakDown) -> StepRange:
    """Find where A turns into B (largest norm in between, candidates without a spike included) and B into C."""
    peak = first.peak
    if log.rho_sq is not None and not log.fixed_norm:
        peak = int(log.step[first.row + int(np.argmax(log.rho_sq[first.row : last.row + 1]))])
    onset = last.step if last.onset is None else last.onset
    return peak, max(onset, peak)


def make_spans(log: Log, events: Sequence[BreakDown], turns: Turns, on: On) -> list[Span]:
    """Tile the log with phases, for shading a figure.

    Before the first break-down: A until the norm is largest, then B. With a fixed norm only C is known.
    """
    first, end = int(log.step[0]), int(log.step[-1]) + 1
    if on == "loss":
        spans = [Span("C", e.onset, e.loss_high) for e in events if e.onset is not None and e.onset < e.loss_high]
        return [span for span in spans if span.start < end]
    assert log.rho_sq is not None
    top = int(np.argmax(log.rho_sq[: events[0].row + 1] if events else log.rho_sq))
    marks: list[tuple[int, Phase]] = [(first, "A"), (int(log.step[top]), "B")]
    for k, event in enumerate(events):
        onset = event.step if event.onset is None else event.onset
        marks += [(onset, "C"), (max(event.loss_high, onset), "A")]
        if k + 1 < len(events):
            marks.append((_turn(log, event, events[k + 1])[0], "B"))
        elif event.complete or turns.rising is False:
            marks.append((int(log.step[event.row + int(np.argmax(log.rho_sq[event.row :]))]), "B"))
    spans = []
    at: int = first
    for (begin, phase), (stop, _) in pairwise([*marks, (end, "")]):
        begin = max(begin, at)
        at = max(at, min(max(stop, begin), end))
        if at > begin:
            spans.append(Span(phase, begin, at))
    return spans


def present_phase(log: Log, spans: Sequence[Span], events: Sequence[BreakDown], series: Smooth, on: On) -> Phase:
    """Find the phase at the end of the log; C also where the loss has left its level and the norm has yet to turn."""
    if on == "loss" or not spans:
        return ""
    last = spans[-1]
    if last.phase != "B" or last.end - last.start < 1:
        return last.phase
    begin = int(np.searchsorted(log.step, last.start))
    stretch = series.log_loss[begin:]
    if len(stretch) < 20:
        return "B"
    base = float(np.median(stretch[len(stretch) // 2 :]))
    now = float(np.median(stretch[-3:]))
    known = events[-1].loss_factor if events else math.nan
    # half-way (log) to the break-down before, or tenfold where there was none
    needed = math.log(known) / 2 if known > 1 else math.log(10.0)
    return "C" if now - base > needed else "B"

"""The result of a run that ended (diverged, or at weights of 0) before there was anything to judge."""

from __future__ import annotations

import math

from scaleinv.analysis.periods.books import Books
from scaleinv.analysis.periods.definition import Definition
from scaleinv.analysis.periods.events import chosen
from scaleinv.analysis.periods.interval import mean_interval
from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.periods.result import Periods
from scaleinv.analysis.periods.sentences import answer, end_sentences
from scaleinv.analysis.periods.verdict import PeriodVerdict


def unjudged(log: Log, definition: Definition) -> Periods:
    """Undecided, with the reason of the log and how the run ended; nothing else is known."""
    on = chosen(log, definition) if len(log) else "norm"
    none = mean_interval([])
    verdict: PeriodVerdict = "undecided"
    return Periods(
        verdict=verdict,
        reason=log.unjudged,
        definition=definition,
        on=on,
        unit=math.nan,
        candidates=(),
        periods=(),
        interval=none,
        interval_time=none,
        interval_settled=True,
        spans=(),
        phase="",
        next=None,
        books=Books(*[math.nan] * 6),
        equilibrium=None,
        sensitivity=(),
        settled_from=int(log.step[0]) if len(log) else 0,
        diverged_at=log.diverged_at,
        zero_at=log.zero_at,
        answer=answer(verdict, log.unjudged, False, 0, none, none, None, "", log.diverged_at, log.zero_at),
        evidence=tuple(end_sentences(log)),
        log=log,
    )

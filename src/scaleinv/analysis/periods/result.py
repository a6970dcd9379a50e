"""Hold what :func:`scaleinv.analysis.periods.find_periods` finds."""

import dataclasses
import math
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scaleinv.analysis.periods.books import Books
from scaleinv.analysis.periods.bounds import Envelope, NormBand, Prediction, envelopes, predict
from scaleinv.analysis.periods.events import BreakDown, Sensitivity
from scaleinv.analysis.periods.interval import MeanInterval, Next
from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.periods.phases import Period, Phase, Span
from scaleinv.analysis.periods.verdict import PeriodVerdict, rests
from scaleinv.runfolder.files import plain
from scaleinv.theory.breakdowns.definition import Definition
from scaleinv.theory.breakdowns.find import On


@dataclass(frozen=True, kw_only=True)
class Periods:
    """The periods of a run and what they rest on. Steps are the log's; ``unit`` converts: time = steps / unit."""

    verdict: PeriodVerdict
    reason: str
    definition: Definition
    on: On  # what break-downs were looked for in: the norm, or the loss alone
    unit: float = math.nan  # steps of 1/(lr wd); NaN where lr wd is unknown
    candidates: tuple[BreakDown, ...] = ()  # every minimum with a rise, also without a spike or in the burn-in
    periods: tuple[Period, ...] = ()  # between consecutive break-downs, those of the burn-in included
    interval: MeanInterval = field(default_factory=MeanInterval)  # between settled break-downs, in steps
    interval_time: MeanInterval = field(default_factory=MeanInterval)  # the same in 1/(lr wd)
    interval_settled: bool = True  # False: fewer than 3 settled break-downs, those of the burn-in are used too
    spans: tuple[Span, ...] = ()  # phases from the first to the last step
    phase: Phase = ""  # at the end of the log
    next: Next | None = None  # when the next break-down is to be expected
    books: Books = field(default_factory=Books)
    equilibrium: NormBand | None = None  # Theorem 1 beside the settled part
    sensitivity: tuple[Sensitivity, ...] = ()
    settled_from: int  # step at which the burn-in ends
    diverged_at: int | None  # step from which on loss or norm is not finite
    zero_at: int | None  # step from which on the norm is 0
    answer: str = ""  # one sentence
    evidence: tuple[str, ...] = ()  # sentences
    log: Log = field(repr=False, compare=False)  # the series themselves, smoothed nowhere

    @property
    def break_downs(self) -> tuple[BreakDown, ...]:
        """The candidates at which training broke down."""
        return tuple(event for event in self.candidates if event.spike)

    @property
    def destabilisations(self) -> tuple[BreakDown, ...]:
        """Give ``break_downs`` under its old name, for one release."""
        warnings.warn("Periods.destabilisations is now Periods.break_downs", DeprecationWarning, stacklevel=2)
        return self.break_downs

    @property
    def mean_interval(self) -> float:
        """Mean interval in steps; NaN for fewer than two break-downs."""
        return self.interval.mean

    @property
    def confidence(self) -> tuple[float, float]:
        """95 % confidence interval of ``mean_interval``; NaN for fewer than three intervals."""
        return self.interval.low, self.interval.high

    @property
    def verdict_words(self) -> str:
        """The verdict, or ``none``: no periods, where an equilibrium of the norm was not what was judged."""
        return "none" if self.verdict == "equilibrium" and not rests(self.log, self.on) else self.verdict

    @cached_property
    def predictions(self) -> tuple[Prediction, ...]:
        """Proposition 2 beside data, for every period but the first; empty where the formulas do not apply."""
        return tuple(predict(self.log, self.periods))

    @cached_property
    def envelopes(self) -> tuple[Envelope, ...]:
        """Phase B of every period but the first in the envelope of the period before."""
        return tuple(envelopes(self.log, self.periods))

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types without the series; None where a number is not known."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "log"}
        for name in ("break_downs", "mean_interval", "confidence"):
            found[name] = getattr(self, name)
        return dict(plain(found))

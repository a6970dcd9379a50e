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
from scaleinv.plots.periods import PHASE_WORDS, draw_periods
from scaleinv.plots.tables import frame
from scaleinv.runfolder.files import plain
from scaleinv.text import esc, show
from scaleinv.theory.breakdowns.definition import Definition
from scaleinv.theory.breakdowns.find import On


@dataclass(frozen=True, kw_only=True, repr=False)
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

    def stretches(self) -> dict[str, list[tuple[int, int]]]:
        """Give (start, length) in steps of the stretches of every phase there is; an equilibrium has none."""
        spans = [] if self.verdict == "equilibrium" else self.spans
        by_phase = {p: [(span.start, span.end - span.start) for span in spans if span.phase == p] for p in PHASE_WORDS}
        return {phase: stretches for phase, stretches in by_phase.items() if stretches}

    def __repr__(self) -> str:
        return f"<Periods: {self.verdict_words}, {self.answer or self.reason}>"

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{esc(line)}</li>" for line in self.evidence)
        names = ("length", "lead", "min_loss", "elr", "log_rise")
        head = "".join(f"<th>{name}</th>" for name in ("start", "end", *names))
        rows = "".join(
            f"<tr><td>{one.start}</td><td>{one.end}</td>"
            f"{''.join(f'<td>{show(getattr(one, name))}</td>' for name in names)}</tr>"
            for one in self.periods
        )
        table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
        return f"<p><b>{esc(self.answer or self.reason)}</b></p><ul>{lines}</ul>{table}"

    def to_pandas(self) -> Any:
        """Give a DataFrame, a row a candidate: its numbers, and whether it is a break-down. Needs pandas."""
        return frame([dataclasses.asdict(event) for event in self.candidates])

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss over the steps, phases shaded, break-downs marked; returns matplotlib axes."""
        events = [event.step for event in self.break_downs]
        return draw_periods(self.log.step, {"loss": self.log.loss}, self.stretches(), events, ax)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types without the series; None where a number is not known."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "log"}
        for name in ("break_downs", "mean_interval", "confidence"):
            found[name] = getattr(self, name)
        return dict(plain(found))

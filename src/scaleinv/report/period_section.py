"""What the page of a run says about its periods: key numbers, the figures, the table of periods, the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scaleinv.analysis.periods import Period, Periods
from scaleinv.analysis.periods.sentences import expected
from scaleinv.plots.drawing import Drawing
from scaleinv.report.facts import RunFacts
from scaleinv.report.page import Card, Section, fragment, table
from scaleinv.report.period_figures import PHASE_COLOURS, PHASE_WORDS, period_drawings, shown_phases
from scaleinv.text import MISSING, count, show

#: of many periods the page lists the last ones
MOST_ROWS = 40


class PeriodSection(Section[RunFacts]):
    """The periods of a run in the whole space."""

    def applies(self, facts: RunFacts) -> bool:
        return facts.periods is not None

    def drawings(self, facts: RunFacts) -> list[Drawing]:
        return [] if facts.periods is None else period_drawings(facts.periods)

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        found = facts.periods
        assert found is not None
        phases = [(phase, PHASE_COLOURS[phase], PHASE_WORDS[phase]) for phase in shown_phases(found)]
        return fragment("run.html.j2", "periods", phases, drawn, _table(found), found.evidence)


def steps_text(value: float) -> str:
    """``640``; a dash where unknown."""
    return f"{value:.0f}" if math.isfinite(value) else MISSING


def period_cards(found: Periods) -> list[Card]:
    """The answer in key numbers."""
    kind = {"periodic": "regime2", "equilibrium": "regime1"}.get(found.verdict_words, "regime0")
    many = len(found.periods)
    if found.diverged_at is not None:
        cards = [Card("periods", "diverged", f"at step {found.diverged_at}", "regime3")]
    elif found.zero_at is not None:
        cards = [Card("periods", found.verdict_words, f"weights are 0 from step {found.zero_at} on", kind)]
    else:
        cards = [Card("periods", found.verdict_words, count(many, "period") if many else "", kind)]
    if found.verdict == "periodic":
        low, high = found.confidence
        notes = [f"95 % {steps_text(low)}–{steps_text(high)}"] if math.isfinite(high) else []
        if math.isfinite(found.interval_time.mean):
            notes.append(f"{found.interval_time.mean:.2g}/(lr wd)")
        cards.append(Card("mean interval", f"{steps_text(found.mean_interval)} steps", "; ".join(notes)))
        if found.next is not None and found.diverged_at is None:
            cards.append(Card("next break-down", expected(found.next).replace("-", "–"), "expected, 80 %"))
    if math.isfinite(found.unit):
        cards.append(Card("1/(lr wd)", f"{steps_text(found.log.unit_by_hand)} steps"))
    if found.phase:
        cards.append(Card("phase at the end", found.phase, PHASE_WORDS[found.phase]))
    return cards


def _table(found: Periods) -> str:
    """The last periods, a row each."""
    shown = found.periods[-MOST_ROWS:]
    if not shown:
        return ""
    head = ["start", "length", "in 1/(lr wd)", "A", "B", "C", "loss leads by", "lowest loss", "ELR", "ρ² rises"]
    caption = (
        "Steps. Loss leads by: how long before the norm the loss rises at the break-down that ends the period; ELR and "
        "rise of ρ² there. A star: begins within the burn-in."
    )
    hidden = len(found.periods) - len(shown)
    caption += f" The last {len(shown)} of {len(found.periods)}." if hidden else ""
    return table(head, map(_row, shown), caption)


def _row(period: Period) -> list[str]:
    return [
        f"{period.start}" + ("" if period.settled else "*"),
        f"{period.length}",
        show(period.time),
        *(str(span[1] - span[0]) for span in (period.a, period.b, period.c)),
        steps_text(period.lead),
        show(period.min_loss, 2),
        show(period.elr, 2),
        f"{show(math.exp(period.log_rise))}-fold" if math.isfinite(period.log_rise) else MISSING,
    ]

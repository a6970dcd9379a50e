"""The page of a single run: how it went, its numbers, its curves, how to reproduce."""

import math
from collections.abc import Sequence

from scaleinv.analysis.periods.sentences import expected
from scaleinv.plots.drawing import Drawing
from scaleinv.plots.periods import PHASE_COLOURS, PHASE_WORDS
from scaleinv.report.facts import RunFacts
from scaleinv.report.landscape_section import LandscapeSection
from scaleinv.report.page import Figures, Section, fragment
from scaleinv.report.period_figures import period_drawings
from scaleinv.report.run_figures import group_drawings, total_drawings
from scaleinv.report.shared_sections import Glossary, Reproduce
from scaleinv.report.words import flat_evidence, reason
from scaleinv.text import clean, number

_TEMPLATE = "run.html.j2"
#: more are in the run folder
MOST_ALERTS = 30
#: of many periods the page lists the last ones
MOST_PERIODS = 40


def run_title(facts: RunFacts) -> str:
    """Name the page."""
    return f"Run {clean(facts.run.folder.resolve().name)}"


class RunHead(Section[RunFacts]):
    """What was trained, the answer, and how the run ended."""

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        return fragment(_TEMPLATE, "head", facts, _done(facts))


class KeyNumbers(Section[RunFacts]):
    """The regime and the numbers of the run, and the evidence for the regime."""

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        found, evidence = facts.periods, facts.row["evidence"]
        soon = "" if found is None or found.next is None else expected(found.next).replace("-", "–")
        why = reason(evidence) if evidence else ""
        return fragment(_TEMPLATE, "key_numbers", facts, _done(facts), soon, PHASE_WORDS, why, flat_evidence(evidence))


class Alerts(Section[RunFacts]):
    """What a Monitor said during the run."""

    def applies(self, facts: RunFacts) -> bool:
        return bool(facts.alerts)

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        return fragment(_TEMPLATE, "alerts", facts.alerts, MOST_ALERTS)


class PeriodSection(Section[RunFacts]):
    """The periods of a run in the whole space: figures, the last periods, the evidence."""

    def applies(self, facts: RunFacts) -> bool:
        return facts.periods is not None

    def drawings(self, facts: RunFacts) -> list[Drawing]:
        return [] if facts.periods is None else period_drawings(facts.periods)

    def html(self, facts: RunFacts, drawn: Sequence[Drawing]) -> str:
        assert facts.periods is not None
        phases = [(phase, PHASE_COLOURS[phase], PHASE_WORDS[phase]) for phase in facts.periods.stretches()]
        return fragment(_TEMPLATE, "periods", facts.periods, phases, drawn, MOST_PERIODS)


#: the page, and the image files, in order
RUN_SECTIONS: tuple[Section[RunFacts], ...] = (
    RunHead(),
    KeyNumbers(),
    Alerts(),
    PeriodSection(),
    Figures(lambda facts: "Training", lambda facts: total_drawings(facts.run), empty="Nothing was measured yet."),
    Figures(
        lambda facts: f"The scale-invariant groups ({len(facts.run.groups())})",
        lambda facts: group_drawings(facts.run),
    ),
    LandscapeSection(),
    Glossary(),
    Reproduce(),
)


def _done(facts: RunFacts) -> int:
    """Count the epochs done, or the steps where a Monitor measured the run."""
    run = facts.run
    if run.time == "epoch":
        return run.last_epoch
    steps = number((run.result or {}).get("steps"))
    return int(steps) if math.isfinite(steps) else run.last_step

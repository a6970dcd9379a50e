"""The page of a sweep: the answer, the map, the curves, the runs, how to reproduce."""

from collections.abc import Sequence

from scaleinv.analysis.periods.summary import in_words
from scaleinv.plots.drawing import Drawing
from scaleinv.report import words
from scaleinv.report.facts import SweepFacts, by_series, start_words
from scaleinv.report.landscape_section import LandscapeSection
from scaleinv.report.page import Figures, Section, fragment
from scaleinv.report.retraining import RetrainingSection
from scaleinv.report.shared_sections import Glossary, Reproduce
from scaleinv.report.sweep_curves import colour_scale, curves, diagram
from scaleinv.report.sweep_map import regime_map
from scaleinv.report.sweep_steps import cosine, more_drawings, step_size
from scaleinv.text import clean

_TEMPLATE = "sweep.html.j2"
#: with fewer rates from each of several starts their maps are folded
FEW_RATES = 6


def sweep_title(facts: SweepFacts) -> str:
    """Name the page."""
    return f"Regime map: {clean(facts.folder.resolve().name)}"


class SweepHead(Section[SweepFacts]):
    """What was trained, and the run that all runs started from; where there are several, each map names its own."""

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        starts = facts.starts
        origin = start_words(*next(iter(starts.items()))) if len(starts) == 1 else ""
        return fragment(
            _TEMPLATE, "head", facts, words.summary_line(facts), origin, in_words(fact.periods for fact in facts.runs)
        )


class RegimeMaps(Section[SweepFacts]):
    """The map, the answer and the curves, one after another for each weight decay and start.

    A map of few rates from each of several starts says little: the trajectories of the re-training come first then, and
    the maps are ``folded`` behind their answers. A page has both kinds, in both places, and one of them applies.
    """

    def __init__(self, *, folded: bool) -> None:
        self.folded = folded

    def applies(self, facts: SweepFacts) -> bool:
        few = len(facts.starts) > 1 and max(len(part.facts.rates) for part in by_series(facts)) < FEW_RATES
        return few == self.folded

    def drawings(self, facts: SweepFacts) -> list[Drawing]:
        parts = by_series(facts)
        suffixes = [f"-{number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else [""]
        drawn = [(part.facts, suffix) for part, suffix in zip(parts, suffixes) if part.drawn]
        return [drawing for part, suffix in drawn for drawing in sweep_drawings(part, suffix)]

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        parts = by_series(facts)
        each = len(drawn) // sum(part.drawn for part in parts)
        own = iter([drawn[k : k + each] for k in range(0, len(drawn), each)])
        shown = [(part, colour_scale(part.facts), next(own) if part.drawn else ()) for part in parts]
        return fragment(_TEMPLATE, "maps", shown, words, self.folded)


class RunTable(Section[SweepFacts]):
    """The table of the runs."""

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        with_lines = {fact.key for part in by_series(facts) if part.drawn for fact in part.facts.drawn}
        return fragment(_TEMPLATE, "runs", facts, with_lines, words, words.reference_words(facts))


#: the page, and the image files, in order
SWEEP_SECTIONS: tuple[Section[SweepFacts], ...] = (
    SweepHead(),
    RegimeMaps(folded=False),
    RetrainingSection(),
    RegimeMaps(folded=True),
    Figures(lambda facts: "Groups and epochs", more_drawings),
    LandscapeSection(),
    RunTable(),
    Glossary(),
    Reproduce(),
)


def sweep_drawings(facts: SweepFacts, suffix: str = "") -> list[Drawing]:
    """Draw the figures of one map; ``suffix`` keeps the stems of several maps apart."""
    split = facts.split()
    drawings = [
        regime_map(facts),
        curves(facts, split, "loss", "Train loss", "train loss", log=True),
        curves(facts, "test", "error", "Test error", "test error, %", log=False),
        curves(facts, split, "eg", "Effective gradient", "mean effective gradient norm", log=True),
        diagram(facts, split),
        step_size(facts),
        cosine(facts),
    ]
    for drawing in drawings:
        drawing.stem += suffix
    return drawings

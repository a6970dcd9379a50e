"""The page of a sweep: the answer, the map, the curves, the runs, how to reproduce."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scaleinv.analysis.periods.summary import in_words
from scaleinv.plots.drawing import Drawing
from scaleinv.plots.style import regime_names
from scaleinv.report.facts import SweepFacts, SweptRun, by_series, start_words
from scaleinv.report.landscape_section import LandscapeSection
from scaleinv.report.page import Card, Figures, Section, fragment
from scaleinv.report.retraining import RetrainingSection
from scaleinv.report.shared_sections import Glossary, Reproduce, about
from scaleinv.report.sweep_curves import colour_scale, curves, diagram
from scaleinv.report.sweep_map import regime_map
from scaleinv.report.sweep_steps import cosine, more_drawings, step_size
from scaleinv.report.words import (
    boundary_words,
    flat_evidence,
    reach,
    reason,
    reference_words,
    remarks,
    statement,
    summary_line,
)
from scaleinv.text import MISSING, clean, count, elr_text, percent, plain, show
from scaleinv.text import number as to_number

_TEMPLATE = "sweep.html.j2"
#: with fewer rates from each of several starts their maps are folded
FEW_RATES = 6


def sweep_title(facts: SweepFacts) -> str:
    """The title of the page."""
    return f"Regime map: {clean(facts.folder.resolve().name)}"


class SweepHead(Section[SweepFacts]):
    """What was trained, and the run that all runs went on from; where there are several, each map names its own."""

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        starts = facts.starts
        origin = start_words(*next(iter(starts.items()))) if len(starts) == 1 else ""
        told = f"{about(facts.config)} · {summary_line(facts)}"
        return fragment(_TEMPLATE, "head", facts, told, origin, in_words(fact.periods for fact in facts.runs))


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
        return [drawing for part, suffix in zip(parts, suffixes) for drawing in sweep_drawings(part.facts, suffix)]

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        parts = by_series(facts)
        each = len(drawn) // len(parts)
        shown = []
        for place, part in enumerate(parts):
            one = part.facts
            told = statement(one), _cards(one), remarks(one), colour_scale(one)
            shown.append((part, *told, drawn[place * each : (place + 1) * each]))
        return fragment(_TEMPLATE, "maps", shown, self.folded)


class RunTable(Section[SweepFacts]):
    """The table of the runs; a column that says the same of every run is left out."""

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        columns = _columns(facts)
        same_status = len({fact.status for fact in facts.runs}) == 1
        recomputed = _recomputed(facts)
        caption = (
            f"Means over {facts.window_words()}, from the training steps. Test error: at the last evaluation, with the "
            f"running normalisation statistics{' (recomputed: over the train set)' if recomputed else ''}. A dash: not "
            "measured."
        )
        caption += f" All runs: {facts.runs[0].status}." if same_status else ""
        references = reference_words(facts)
        caption += f" Train loss of random directions with the same head: {references}." if references else ""
        rows = [
            (
                fact,
                [value(fact) for _, value in columns],
                None if same_status else fact.status,
                reason(fact.evidence),
                [*flat_evidence(fact.evidence), ("run folder", fact.name)],
            )
            for fact in facts.runs
        ]
        names = [name for name, _ in columns]
        return fragment(_TEMPLATE, "runs", facts.rate_name, names, not same_status, rows, caption)


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
    """The figures of one map; ``suffix`` keeps the stems of several maps apart."""
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


def _cards(facts: SweepFacts) -> list[Card]:
    said = reach(facts)
    cards = []
    for regime in (1, 2, 3):
        runs = count(len(facts.of_regime(regime)), "run")
        name = f"{regime} {regime_names[regime]}"
        cards.append(Card(name, said[regime], f"{facts.rate_name}; {runs}", f"regime{regime}"))
    for name in ("1/2", "2/3"):
        cards.append(Card(f"boundary {name}", boundary_words(facts, name), facts.rate_name))
    if facts.of_regime(None):
        cards.append(Card("undecided", count(len(facts.of_regime(None)), "run"), "within the horizon", "regime0"))
    return cards


def _recomputed(facts: SweepFacts) -> bool:
    return any(math.isfinite(fact.test_error_recomputed) for fact in facts.runs)


def _columns(facts: SweepFacts) -> list[tuple[str, Callable[[SweptRun], str]]]:
    columns: list[tuple[str, Callable[[SweptRun], str]]] = []
    if len({fact.weight_decay for fact in facts.runs}) > 1:
        columns.append(("weight decay", lambda fact: elr_text(fact.weight_decay)))
    if len({fact.start for fact in facts.runs}) > 1:
        columns.append(("from", lambda fact: fact.start_name or MISSING))
    if len(facts.seeds) > 1:
        columns.append(("seed", lambda fact: plain(fact.seed)))
    columns += [("train loss", _loss), ("test error", lambda fact: percent(fact.test_error))]
    if facts.has_periods:
        columns += [("periods", _periods), ("interval, steps", _interval)]
    if _recomputed(facts):
        columns.append(("recomputed", lambda fact: percent(fact.test_error_recomputed)))
    return [
        *columns,
        ("eff. gradient", lambda fact: show(fact.effective_gradient)),
        ("ESS", lambda fact: show(fact.ess)),
        ("cosine", lambda fact: show(fact.cosine)),
    ]


def _loss(fact: SweptRun) -> str:
    broken = fact.broken_at is not None and fact.train_loss != fact.train_loss
    return "not finite" if broken else show(fact.train_loss)


def _periods(fact: SweptRun) -> str:
    """``14``, ``equilibrium``, ``not yet``."""
    found = fact.periods or {}
    verdict = str(found.get("verdict") or MISSING)
    return plain(found.get("periods")) if verdict == "periodic" else verdict


def _interval(fact: SweptRun) -> str:
    """``640 = 0.62/(lr wd)`` where there are periods."""
    found = fact.periods or {}
    mean, clock = (to_number(found.get(name)) for name in ("mean_interval", "mean_interval_lr_wd"))
    if found.get("verdict") != "periodic" or not math.isfinite(mean):
        return MISSING
    return f"{mean:.0f}" + (f" = {clock:.2g}/(lr wd)" if math.isfinite(clock) else "")

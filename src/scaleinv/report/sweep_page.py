"""The page of a sweep: the answer, the map, the curves, the runs, how to reproduce."""

from __future__ import annotations

import math
from collections.abc import Callable

from scaleinv.analysis.periods.summary import in_words
from scaleinv.plots.style import elr_colour, regime_names
from scaleinv.report.facts import Part, RunFacts, SweepFacts, by_series, gather, start_words
from scaleinv.report.page import (
    about,
    card,
    common_config,
    page,
    pairs,
    regime_cell,
    reproduce_section,
    table,
    words_section,
)
from scaleinv.report.period_section import WORDS
from scaleinv.report.retraining import retraining_section
from scaleinv.report.sweep_figures import reference_words, summary_line, sweep_drawings
from scaleinv.report.sweep_sections import more_sections
from scaleinv.report.words import boundary_words, flat_evidence, reach, reason, remarks, statement
from scaleinv.runfolder.read import SweepRun
from scaleinv.text import MISSING, clean, count, elr_text, esc, numbers_whole, percent, plain, show
from scaleinv.text import number as to_number

#: with fewer rates from each of several starts their maps are folded
FEW_RATES = 6


def sweep_page(sweep: SweepRun) -> str:
    """The HTML of a sweep's report."""
    facts = gather(sweep)
    config = {**facts.config, **common_config(sweep.runs)}
    parts = by_series(facts)
    several = len(parts) > 1
    said = in_words(fact.periods for fact in facts.runs)
    body = [
        f"<h1>Three regimes of training{' on the sphere' if facts.rate_name == 'ELR' else ''}</h1>",
        f'<p class="about">{esc(about(config))} · {esc(summary_line(facts))}</p>',
        _origin(facts),
        f'<p class="answer">{esc(said)}.</p>' if said else "",
    ]
    shown = [_part(part, f"-{number}" if several else "") for number, part in enumerate(parts, 1)]
    retrained = retraining_section(facts, _scale(facts))
    # a map of few rates from each start says little: the trajectories come first, the maps are folded
    if len(facts.starts) > 1 and max(len(part.facts.rates) for part in parts) < FEW_RATES:
        body += [*retrained, "<h2>The regimes, by start</h2>", *map(_folded, parts, shown)]
    else:
        body += [line for lines in shown for line in lines] + retrained
    body += [
        *more_sections(facts),
        f"<h2>{count(len(facts.runs), 'run')}</h2>",
        _table(facts),
        words_section(WORDS if said else ()),
        _reproduce(sweep, facts, config),
    ]
    name = clean(sweep.folder.resolve().name)
    return page(f"Regime map: {name}", body)


def _origin(facts: SweepFacts) -> str:
    """The run that all runs went on from; where there are several, each part of the page names its own."""
    starts = facts.starts
    if len(starts) != 1:
        return ""
    return "".join(f'<p class="about">All runs went on from {esc(start_words(*one))}.</p>' for one in starts.items())


def _folded(part: Part, lines: list[str]) -> str:
    """A part of the page behind its name and its answer."""
    name = part.short[0].upper() + part.short[1:]
    answer = numbers_whole(esc(statement(part.facts)))
    return f"<details><summary>{esc(name)}: {answer}</summary>{''.join(lines)}</details>"


def _part(part: Part, suffix: str) -> list[str]:
    """The map, the answer and the curves of the runs on one axis."""
    name, short, facts = part
    drawings = sweep_drawings(facts, suffix=suffix)
    regime_map, curves, last = drawings[0], drawings[1:5], drawings[5:]
    within = f", {short}" if short else ""
    return [
        f"<h2>{esc(name[0].upper() + name[1:])}</h2>" if name else "",
        f'<p class="answer">{numbers_whole(esc(statement(facts)))}</p>',
        _cards(facts),
        _remarks(facts),
        regime_map.to_html(),
        f"<h2>Training, by {facts.axis}{esc(within)}</h2>",
        _scale(facts),
        '<div class="grid">',
        *(drawing.to_html() for drawing in curves),
        "</div>",
        f"<h2>Steps on the sphere{esc(within)}</h2>",
        '<div class="grid">',
        *(drawing.to_html() for drawing in last),
        "</div>",
    ]


def _cards(facts: SweepFacts) -> str:
    said = reach(facts)
    cards = []
    for regime in (1, 2, 3):
        runs = count(len(facts.of_regime(regime)), "run")
        name = f"{regime} {regime_names[regime]}"
        cards.append(card(name, said[regime], f"{facts.rate_name}; {runs}", f"regime{regime}"))
    for name in ("1/2", "2/3"):
        cards.append(card(f"boundary {name}", boundary_words(facts, name), facts.rate_name))
    if facts.of_regime(None):
        cards.append(card("undecided", count(len(facts.of_regime(None)), "run"), "within the horizon", "regime0"))
    return f'<div class="cards">{"".join(cards)}</div>'


def _remarks(facts: SweepFacts) -> str:
    said = remarks(facts)
    return f'<ul class="remarks">{"".join(f"<li>{esc(line)}</li>" for line in said)}</ul>' if said else ""


def _scale(facts: SweepFacts) -> str:
    """The colour scale of ELRs and the marks of the regimes, for all curves at once."""
    if not facts.rates:
        return ""
    labels = {fact.rate: fact.rate_label for fact in facts.runs}
    low, high = esc(labels[facts.rates[0]]), esc(labels[facts.rates[-1]])
    stops = ", ".join(elr_colour(i / 12) for i in range(13))
    marks = " ".join(f"<span>{regime_cell(regime)}</span>" for regime in (1, 2, 3, None) if facts.of_regime(regime))
    return (
        f'<div class="scale"><span>{facts.rate_name} {low}</span>'
        f'<span class="bar" role="img" aria-label="colour scale of the {facts.axis}, {low} to {high}, logarithmic" '
        f'style="background: linear-gradient(to right, {stops})"></span><span>{high}</span>'
        f"<span>· the mark at a line's end is its regime:</span> {marks}</div>"
    )


def _loss(fact: RunFacts) -> str:
    broken = fact.broken_at is not None and fact.train_loss != fact.train_loss
    return "not finite" if broken else show(fact.train_loss)


def _periods(fact: RunFacts) -> str:
    """``14``, ``equilibrium``, ``not yet``."""
    found = fact.periods or {}
    verdict = str(found.get("verdict") or MISSING)
    return plain(found.get("periods")) if verdict == "periodic" else verdict


def _interval(fact: RunFacts) -> str:
    """``640 = 0.62/(lr wd)`` where there are periods."""
    found = fact.periods or {}
    mean, clock = (to_number(found.get(name)) for name in ("mean_interval", "mean_interval_lr_wd"))
    if found.get("verdict") != "periodic" or not math.isfinite(mean):
        return MISSING
    return f"{mean:.0f}" + (f" = {clock:.2g}/(lr wd)" if math.isfinite(clock) else "")


def _table(facts: SweepFacts) -> str:
    """The runs; a column that says the same of every run is left out."""
    columns: list[tuple[str, Callable[[RunFacts], str]]] = [("train loss", _loss)]
    if len(facts.seeds) > 1:
        columns.insert(0, ("seed", lambda fact: plain(fact.seed)))
    if len({fact.start for fact in facts.runs}) > 1:
        columns.insert(0, ("from", lambda fact: fact.start_name or MISSING))
    if len({fact.weight_decay for fact in facts.runs}) > 1:
        columns.insert(0, ("weight decay", lambda fact: elr_text(fact.weight_decay)))
    columns.append(("test error", lambda fact: percent(fact.test_error)))
    if any(fact.periods is not None for fact in facts.runs):
        columns += [("periods", _periods), ("interval, steps", _interval)]
    recomputed = any(math.isfinite(fact.test_error_recomputed) for fact in facts.runs)
    if recomputed:
        columns.append(("recomputed", lambda fact: percent(fact.test_error_recomputed)))
    columns += [
        ("eff. gradient", lambda fact: show(fact.effective_gradient)),
        ("ESS", lambda fact: show(fact.ess)),
        ("cosine", lambda fact: show(fact.cosine)),
    ]
    same_status = len({fact.status for fact in facts.runs}) == 1
    texts = ["why"] if same_status else ["status", "why"]

    caption = (
        f"Means over {facts.window_words()}, from the training steps. Test error: at the last evaluation, with the "
    )
    caption += "running normalisation statistics"
    caption += " (recomputed: over the train set)" if recomputed else ""
    caption += ". A dash: not measured."
    if same_status and facts.runs:
        caption += f" All runs: {facts.runs[0].status}."
    references = reference_words(facts)
    caption += f" Train loss of random directions with the same head: {references}." if references else ""

    def row(fact: RunFacts) -> str:
        cells = "".join(f"<td>{esc(value(fact))}</td>" for _, value in columns)
        status = "" if same_status else f'<td class="text">{esc(fact.status)}</td>'
        details = pairs([*flat_evidence(fact.evidence), ("run folder", fact.name)])
        return (
            f'<tr data-run="{fact.key}"><td class="text">{regime_cell(fact.regime)}</td>'
            f'<th scope="row">{esc(fact.rate_label)}</th>{cells}{status}'
            f'<td class="why"><details><summary>{esc(reason(fact.evidence))}</summary>{details}</details></td></tr>'
        )

    numbers = [(name, False) for name, _ in columns]
    head = [("regime", True), (facts.rate_name, False), *numbers, *((name, True) for name in texts)]
    return table(head, map(row, facts.runs), caption)


def _reproduce(sweep: SweepRun, facts: SweepFacts, config: dict[str, object]) -> str:
    seeds = ", ".join(map(str, facts.seeds))
    extra = [("seeds", seeds)] if seeds else []
    return reproduce_section([run.environment for run in sweep.runs], config, extra)

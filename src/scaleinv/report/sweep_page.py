"""The page of a sweep: the answer, the map, the curves, the runs, how to reproduce."""

from __future__ import annotations

from scaleinv.analysis.runs import SweepRun
from scaleinv.figures.style import elr_colour, regime_names
from scaleinv.report.facts import RunFacts, SweepFacts, gather
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
from scaleinv.report.sweep_figures import reference_words, summary_line, sweep_drawings
from scaleinv.report.text import clean, count, esc, numbers_whole, percent, plain, show
from scaleinv.report.words import boundary_words, flat_evidence, reach, reason, remarks, statement


def sweep_page(sweep: SweepRun) -> str:
    """The HTML of a sweep's report."""
    facts = gather(sweep)
    config = {**facts.config, **common_config(sweep.runs)}
    drawings = sweep_drawings(facts)
    regime_map, curves, last = drawings[0], drawings[1:5], drawings[5:]
    body = [
        f"<h1>Three regimes of training{' on the sphere' if facts.rate == 'ELR' else ''}</h1>",
        f'<p class="about">{esc(about(config))} · {esc(summary_line(facts))}</p>',
        f'<p class="answer">{numbers_whole(esc(statement(facts)))}</p>',
        _cards(facts),
        _remarks(facts),
        regime_map.to_html(),
        f"<h2>Training, by {facts.axis}</h2>",
        _scale(facts),
        '<div class="grid">',
        *(drawing.to_html() for drawing in curves),
        "</div>",
        "<h2>Steps on the sphere</h2>",
        '<div class="grid">',
        *(drawing.to_html() for drawing in last),
        "</div>",
        f"<h2>{count(len(facts.runs), 'run')}</h2>",
        _table(facts),
        words_section(),
        _reproduce(sweep, facts, config),
    ]
    name = clean(sweep.folder.resolve().name)
    return page(f"Regime map: {name}", body)


def _cards(facts: SweepFacts) -> str:
    said = reach(facts)
    cards = []
    for regime in (1, 2, 3):
        runs = count(len(facts.of_regime(regime)), "run")
        cards.append(card(f"{regime} {regime_names[regime]}", said[regime], f"{facts.rate}; {runs}", f"regime{regime}"))
    for name in ("1/2", "2/3"):
        cards.append(card(f"boundary {name}", boundary_words(facts, name), facts.rate))
    if facts.of_regime(None):
        cards.append(card("undecided", count(len(facts.of_regime(None)), "run"), "within the horizon", "regime0"))
    return f'<div class="cards">{"".join(cards)}</div>'


def _remarks(facts: SweepFacts) -> str:
    said = remarks(facts)
    return f'<ul class="remarks">{"".join(f"<li>{esc(line)}</li>" for line in said)}</ul>' if said else ""


def _scale(facts: SweepFacts) -> str:
    """The colour scale of ELRs and the marks of the regimes, for all curves at once."""
    if not facts.elrs:
        return ""
    labels = {fact.elr: fact.elr_label for fact in facts.runs}
    low, high = esc(labels[facts.elrs[0]]), esc(labels[facts.elrs[-1]])
    stops = ", ".join(elr_colour(i / 12) for i in range(13))
    marks = " ".join(f"<span>{regime_cell(regime)}</span>" for regime in (1, 2, 3, None) if facts.of_regime(regime))
    return (
        f'<div class="scale"><span>{facts.rate} {low}</span>'
        f'<span class="bar" role="img" aria-label="colour scale of the {facts.axis}, {low} to {high}, logarithmic" '
        f'style="background: linear-gradient(to right, {stops})"></span><span>{high}</span>'
        f"<span>· the mark at a line's end is its regime:</span> {marks}</div>"
    )


def _table(facts: SweepFacts) -> str:
    head = [
        ("regime", True),
        (facts.rate, False),
        ("seed", False),
        ("train loss", False),
        ("test error", False),
        ("eff. gradient", False),
        ("ESS", False),
        ("cosine", False),
        ("status", True),
        ("why", True),
    ]
    references = reference_words(facts)
    note = f" Train loss of random directions with the same head: {references}." if references else ""
    return table(
        head, (_row(fact) for fact in facts.runs), f"Values at the end of each run; a dash: not measured.{note}"
    )


def _row(fact: RunFacts) -> str:
    numbers = [
        show(fact.train_loss),
        percent(fact.test_error),
        *map(show, (fact.effective_gradient, fact.ess, fact.cosine)),
    ]
    if fact.broken_at is not None and fact.train_loss != fact.train_loss:
        numbers[0] = "not finite"
    cells = "".join(f"<td>{esc(value)}</td>" for value in numbers)
    seed = plain(fact.seed)
    details = pairs([*flat_evidence(fact.evidence), ("run folder", fact.name)])
    return (
        f'<tr data-run="{fact.key}"><td class="text">{regime_cell(fact.regime)}</td>'
        f'<th scope="row">{esc(fact.elr_label)}</th><td>{esc(seed)}</td>{cells}<td class="text">{esc(fact.status)}</td>'
        f'<td class="why"><details><summary>{esc(reason(fact.evidence))}</summary>{details}</details></td></tr>'
    )


def _reproduce(sweep: SweepRun, facts: SweepFacts, config: dict[str, object]) -> str:
    seeds = ", ".join(map(str, facts.seeds))
    extra = [("seeds", seeds)] if seeds else []
    return reproduce_section([run.environment for run in sweep.runs], config, extra)

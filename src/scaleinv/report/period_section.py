"""What the page of a run says about its periods: key numbers, the figures, the table of periods, the evidence."""

from __future__ import annotations

import math

from scaleinv.analysis.periods import Period, Periods
from scaleinv.analysis.periods.sentences import expected
from scaleinv.report.page import card, table
from scaleinv.report.period_figures import PHASE_COLOURS, PHASE_WORDS, period_drawings, shown_phases
from scaleinv.text import MISSING, count, esc, show

#: of many periods the page lists the last ones
MOST_ROWS = 40
WORDS = [
    ("period", "from one break-down (destabilisation) of training to the next"),
    ("phase A", "after a break-down: gradients lengthen the weights, the ELR falls, the loss comes down"),
    ("phase B", "weight decay wins: the norm shrinks, the ELR grows, the loss stays low"),
    (
        "phase C",
        "the break-down: the ELR has grown too large for the minimum; loss and gradient jump, then the norm",
    ),
    (
        "1/(lr wd)",
        "steps in which weight decay alone shrinks the squared norm by e², the natural unit of a period",
    ),
    ("l, L", "lower and upper bound of the effective gradient, percentiles 1 and 99 of a window"),
]


def steps_text(value: float) -> str:
    """``640``; a dash where unknown."""
    return f"{value:.0f}" if math.isfinite(value) else MISSING


def period_cards(found: Periods) -> list[str]:
    """The answer in key numbers."""
    kind = {"periodic": "regime2", "equilibrium": "regime1"}.get(found.verdict_words, "regime0")
    many = len(found.periods)
    if found.diverged_at is not None:
        cards = [card("periods", "diverged", f"at step {found.diverged_at}", "regime3")]
    elif found.zero_at is not None:
        cards = [card("periods", found.verdict_words, f"weights are 0 from step {found.zero_at} on", kind)]
    else:
        cards = [card("periods", found.verdict_words, count(many, "period") if many else "", kind)]
    if found.verdict == "periodic":
        low, high = found.confidence
        notes = [f"95 % {steps_text(low)}–{steps_text(high)}"] if math.isfinite(high) else []
        if math.isfinite(found.interval_time.mean):
            notes.append(f"{found.interval_time.mean:.2g}/(lr wd)")
        cards.append(card("mean interval", f"{steps_text(found.mean_interval)} steps", "; ".join(notes)))
        if found.next is not None and found.diverged_at is None:
            cards.append(card("next break-down", expected(found.next).replace("-", "–"), "expected, 80 %"))
    if math.isfinite(found.unit):
        cards.append(card("1/(lr wd)", f"{steps_text(found.log.unit_by_hand)} steps"))
    if found.phase:
        cards.append(card("phase at the end", found.phase, PHASE_WORDS[found.phase]))
    return cards


def period_section(found: Periods) -> str:
    """Figures, table, evidence."""
    keys = " ".join(
        f'<span><svg class="mark" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect width="12" height="12" fill="{PHASE_COLOURS[phase]}" fill-opacity=".5"/></svg>'
        f"phase {phase}: {esc(PHASE_WORDS[phase])}</span>"
        for phase in shown_phases(found)
    )
    figures = "".join(drawing.to_html() for drawing in period_drawings(found))
    sentences = "".join(f"<li>{esc(sentence)}</li>" for sentence in found.evidence)
    return (
        f'<h2>Periods</h2><div class="scale">{keys}</div><div class="grid">{figures}</div>'
        f"{_table(found)}<details><summary>Evidence</summary>"
        f'<ul class="remarks">{sentences}</ul></details>'
    )


def _table(found: Periods) -> str:
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
    return table([(name, False) for name in head], map(_row, shown), caption)


def _row(period: Period) -> str:
    cells = [
        f"{period.length}",
        show(period.time),
        *(str(span[1] - span[0]) for span in (period.a, period.b, period.c)),
        steps_text(period.lead),
        show(period.min_loss, 2),
        show(period.elr, 2),
        f"{show(math.exp(period.log_rise))}-fold" if math.isfinite(period.log_rise) else MISSING,
    ]
    star = "" if period.settled else "*"
    values = "".join(f"<td>{esc(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{period.start}{star}</th>{values}</tr>'

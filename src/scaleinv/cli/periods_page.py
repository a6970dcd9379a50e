"""How the periods of a run look on a terminal: the answer, the table of periods, the evidence; within 80 columns."""

from __future__ import annotations

import math
import textwrap

from rich.markup import escape

from scaleinv.analysis.periods import Period, Periods
from scaleinv.cli.tables import _console, columns, number

_STYLE = {"periodic": "yellow", "equilibrium": "green", "none": "green", "not yet": "cyan", "undecided": "dim"}
_WIDTH = 80


def print_periods(found: Periods, rows: int | None) -> None:
    """``rows``: how many of the last periods to show; None: all."""
    console = _console()
    style = "red" if found.diverged_at is not None else _STYLE[found.verdict_words]
    head = textwrap.fill(found.answer, _WIDTH)
    console.print(f"[bold {style}]{escape(head)}[/]")
    if found.periods:
        shown = found.periods if rows is None else found.periods[-rows:]
        console.print()
        table = [["start", "length", "/(lr wd)", "A", "B", "C", "lead", "min loss", "ELR", "rho^2 x"]]
        table += [_row(period) for period in shown]
        console.print(columns(table, (), {}))
        hidden = len(found.periods) - len(shown)
        if hidden:
            console.print(f" the last {len(shown)} of {len(found.periods)}; --all shows all", style="dim")
        console.print(
            textwrap.fill(
                "A norm grows, B norm shrinks, C break-down, in steps; lead: steps by which the loss rises before "
                "the norm; ELR and rise of rho^2 at the break-down that ends the period; * within the burn-in",
                _WIDTH,
                initial_indent=" ",
                subsequent_indent=" ",
            ),
            style="dim",
        )
    console.print()
    for sentence in found.evidence:
        console.print(escape(textwrap.fill(sentence, _WIDTH, initial_indent="- ", subsequent_indent="  ")))


def _row(period: Period) -> list[str]:
    spans = [str(span[1] - span[0]) for span in (period.a, period.b, period.c)]
    return [
        f"{period.start}{'' if period.settled else '*'}",
        str(period.length),
        _number(period.time, ".2f"),
        *spans,
        _number(period.lead, ".0f"),
        _number(period.min_loss),
        _number(period.elr),
        _number(math.exp(period.log_rise) if math.isfinite(period.log_rise) else math.nan, ".3g"),
    ]


def _number(value: float, form: str = ".2g") -> str:
    return number(value if math.isfinite(value) else None, form)

"""Run ``scaleinv periods``: the answer, the table of periods, the evidence."""

import json
import math
import textwrap
from typing import Any

from rich.markup import escape

from scaleinv.analysis.periods import Definition, Period, Periods, find_periods
from scaleinv.analysis.periods.find import is_run
from scaleinv.cli.periods import PeriodsCommand
from scaleinv.cli.tables import columns, console, number
from scaleinv.errors import UserError
from scaleinv.studies.terminal import say

_STYLE = {"periodic": "yellow", "equilibrium": "green", "none": "green", "not yet": "cyan", "undecided": "dim"}
_WIDTH = 80


def run(command: PeriodsCommand) -> int:
    """Find the periods and print them. Exit status 0: printed."""
    definition = Definition(rise=command.rise, burn_in=command.burn_in, plain=command.plain)
    names = ("lr", "weight_decay", "momentum", "optimizer", "columns", "steps_per_epoch")
    flags = {name: getattr(command, name) for name in names}
    of_periods = {"columns": "names", "weight_decay": "wd"}
    given = {of_periods.get(name, name): value for name, value in flags.items() if value is not None}
    source: Any = command.source[0] if len(command.source) == 1 else command.source
    if is_run(source) and given:
        name = next(name for name, value in flags.items() if value is not None)
        raise UserError(f"--{name.replace('_', '-')}: the folder of a run knows its own; leave it out")
    try:
        found = find_periods(source, **given, definition=definition)
    except UserError as error:
        # mistakes in columns do not name the file themselves
        known = str(error).startswith("--") or any(str(path) in str(error) for path in command.source)
        raise error if known else UserError(f"{command.source[0]}: {error}") from None
    if command.json:
        said = {"source": ", ".join(map(str, command.source)), **found.to_dict()}
        say(json.dumps(said, indent=1, allow_nan=False))
    else:
        print_periods(found, rows=None if command.all else 12)
    return 0


def print_periods(found: Periods, rows: int | None) -> None:
    """Print the answer, the last ``rows`` periods (None: all) and the evidence, within 80 columns, or what there is."""
    terminal = console()
    width = min(_WIDTH, terminal.width)
    style = "red" if found.diverged_at is not None else _STYLE[found.verdict_words]
    head = textwrap.fill(found.answer, width)
    terminal.print(f"[bold {style}]{escape(head)}[/]")
    if found.periods:
        shown = found.periods if rows is None else found.periods[-rows:]
        terminal.print()
        table = [["start", "length", "/(lr wd)", "A", "B", "C", "lead", "min loss", "ELR", "rho^2 x"]]
        table += [_row(period) for period in shown]
        terminal.print(columns(table))
        hidden = len(found.periods) - len(shown)
        if hidden:
            terminal.print(f" the last {len(shown)} of {len(found.periods)}; --all shows all", style="dim")
        terminal.print(
            textwrap.fill(
                "A norm grows, B norm shrinks, C break-down, in steps; lead: steps by which the loss rises before "
                "the norm; ELR and rise of rho^2 at the break-down that ends the period; * within the burn-in",
                width,
                initial_indent=" ",
                subsequent_indent=" ",
            ),
            style="dim",
        )
    terminal.print()
    for sentence in found.evidence:
        terminal.print(escape(textwrap.fill(sentence, width, initial_indent="- ", subsequent_indent="  ")))


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

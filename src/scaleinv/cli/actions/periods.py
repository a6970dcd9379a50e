"""What ``scaleinv periods`` does."""

from __future__ import annotations

import json

from scaleinv.analysis.periods import Definition, find_periods
from scaleinv.analysis.periods.log_file import read_csv
from scaleinv.cli.periods import PeriodsCommand
from scaleinv.cli.periods_page import print_periods
from scaleinv.errors import UserError


def run(command: PeriodsCommand) -> int:
    """0: told."""
    definition = Definition(rise=command.rise, burn_in=command.burn_in, plain=command.plain)
    flags = {"lr": command.lr, "wd": command.wd, "momentum": command.momentum}
    given = {name: value for name, value in flags.items() if value is not None}
    if command.source.is_dir():
        if given:
            raise UserError(f"--{next(iter(given))}: the folder of a run knows its own; leave it out")
        found = find_periods(command.source, definition=definition)
    else:
        table = read_csv(command.source)
        twice = [name for name in given if name in table]
        if twice:
            raise UserError(f"--{twice[0]}: {command.source} has a column {twice[0]}; leave one of the two out")
        try:
            found = find_periods(**{**table, **given}, definition=definition)
        except UserError as error:
            raise UserError(f"{command.source}: {error}") from None
    if command.json:
        print(json.dumps({"source": str(command.source), **found.to_dict()}, indent=1, allow_nan=False))
    else:
        print_periods(found, rows=None if command.all else 12)
    return 0

"""``scaleinv periods``: does this training break down again and again, and when next?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.errors import UserError


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class PeriodsCommand:
    """Find the periods of a training with weight decay: break-downs, phases, intervals, when the next is due.

    Reads the folder of a run (made with --lr, or by the monitor) or a CSV log with the columns step, loss, rho (norm of
    the scale-invariant weights) and, if there, eg (effective gradient norm, rho times gradient norm; or g, the gradient
    norm), lr and wd. Example: scaleinv periods log.csv --lr 0.1 --wd 5e-4
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LOG.csv|RUN")]
    """A CSV log, or the folder of a run."""
    lr: float | None = None
    """Learning rate, where the log has no column lr."""
    wd: float | None = None
    """Weight decay, where the log has no column wd."""
    momentum: float | None = None
    """Momentum of SGD, where a log is of such a training: its rate counts lr/(1 - momentum)."""
    rise: float = 0.05
    """Least rise of rho^2 that makes an event."""
    burn_in: float = 2.0
    """Steps not counted at the start, in units of 1/(lr wd)."""
    plain: bool = False
    """Count every rise of rho^2, with a spike of loss and effective gradient or without."""
    all: bool = False
    """Print every period, not the last 12 only."""
    json: bool = False
    """Print one JSON object on stdout and nothing else."""

    def run(self) -> int:
        """0: told."""
        from scaleinv.analysis.periods import Definition, find_periods
        from scaleinv.analysis.periods.log_file import read_csv
        from scaleinv.cli.periods_page import print_periods

        self._check()
        definition = Definition(rise=self.rise, burn_in=self.burn_in, plain=self.plain)
        flags = {"lr": self.lr, "wd": self.wd, "momentum": self.momentum}
        given = {name: value for name, value in flags.items() if value is not None}
        if self.source.is_dir():
            if given:
                raise UserError(f"--{next(iter(given))}: the folder of a run knows its own; leave it out")
            found = find_periods(self.source, definition=definition)
        else:
            table = read_csv(self.source)
            twice = [name for name in given if name in table]
            if twice:
                raise UserError(f"--{twice[0]}: {self.source} has a column {twice[0]}; leave one of the two out")
            try:
                found = find_periods(**{**table, **given}, definition=definition)
            except UserError as error:
                raise UserError(f"{self.source}: {error}") from None
        if self.json:
            print(json.dumps({"source": str(self.source), **found.to_dict()}, indent=1, allow_nan=False))
        else:
            print_periods(found, rows=None if self.all else 12)
        return 0

    def _check(self) -> None:
        """Numbers of the command line, by the names they have there."""
        if not (math.isfinite(self.rise) and self.rise > 0):
            raise UserError(f"--rise {self.rise:g}: the least rise of rho^2 is a number above 0, such as 0.05 (5 %)")
        if not (math.isfinite(self.burn_in) and self.burn_in >= 0):
            raise UserError(f"--burn-in {self.burn_in:g}: a burn-in is a number of at least 0, in units of 1/(lr wd)")
        for name, value in (("lr", self.lr), ("wd", self.wd)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"--{name} {value:g}: a rate is a number of at least 0; leave it out where unknown")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UserError(f"--momentum {self.momentum:g}: that of SGD is a number from 0 to below 1, such as 0.9")

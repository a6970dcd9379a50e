"""``scaleinv periods``: does this training break down again and again, and when next?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import parser
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

    def check(self) -> None:
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


parse = parser(PeriodsCommand)

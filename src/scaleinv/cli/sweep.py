"""``scaleinv sweep``: many rates, one regime map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import parser
from scaleinv.errors import UserError
from scaleinv.lab.config import CommonSettings, check_settings
from scaleinv.studies.grid import parse_grid


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class SweepCommand(CommonSettings):
    """Train one network at many effective learning rates and map the three regimes.

    All runs of a seed share their initialisation and batch order. DIR is the sweep's folder; the same command again
    goes on where it stopped, and only shows the map once all runs have ended. Writes DIR/sweep.json and
    DIR/report.html. In the whole space (--lr) the runs may differ in --weight-decay too.
    """

    out: Path
    """Folder of the sweep."""
    elr: str | None = None
    """Effective learning rates: a:b:n for n log-spaced values, or a comma list."""
    lr: str | None = None
    """Learning rates in the whole space instead, in the same form."""
    weight_decay: str = "0"
    """Weight decays, in the same form (in the whole space only)."""
    start: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[@EPOCH]|SWEEP")] = None
    """Go on from the weights of a run, or from those of every run of a sweep, at all rates; with a fresh optimizer."""
    seeds: int | None = None
    """Number of seeds: every rate is run with seeds 0 to N-1 (default: 1; with --from the seed of the run)."""
    workers: int | None = None
    """Runs at a time, one thread each (default: one a core)."""
    json: bool = False
    """Print the content of sweep.json on stdout."""
    quiet: bool = False
    """Show no progress."""

    def decays(self) -> list[float]:
        """The weight decays."""
        return parse_grid(self.weight_decay, "weight-decay", zero=True)

    def axis_values(self) -> tuple[str, list[float]]:
        """elr or lr, and its values."""
        if (self.elr is None) == (self.lr is None):
            example = "for example --elr 1e-4:1:21"
            raise UserError(f"give one of --elr (on the sphere) and --lr (in the whole space), {example}")
        axis = "elr" if self.elr is not None else "lr"
        return axis, parse_grid(self.elr if self.elr is not None else self.lr or "", axis)

    def check(self) -> None:
        """Refuse what needs no data set to be refused."""
        check_settings(self.with_weight_decay(self.decays()[0]))
        self.axis_values()
        for name, number in (("seeds", self.seeds), ("workers", self.workers)):
            if number is not None and number < 1:
                raise UserError(f"{name} {number}: at least one is needed")


parse = parser(SweepCommand)

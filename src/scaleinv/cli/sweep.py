"""``scaleinv sweep``: many rates, one regime map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.own import OwnFlags
from scaleinv.cli.parse import (
    MOST_SEEDS,
    MOST_WORKERS,
    Cancel,
    LauncherArgs,
    LauncherName,
    Quiet,
    Workers,
    check_at_least,
)
from scaleinv.errors import UserError
from scaleinv.lab.config import CommonSettings, check_settings
from scaleinv.lab.launch.names import check_launcher
from scaleinv.studies.grid import parse_grid

#: each is a folder, and a point of the map
MOST_RUNS = 100_000


@dataclass(frozen=True, kw_only=True)
class SweepCommand(CommonSettings, OwnFlags):
    """Train one network at many effective learning rates and map the three regimes.

    All runs of a seed share their initialisation and batch order. DIR is the sweep's folder; the same command again
    resumes where it stopped, and only shows the map once all runs have ended. Writes DIR/sweep.json and
    DIR/report.html. In the whole space (--lr) the runs may differ in --weight-decay too.
    """

    out: Path | None = None
    """Folder of the sweep (default: runs/<problem>-<hash>)."""
    elr: str | None = None
    """Effective learning rates: a:b:n for n log-spaced values, or a comma list."""
    lr: str | None = None
    """Learning rates in the whole space instead, in the same form."""
    weight_decay: str = "0"
    """Weight decays, in the same form (in the whole space only)."""
    start: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[@EPOCH]|SWEEP")] = None
    """Start from the weights of a run, or from those of every run of a sweep, at all rates; with a fresh optimizer."""
    seeds: int | None = None
    """Number of seeds: every rate is run with seeds 0 to N-1 (default: 1; with --from the seed of the run)."""
    workers: Workers = None
    launcher: LauncherName = "processes"
    launcher_args: LauncherArgs = ""
    prepare: bool = False
    """Only write the run folders and print them, for `scaleinv run` under an engine of your own."""
    cancel: Cancel = False
    json: bool = False
    """Print the content of sweep.json on stdout, and nothing else."""
    quiet: Quiet = False

    def decays(self) -> list[float]:
        """Read the weight decays."""
        return parse_grid(self.weight_decay, "weight-decay", zero=True)

    def axis_values(self) -> tuple[str, list[float]]:
        """Read which of elr and lr was given, and its values."""
        if (self.elr is None) == (self.lr is None):
            raise UserError("give one of --elr (on the sphere) and --lr (in the whole space), such as --elr 1e-4:1:21")
        axis = "elr" if self.elr is not None else "lr"
        return axis, parse_grid(self.elr if self.elr is not None else self.lr or "", axis)

    def check(self) -> None:
        """Refuse what can be refused before the data set is read."""
        check_settings(self.with_weight_decay(self.decays()[0]))
        self.axis_values()
        self.arguments()
        check_at_least(1, MOST_SEEDS, seeds=self.seeds)
        check_at_least(1, MOST_WORKERS, workers=self.workers)
        runs = len(self.axis_values()[1]) * len(self.decays()) * (self.seeds or 1)
        if runs > MOST_RUNS:
            raise UserError(f"this sweep has {runs} runs, more than {MOST_RUNS}; is that meant? Make it in parts")
        check_launcher(self.launcher, self.launcher_args)

"""``scaleinv train``: one run in a folder of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.own import OwnFlags
from scaleinv.cli.parse import Json, NoCheck, Quiet, check_at_least
from scaleinv.errors import UserError
from scaleinv.lab.config import MOST_THREADS, Settings, check_settings
from scaleinv.runfolder.threads import cores
from scaleinv.text import count


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Settings, OwnFlags):
    """Train one network, on the sphere (--elr) or in the whole space (--lr), and record its metrics.

    DIR is the run's folder. The same command again resumes where it stopped; a run that has ended is only shown.
    """

    out: Path | None = None
    """Folder of the run (default: runs/<problem>-<hash>)."""
    elr: float | None = None
    """Effective learning rate: train on the sphere."""
    lr: float | None = None
    """Learning rate: train in the whole space."""
    start: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[@EPOCH]")] = None
    """Start from the weights another run ended with, or kept after EPOCH (--keep-every), with a fresh optimizer."""
    seed: int | None = None
    """Seed of initialisation, head, batch order and augmentation (default: 0; with --from that of the run)."""
    threads: int | None = None
    """Threads of torch (default: all cores; on digits 1, its steps are too small to share); part of the identity."""
    no_check: NoCheck = False
    oversubscribe: bool = False
    """Take more --threads than this process has cores: they wait for one another, so this is only for numbers of a
    machine with more."""
    json: Json = False
    quiet: Quiet = False

    def check(self) -> None:
        """Refuse what can be refused before the data set is read."""
        check_settings(self)
        self.arguments()
        check_at_least(1, MOST_THREADS, threads=self.threads)
        if self.threads is not None and self.threads > cores() and not self.oversubscribe:
            raise UserError(
                f"--threads {self.threads}: this process has {count(cores(), 'core')}, and more threads wait for one "
                "another; add --oversubscribe to insist"
            )
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed} is not a whole number from 0 to 2^63 - 1")
        if (self.elr is None) == (self.lr is None):
            raise UserError("give one of --elr (train on the sphere) and --lr (train in the whole space)")

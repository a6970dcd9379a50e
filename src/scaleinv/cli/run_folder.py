"""``scaleinv run``: train a prepared run folder to its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import DataDir, Json, Quiet
from scaleinv.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """Train the config.json in FOLDER to its end, from wherever it stands: for make, xargs, ssh or any engine.

    Exit status 0: the run has ended, diverged or not. 75: stopped in time by SIGTERM, SIGUSR1, SIGUSR2 or --time-limit,
    with a checkpoint; the same command resumes it. `scaleinv sweep ... --prepare` writes such folders.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """The folder of a run, with its config.json."""
    time_limit: float | None = None
    """Stop after so many minutes, with a checkpoint and exit code 75."""
    data_dir: DataDir = None
    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE")] = None
    """Which device of the type the run was made for (default: the first)."""
    json: Json = False
    quiet: Quiet = False

    def check(self) -> None:
        """Refuse a time limit that is none."""
        if self.time_limit is not None and not self.time_limit > 0:
            raise UserError(f"--time-limit {self.time_limit:g}: must be a positive number of minutes")

"""``scaleinv run FOLDER``: train the config.json in a folder to its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import DataDir, Json, Quiet


@dataclass(frozen=True)
class RunCommand:
    """Train the run whose config.json lies in FOLDER to its end, from wherever it stopped, on any machine.

    A run that has ended is only shown. This is what an engine, make or ssh can start again at any time.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """The folder of a run, with its config.json."""
    data_dir: DataDir = None
    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE")] = None
    """Which device of the type the run was made for (default: the first)."""
    json: Json = False
    quiet: Quiet = False

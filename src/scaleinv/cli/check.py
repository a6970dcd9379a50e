"""``scaleinv check DIR``: are the files of runs, sweeps and caches as they were written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import Json
from scaleinv.errors import UserError


@dataclass(frozen=True)
class CheckCommand:
    """Compare every file of runs, monitored runs, sweeps and caches of `verify` with its checksum.

    Prints which files are damaged, and what can still be used. Reads alone; a folder may be in use. Exit status 0: all
    files are as they were written. 1: some are damaged.
    """

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR [DIR ...]")]
    """The folder of a run, a sweep or a cache, or one that holds several."""
    json: Json = False

    def check(self) -> None:
        """At least one folder."""
        if not self.folders:
            raise UserError("which folder? scaleinv check DIR, the folder of a run or a sweep")

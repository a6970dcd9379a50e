"""``scaleinv report DIR``: the HTML page (or the figures) of a run or a sweep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import Json, NoCheck
from scaleinv.errors import UserError


@dataclass(frozen=True)
class ReportCommand:
    """Write the HTML page of a run or a sweep: one file that opens from disk, without network.

    Several folders, of sweeps, runs and monitored trainings, make one regime map. The last line printed is the path of
    the page.
    """

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR [DIR ...]")]
    """The folder of a run or of a sweep; it may still be in progress. Several make one map."""
    out: Path | None = None
    """Where to write: an .html file, or a folder for report.html. Default: DIR/report.html; of several in the
    folder that holds them all."""
    format: str | None = None
    """Also write every figure as files into figures/ beside the page: a comma list of svg, pdf, png."""
    no_check: NoCheck = False
    json: Json = False

    def check(self) -> None:
        """At least one folder; the figures of several are those of the page."""
        if not self.folders:
            raise UserError("which folder? scaleinv report DIR, the folder of a run or a sweep")
        if len(self.folders) > 1 and self.format is not None:
            raise UserError("--format is for one folder; the page of several holds its figures")

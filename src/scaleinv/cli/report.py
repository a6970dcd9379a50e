"""``scaleinv report DIR``: the HTML page (or the figures) of a run or a sweep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import Json


@dataclass(frozen=True)
class ReportCommand:
    """Write the HTML page of a run or a sweep: one file that opens from disk, without network.

    The last line printed is the path of the page.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder of a run or of a sweep; it may still be in progress."""
    out: Path | None = None
    """Where to write: an .html file, or a folder for report.html. Default: DIR/report.html."""
    format: str | None = None
    """Also write every figure as files into figures/ beside the page: a comma list of svg, pdf, png."""
    json: Json = False

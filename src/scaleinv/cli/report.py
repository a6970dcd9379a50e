"""``scaleinv report DIR``: the HTML page (or the figures) of a run or a sweep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


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

    json: bool = False
    """Print the paths as one JSON object."""

    def run(self) -> int:
        from scaleinv.report import write_figures, write_report

        figures = []
        if self.format is not None:
            formats = [name.strip().lower() for name in self.format.split(",") if name.strip()]
            figures = write_figures(self.folder, formats, self.out)
        page = write_report(self.folder, self.out)
        if self.json:
            print(json.dumps({"report": str(page), "figures": [str(path) for path in figures]}))
            return 0
        if figures:
            print(f"{len(figures)} figures in {figures[0].parent}")
        print(page)
        return 0

"""``scaleinv reproduce FIGURE``: draw the figures of the papers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scaleinv.cli.parse import (
    MOST_WORKERS,
    Cancel,
    CpuDevice,
    Json,
    LauncherArgs,
    LauncherName,
    Quiet,
    Workers,
    check_at_least,
    names_in,
)
from scaleinv.errors import UserError
from scaleinv.lab.launch.names import check_launcher
from scaleinv.papers import shelf
from scaleinv.papers.figure import FigureEntry
from scaleinv.papers.scales import SCALES, Scale
from scaleinv.plots.style import FORMATS


@dataclass(frozen=True)
class ReproduceCommand:
    """Draw figures of the papers: train what they need, write SVG, PDF, PNG and the numbers drawn as JSON into DIR.

    Runs are kept in --runs: the same command again resumes where it was stopped, and trains nothing twice.

    Example: scaleinv reproduce fig1 fig3 fig4 --scale digits
    """

    figures: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FIGURE")] = ()
    """Ids of figures, for example fig3 fig4; --list shows them."""
    scale: str | None = None
    """toy, digits, mnist, cifar-tiny, cifar-small or paper, of those a figure has (default: its cheapest)."""
    all: bool = False
    """Draw all figures (of the scale given, or each at its cheapest), and DIR/index.html with all that lie in DIR."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("figures")
    """Folder to write to."""
    runs: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/reproduce")
    """Folder where training runs are kept and found again."""
    workers: Workers = None
    format: str = "svg,pdf,png"
    """Formats, a comma list of svg, pdf and png."""
    list: bool = False
    """Show the figures with their scales and what they cost in core-seconds; draw nothing."""
    device: CpuDevice = "cpu"
    launcher: LauncherName = "processes"
    launcher_args: LauncherArgs = ""
    cancel: Cancel = False
    json: Json = False
    quiet: Quiet = False

    def formats(self) -> tuple[str, ...]:
        """Give the formats in the order given; UserError for an unknown one."""
        formats = names_in(self.format.lower())
        for name in formats or (self.format,):
            if name not in FORMATS:
                raise UserError(f"unknown figure format {name!r}; choose from: {', '.join(FORMATS)}")
        return formats

    def chosen(self) -> Sequence[tuple[FigureEntry, Scale]]:
        """Choose the figures with their scale; :class:`UserError` where one does not exist."""
        known = shelf.figures()
        if self.scale is not None and self.scale not in SCALES:
            raise UserError(f"unknown scale {self.scale!r}; choose one of: {', '.join(SCALES)}")
        if self.all and self.figures:
            raise UserError(f"--all and {self.figures[0]}: give one of the two")
        if self.figures:
            entries = [shelf.find_figure(id) for id in dict.fromkeys(self.figures)]
            return [(entry, entry.choose(self.scale)) for entry in entries]
        if not (self.all or self.list):
            raise UserError(f"name a figure, or --all; choose from: {', '.join(known)}")
        having = [entry for entry in known.values() if self.scale is None or self.scale in entry.scales]
        if not having:
            raise UserError(f"no figure has the scale {self.scale}")
        return [(entry, entry.choose(self.scale)) for entry in having]

    def check(self) -> None:
        """Refuse unknown figures, scales and formats, and less than one worker."""
        self.formats()
        check_at_least(1, MOST_WORKERS, workers=self.workers)
        check_launcher(self.launcher, self.launcher_args)
        self.chosen()

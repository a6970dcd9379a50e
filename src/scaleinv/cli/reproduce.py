"""``scaleinv reproduce FIGURE``: draw the figures of the papers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from scaleinv.lab.launch.base import Job
    from scaleinv.lab.train import RunEvent
    from scaleinv.papers.figure import FigureEntry
    from scaleinv.papers.scales import Scale


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class ReproduceCommand:
    """Draw figures of the papers: train what they need, write SVG, PDF, PNG and the numbers drawn as JSON into DIR.

    Runs are kept in --runs: the same command again goes on where it was stopped, and trains nothing twice.
    Example: scaleinv reproduce fig1 fig3 fig4 --scale digits
    """

    figures: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FIGURE")] = ()
    """Ids of figures, for example fig3 fig4; --list shows them."""

    scale: str | None = None
    """toy, digits, mnist, cifar-tiny, cifar-small or paper, of those a figure has (default: its cheapest)."""

    all: bool = False
    """All figures (of the scale given, or each at its cheapest) and a page with all that lie in DIR, DIR/index.html."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("figures")
    """Folder to write to."""

    runs: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/reproduce")
    """Folder where training runs are kept and found again."""

    workers: int | None = None
    """Runs at a time, one thread each (default: one a core)."""

    format: str = "svg,pdf,png"
    """Formats, a comma list of svg, pdf and png."""

    list: bool = False
    """Show the figures with their scales and what they cost in core-seconds; draw nothing."""

    json: bool = False
    """Print one JSON object on stdout: the files, or the list."""

    quiet: bool = False
    """Show no progress."""

    def run(self) -> int:
        """0: drawn."""
        from scaleinv.errors import UserError
        from scaleinv.papers.context import Context
        from scaleinv.papers.gallery import write_gallery
        from scaleinv.plots.style import FORMATS

        formats = tuple(dict.fromkeys(name.strip().lower() for name in self.format.split(",") if name.strip()))
        for name in formats or (self.format,):
            if name not in FORMATS:
                raise UserError(f"unknown figure format {name!r}; choose from: {', '.join(FORMATS)}")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers {self.workers}: at least one is needed")
        chosen = self._chosen()
        if self.list:
            _list([entry for entry, _ in chosen], self.json)
            return 0
        there = next(path for path in (self.out, *self.out.parents) if path.exists())
        if not there.is_dir():
            raise UserError(f"{there} is a file, not a folder; choose another --out")
        from scaleinv.runfolder.environment import cores
        from scaleinv.studies.progress import ProgressView, describe

        paths: list[Path] = []
        try:
            with ProgressView(total=1, quiet=self.quiet) as view:

                def watch(job: Job, event: RunEvent) -> None:
                    view.event(job.config, event)
                    if event.kind == "ended":
                        view.say(f"{describe(job.config)}: ended after {event.step} steps")

                workers = self.workers if self.workers is not None else cores()
                for number, (entry, scale) in enumerate(chosen, 1):
                    head = f"[{number}/{len(chosen)}] {entry.id} ({scale})"
                    view.say(
                        f"{head}: {entry.title}; about {_cost(entry.scales[scale])} of one core where no run is kept"
                    )
                    begin = time.perf_counter()
                    context = Context(scale, self.runs, workers, watch)
                    paths += entry.make(context, self.out, formats).paths
                    view.say(f"{head}: drawn, {time.perf_counter() - begin:.1f} s")
            if self.all:
                paths.append(write_gallery(self.out, [entry for entry, _ in chosen]))
        finally:  # what is there is told, whatever stops the rest
            if self.json:
                print(json.dumps({"files": [str(path) for path in paths]}))
            else:
                for path in paths:
                    print(path)
        return 0

    def _chosen(self) -> Sequence[tuple[FigureEntry, Scale]]:
        """The figures with their scale; a :class:`UserError` where one is not there."""
        from scaleinv.errors import UserError
        from scaleinv.papers.scales import SCALES
        from scaleinv.papers.shelf import figures, find_figure

        known = figures()
        if self.scale is not None and self.scale not in SCALES:
            raise UserError(f"unknown scale {self.scale!r}; choose one of: {', '.join(SCALES)}")
        if self.all and self.figures:
            raise UserError(f"--all and {self.figures[0]}: give one of the two")
        if self.figures:
            entries = [find_figure(id) for id in dict.fromkeys(self.figures)]
            return [(entry, entry.choose(self.scale)) for entry in entries]
        if not (self.all or self.list):
            raise UserError(f"name a figure, or --all; choose from: {', '.join(known)}")
        having = [entry for entry in known.values() if self.scale is None or self.scale in entry.scales]
        if not having:
            raise UserError(f"no figure has the scale {self.scale}")
        return [(entry, entry.choose(self.scale)) for entry in having]


def _cost(seconds: float) -> str:
    """``40 s``, ``5 min``, ``1.5 h``, ``12 days``: core time in words."""
    for unit, size, most in (("s", 1.0, 120.0), ("min", 60.0, 5400.0), ("h", 3600.0, 48 * 3600.0)):
        if seconds < most:
            return f"{seconds / size:.2g} {unit}" if seconds / size < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _list(entries: list[FigureEntry], as_json: bool) -> None:
    if as_json:
        fields = ("id", "paper", "place", "title")
        listed = [{**{f: getattr(e, f) for f in fields}, "scales": dict(e.scales)} for e in entries]
        print(json.dumps({"figures": listed}))
        return
    wide = max(len(entry.id) for entry in entries)
    for entry in entries:
        print(f"{entry.id:<{wide}}  {entry.title} ({entry.paper}, {entry.place})")
        costs = ", ".join(f"{scale} {_cost(cost)}" for scale, cost in entry.scales.items())
        print(f"{'':<{wide}}  scales, in time of one core: {costs}")

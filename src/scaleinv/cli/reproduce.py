"""``scaleinv reproduce FIGURE``: draw the figures of the papers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class ReproduceCommand:
    """Draw a figure of the papers: runs what it needs, writes SVG, PDF, PNG and the numbers drawn as JSON into DIR."""

    figure: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="FIGURE")] = None
    """Id of the figure, for example fig6-left; all figures of the scale toy with `toy`."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write to (default: figures/)."""

    format: str = "svg,pdf,png"
    """Formats, a comma list of svg, pdf and png."""

    list: bool = False
    """Show the figures with their scale and cost in core-seconds; draw nothing."""

    json: bool = False
    """Print one JSON object on stdout: the files, or the list."""

    def run(self) -> int:
        """0: drawn."""
        from scaleinv.errors import UserError
        from scaleinv.figures.registry import figures, find
        from scaleinv.figures.style import FORMATS

        known = figures()
        if self.list:
            fields = ("id", "paper", "place", "title", "scale", "cost")
            if self.json:
                print(json.dumps({"figures": [{f: getattr(e, f) for f in fields} for e in known.values()]}))
                return 0
            wide = max(map(len, known))
            for entry in known.values():
                source = f"{entry.paper}, {entry.place}: {entry.title}"
                print(f"{entry.id:<{wide}}  {entry.scale:<11}  {entry.cost:>6g} core-s  {source}")
            return 0
        if self.figure is None:
            raise UserError(f"name a figure; choose one of: {', '.join(known)} (or `toy` for all of that scale)")
        formats = [name.strip().lower() for name in self.format.split(",") if name.strip()]
        for name in formats or [self.format]:
            if name not in FORMATS:
                raise UserError(f"unknown figure format {name!r}; choose from: {', '.join(FORMATS)}")
        chosen = [e for e in known.values() if e.scale == "toy"] if self.figure == "toy" else [find(self.figure)]
        paths: list[Path] = []
        for entry in chosen:
            paths += entry.draw(self.out or Path("figures"), formats).paths
        if self.json:
            print(json.dumps({"files": [str(path) for path in paths]}))
        else:
            for path in paths:
                print(path)
        return 0

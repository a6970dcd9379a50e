"""``scaleinv landscape FOLDER``: curvature, paths, walks, averages and minima of finished runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from scaleinv.errors import UserError


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class LandscapeCommand:
    """Measure the loss landscape where the runs of FOLDER ended: curvature, paths between minima, walks.

    FOLDER is a sweep or a run that has ended. The numbers are kept in FOLDER/landscape.json, and `scaleinv report
    FOLDER` shows them; the same command again measures only what is missing.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of a run or of a sweep."""
    parts: str | None = None
    """A comma list of: sharpness (top eigenvalue and trace of the Hessian at the unit sphere), paths (between runs at
    neighbouring rates), walks (SGD against a random walk and gradient ascent at one ELR, from a fresh initialisation),
    averages (is the region of the last half of each run convex: loss at the mean of its iterates and along segments),
    minima (of the periods of runs in the whole space: angles, equal predictions, ensembles of two). The last two need
    runs made with --keep-every. Default: sharpness, and the paths of a sweep."""
    images: int | None = None
    """Curvature is taken on the first so many train images (default: 512; all where there are fewer)."""
    walk_elr: float | None = None
    """ELR of the walks (default: the largest of the sweep)."""
    walk_steps: int | None = None
    """Steps of a walk (default: 300)."""
    walk_seeds: int | None = None
    """Walks of each kind (default: 3)."""
    data_dir: Path | None = None
    """Folder of the data sets (default: the environment variable SCALEINV_DATA)."""
    json: bool = False
    """Print the content of landscape.json on stdout."""
    quiet: bool = False
    """Show no progress."""

    def run(self) -> int:
        """0: measured."""
        from scaleinv.cli.landscape_page import print_landscape
        from scaleinv.landscape.minima import lowest_epochs
        from scaleinv.runfolder.files import json_text
        from scaleinv.studies.landscape import PARTS, Study, damaged, study
        from scaleinv.studies.progress import Counted

        parts = None
        if self.parts is not None:
            parts = tuple(dict.fromkeys(part.strip() for part in self.parts.split(",") if part.strip()))
        if parts == ():
            raise UserError(f"parts {self.parts!r} names nothing; choose from: {', '.join(PARTS)}")
        for name, number, least in (
            ("images", self.images, 2),
            ("walk-steps", self.walk_steps, 2),
            ("walk-seeds", self.walk_seeds, 1),
        ):
            if number is not None and number < least:
                raise UserError(f"{name} {number} is too few; at least {least}")
        if self.walk_elr is not None and not 0 < self.walk_elr < float("inf"):
            raise UserError(f"walk-elr {self.walk_elr} is not a positive number")
        numbers: dict[str, Any] = {
            "images": self.images,
            "walk_elr": self.walk_elr,
            "walk_steps": self.walk_steps,
            "walk_seeds": self.walk_seeds,
        }
        numbers = {name: number for name, number in numbers.items() if number is not None}
        for name, number in numbers.items():
            part = "walks" if name.startswith("walk") else "sharpness"
            if part not in (parts or ("sharpness", "paths")):
                raise UserError(f"--{name.replace('_', '-')} {number} needs --parts {part}")
        settings = Study(**numbers)

        lacking: list[str] = []
        with Counted("measuring", quiet=self.quiet) as counted:

            def watch(what: str, _: int, total: int) -> None:
                counted.total = total
                counted.done(what)

            content = study(
                self.folder,
                parts,
                settings=settings,
                data_dir=self.data_dir,
                lowest=lowest_epochs,
                watch=watch,
                say=lacking.append,
            )
        for line in lacking:
            print(line, file=sys.stderr)
        if self.json:
            print(json_text(content))
            return 0
        try:
            print_landscape(content, self.folder)
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # what was kept, not what was measured
            raise damaged(self.folder, error) from error
        return 0

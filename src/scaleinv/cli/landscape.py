"""``scaleinv landscape FOLDER``: curvature, paths, walks, averages and minima of finished runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from scaleinv.cli.parse import parser
from scaleinv.errors import UserError
from scaleinv.runfolder.layout import LANDSCAPE_PARTS as PARTS


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

    def chosen_parts(self) -> tuple[str, ...] | None:
        """The parts named; None: the default."""
        if self.parts is None:
            return None
        return tuple(dict.fromkeys(part.strip() for part in self.parts.split(",") if part.strip()))

    def numbers(self) -> dict[str, Any]:
        """The numbers given."""
        names = ("images", "walk_elr", "walk_steps", "walk_seeds")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def check(self) -> None:
        """Parts that are known, numbers that make sense and belong to a part that is measured."""
        parts = self.chosen_parts()
        if parts == ():
            raise UserError(f"parts {self.parts!r} names nothing; choose from: {', '.join(PARTS)}")
        for part in parts or ():
            if part not in PARTS:
                raise UserError(f"unknown part {part!r}; choose from: {', '.join(PARTS)}")
        for name, least in (("images", 2), ("walk_steps", 2), ("walk_seeds", 1)):
            number = getattr(self, name)
            if number is not None and number < least:
                raise UserError(f"{name.replace('_', '-')} {number} is too few; at least {least}")
        if self.walk_elr is not None and not 0 < self.walk_elr < float("inf"):
            raise UserError(f"walk-elr {self.walk_elr} is not a positive number")
        for name, number in self.numbers().items():
            part = "walks" if name.startswith("walk") else "sharpness"
            if part not in (parts or ("sharpness", "paths")):
                raise UserError(f"--{name.replace('_', '-')} {number} needs --parts {part}")


parse = parser(LandscapeCommand)

"""``scaleinv landscape FOLDER``: curvature, paths, walks, averages and minima of finished runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from scaleinv.cli.parse import (
    MOST_SEEDS,
    MOST_WORKERS,
    Cancel,
    DataDir,
    Device,
    LauncherArgs,
    LauncherName,
    NoCheck,
    Quiet,
    check_at_least,
    names_in,
)
from scaleinv.errors import UserError
from scaleinv.lab.launch.names import check_launcher
from scaleinv.runfolder.layout import LANDSCAPE_PARTS as PARTS


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
    data_dir: DataDir = None
    device: Device = "auto"
    workers: Annotated[
        int | None,
        tyro.conf.arg(help="Pieces measured at a time (default: one after another, on all threads of this process)."),
    ] = None
    launcher: LauncherName = "processes"
    launcher_args: LauncherArgs = ""
    cancel: Cancel = False
    json: bool = False
    """Print the content of landscape.json on stdout, and nothing else."""
    no_check: NoCheck = False
    quiet: Quiet = False

    def chosen_parts(self) -> tuple[str, ...] | None:
        """Give the parts named; None: the default."""
        return None if self.parts is None else names_in(self.parts)

    def numbers(self) -> dict[str, Any]:
        """Give the numbers that were set."""
        names = ("images", "walk_elr", "walk_steps", "walk_seeds")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def check(self) -> None:
        """Refuse unknown parts, numbers that are too small and numbers of a part that is not measured."""
        parts = self.chosen_parts()
        if parts == ():
            raise UserError(f"parts {self.parts!r} names nothing; choose from: {', '.join(PARTS)}")
        for part in parts or ():
            if part not in PARTS:
                raise UserError(f"unknown part {part!r}; choose from: {', '.join(PARTS)}")
        check_at_least(2, images=self.images, walk_steps=self.walk_steps)
        check_at_least(1, MOST_SEEDS, walk_seeds=self.walk_seeds)
        check_at_least(1, MOST_WORKERS, workers=self.workers)
        check_launcher(self.launcher, self.launcher_args)
        if self.walk_elr is not None and not 0 < self.walk_elr < float("inf"):
            raise UserError(f"walk-elr {self.walk_elr} is not a positive number")
        for name, number in self.numbers().items():
            part = "walks" if name.startswith("walk") else "sharpness"
            if part not in (parts or ("sharpness", "paths")):
                raise UserError(f"--{name.replace('_', '-')} {number} needs --parts {part}")

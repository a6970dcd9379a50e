"""``scaleinv landscape FOLDER``: curvature, paths and walks of finished runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scaleinv.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class LandscapeCommand:
    """Measure the loss landscape where the runs of FOLDER ended: curvature, paths between minima, walks.

    FOLDER is a sweep or a run that has ended. The numbers are kept in FOLDER/landscape.json, and `scaleinv report
    FOLDER` shows them; the same command again measures only what is missing.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of a run or of a sweep."""
    parts: str = "sharpness,paths"
    """A comma list of: sharpness (top eigenvalue and trace of the Hessian at the unit sphere), paths (between runs at
    neighbouring rates), walks (SGD against a random walk and gradient ascent at one ELR)."""
    images: int = 512
    """Curvature is taken on the first so many train images."""
    walk_elr: float | None = None
    """ELR of the walks (default: the largest of the sweep)."""
    walk_steps: int = 300
    """Steps of a walk."""
    walk_seeds: int = 3
    """Walks of each kind."""
    data_dir: Path | None = None
    """Folder of the data sets (default: the environment variable SCALEINV_DATA)."""
    json: bool = False
    """Print the content of landscape.json on stdout."""
    quiet: bool = False
    """Show no progress."""

    def run(self) -> int:
        """0: measured."""
        from scaleinv.cli.counted import Counted
        from scaleinv.lab.files import json_text
        from scaleinv.landscape.study import PARTS, Study, study

        parts = tuple(dict.fromkeys(part.strip() for part in self.parts.split(",") if part.strip()))
        if not parts:
            raise UserError(f"parts {self.parts!r} names nothing; choose from: {', '.join(PARTS)}")
        for name, number, least in (
            ("images", self.images, 2),
            ("walk-steps", self.walk_steps, 2),
            ("walk-seeds", self.walk_seeds, 1),
        ):
            if number < least:
                raise UserError(f"{name} {number} is too few; at least {least}")
        if self.walk_elr is not None and not 0 < self.walk_elr < float("inf"):
            raise UserError(f"walk-elr {self.walk_elr} is not a positive number")
        settings = Study(
            images=self.images, walk_elr=self.walk_elr, walk_steps=self.walk_steps, walk_seeds=self.walk_seeds
        )

        with Counted("measuring", quiet=self.quiet) as counted:

            def watch(what: str, _: int, total: int) -> None:
                counted.total = total
                counted.done(what)

            content = study(self.folder, parts, settings=settings, data_dir=self.data_dir, watch=watch)
        if self.json:
            print(json_text(content))
        else:
            _show(content, self.folder)
        return 0


def _show(content: Mapping[str, Any], folder: Path) -> None:
    from rich.console import Console

    from scaleinv.cli.present import columns, number

    console = Console(highlight=False, soft_wrap=True)
    if content["sharpness"]:
        rows = [["rate", "seed", "train loss", "eff. grad", "eg/loss", "lambda_1", "ELR*lambda_1"]]
        for one in content["sharpness"]:
            keys = ("loss", "eg", "ratio", "lambda_1", "stability")
            rows.append([number(one["key"]["rates"][0]), str(one["seed"]), *(number(one[key]) for key in keys)])
        console.print("[bold]Curvature[/] at the unit sphere, at the last weights of every run")
        console.print(columns(rows, (), {}))
        console.print()
    if content["paths"]:
        rows = [["from rate", "to rate", "seed", "angle", "train loss", "train error", "test error"]]
        for one in content["paths"]:
            a, b = one["key"]["rates"]
            heights = [one["barriers"][key]["height"] for key in ("train_loss", "train_error", "test_error")]
            cells = [number(heights[0]), *(number(height, ".1%") for height in heights[1:])]
            rows.append([number(a), number(b), str(one["seed"]), number(one["angle"]), *cells])
        console.print("[bold]Barriers[/] on the straight paths between the last weights of neighbouring rates")
        console.print(columns(rows, (), {}))
        console.print()
    for one in content["walks"]:
        console.print(f"[bold]Walks[/] at ELR {number(one['key']['elr'])}, {len(one['loss']['sgd'])} of each kind")
        rows = [["", "train loss", "error", "cosine"]]
        for kind, name in (("walk", "random walk"), ("sgd", "SGD"), ("ascent", "gradient ascent")):
            means = [sum(one[key][kind]) / len(one[key][kind]) for key in ("loss", "error", "cosine")]
            rows.append([name, number(means[0]), number(means[1], ".1%"), number(means[2], ".3f")])
        rows.append(["random directions", number(one["random"]["loss"]), "-", "-"])
        console.print(columns(rows, (0,), {}))
        console.print()
    console.print(f"kept in {folder / 'landscape.json'}; on the page: scaleinv report {folder}", markup=False)

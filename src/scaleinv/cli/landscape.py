"""``scaleinv landscape FOLDER``: curvature, paths and walks of finished runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scaleinv.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


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
    neighbouring rates), walks (SGD against a random walk and gradient ascent at one ELR). Default: sharpness, and the
    paths of a sweep."""
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
        from scaleinv.cli.counted import Counted
        from scaleinv.lab.files import json_text
        from scaleinv.landscape.study import PARTS, Study, damaged, study

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

        with Counted("measuring", quiet=self.quiet) as counted:

            def watch(what: str, _: int, total: int) -> None:
                counted.total = total
                counted.done(what)

            content = study(self.folder, parts, settings=settings, data_dir=self.data_dir, watch=watch)
        if self.json:
            print(json_text(content))
            return 0
        try:
            _show(content, self.folder)
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # what was kept, not what was measured
            raise damaged(self.folder, error) from error
        return 0


def _marks(measured: Sequence[Mapping[str, Any]]) -> list[tuple[str, Callable[[Mapping[str, Any]], str]]]:
    """The columns that tell runs of one rate apart; the seed where nothing does."""
    from scaleinv.cli.present import number

    marks: list[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = [
        ("weight_decay", "wd", lambda one: number(one["weight_decay"])),
        ("start", "start", lambda one: (one["start"] or "-")[:6]),
        ("seed", "seed", lambda one: str(one["seed"])),
    ]
    varying = [(name, show) for key, name, show in marks if len({one[key] for one in measured}) > 1]
    return varying or [(name, show) for _, name, show in marks[-1:]]


def _show(content: Mapping[str, Any], folder: Path) -> None:
    from rich.console import Console

    from scaleinv.cli.present import columns, number

    console = Console(highlight=False, soft_wrap=True)
    if content["sharpness"]:
        marks = _marks(content["sharpness"])
        names = (name for name, _ in marks)
        rows = [["rate", *names, "train loss", "eff. grad", "eg/loss", "lambda_1", "ELR*lambda_1"]]
        for one in content["sharpness"]:
            keys = ("loss", "eg", "ratio", "lambda_1", "stability")
            cells = [*(show(one) for _, show in marks), *(number(one[key]) for key in keys)]
            rows.append([number(one["key"]["rates"][0]), *cells])
        console.print("[bold]Curvature[/] at the unit sphere, at the last weights of every run")
        console.print(columns(rows, (), {}))
        console.print()
    if content["paths"]:
        marks = _marks(content["paths"])
        names = (name for name, _ in marks)
        rows = [["from rate", "to rate", *names, "angle", "train loss", "train error", "test error"]]
        for one in content["paths"]:
            a, b = one["key"]["rates"]
            heights = [one["barriers"][key]["height"] for key in ("train_loss", "train_error", "test_error")]
            cells = [number(heights[0]), *(number(height, ".1%") for height in heights[1:])]
            rows.append([number(a), number(b), *(show(one) for _, show in marks), number(one["angle"]), *cells])
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

"""What ``scaleinv landscape`` prints: a table for each part that was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from scaleinv.cli.tables import columns, number
from scaleinv.report.landscape_section import begin_words, correlated_words, mean, pair_means
from scaleinv.runfolder.lineage import named, origin_of, short_names
from scaleinv.runfolder.read import folder_kind, load_sweep


def print_landscape(content: Mapping[str, Any], folder: Path) -> None:
    """Every part there is something of, then where it is kept."""
    names: dict[str, str] = {}
    measured = (one for found in content.values() if isinstance(found, list) for one in found)
    if folder_kind(folder) == "sweep" and any(one.get("start") for one in measured):
        names = short_names(filter(None, (origin_of(run.lineage) for run in load_sweep(folder).runs)), number)
    content = named(content, names)
    console = Console(highlight=False, soft_wrap=True)
    for part, show in (("sharpness", _sharpness), ("paths", _paths)):
        if content[part]:
            show(console, content[part])
    for one in content["walks"]:
        _walks(console, one)
    for part, show in (("averages", _averages), ("minima", _minima)):
        if content[part]:
            show(console, content[part])
    console.print(f"kept in {folder / 'landscape.json'}; on the page: scaleinv report {folder}", markup=False)


def _marks(measured: Sequence[Mapping[str, Any]]) -> list[tuple[str, Callable[[Mapping[str, Any]], str]]]:
    """The columns that tell runs of one rate apart; the seed where nothing does."""
    marks: list[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = [
        ("weight_decay", "wd", lambda one: number(one["weight_decay"])),
        ("start", "start", lambda one: one["start"] or "-"),
        ("seed", "seed", lambda one: str(one["seed"])),
    ]
    varying = [(name, show) for key, name, show in marks if len({one[key] for one in measured}) > 1]
    return varying or [(name, show) for _, name, show in marks[-1:]]


def _sharpness(console: Console, measured: Sequence[Mapping[str, Any]]) -> None:
    marks = _marks(measured)
    names = (name for name, _ in marks)
    rows = [["rate", *names, "train loss", "eff. grad", "eg/loss", "lambda_1", "ELR*lambda_1"]]
    for one in measured:
        keys = ("loss", "eg", "ratio", "lambda_1", "stability")
        cells = [*(show(one) for _, show in marks), *(number(one[key]) for key in keys)]
        rows.append([number(one["key"]["rates"][0]), *cells])
    console.print("[bold]Curvature[/] at the unit sphere, at the last weights of every run")
    console.print(columns(rows, (), {}))
    console.print()


def _paths(console: Console, measured: Sequence[Mapping[str, Any]]) -> None:
    marks = _marks(measured)
    names = (name for name, _ in marks)
    rows = [["from rate", "to rate", *names, "angle", "train loss", "train error", "test error"]]
    for one in measured:
        a, b = one["key"]["rates"]
        heights = [one["barriers"][key]["height"] for key in ("train_loss", "train_error", "test_error")]
        cells = [number(heights[0]), *(number(height, ".1%") for height in heights[1:])]
        rows.append([number(a), number(b), *(show(one) for _, show in marks), number(one["angle"]), *cells])
    console.print("[bold]Barriers[/] on the straight paths between the last weights of neighbouring rates")
    console.print(columns(rows, (), {}))
    console.print()


def _walks(console: Console, one: Mapping[str, Any]) -> None:
    console.print(f"[bold]Walks[/] at ELR {number(one['key']['elr'])}, {len(one['loss']['sgd'])} of each kind,")
    console.print(f"{begin_words(one)}")
    rows = [["", "train loss", "error", "cosine"]]
    for kind, name in (("walk", "random walk"), ("sgd", "SGD"), ("ascent", "gradient ascent")):
        means = [mean(one[key][kind]) for key in ("loss", "error", "cosine")]
        rows.append([name, number(means[0]), number(means[1], ".1%"), number(means[2], ".3f")])
    rows.append(["random directions", number(one["random"]["loss"]), "-", "-"])
    console.print(columns(rows, (0,), {}))
    if said := correlated_words(one):
        console.print(said)
    console.print()


def _averages(console: Console, measured: Sequence[Mapping[str, Any]]) -> None:
    marks = _marks(measured)
    head = ["loss", "excess", "above", "error", "own"]
    rows = [["rate", *(name for name, _ in marks), "epochs", "on", *head]]
    for one in measured:
        for split in ("train", "test"):
            first = [number(one["key"]["rates"][0]), *(show(one) for _, show in marks), _epochs(one)]
            losses = [number(one[name][split]) for name in ("mean_loss", "excess")]
            errors = [number(one[name][split], ".1%") for name in ("mean_error", "error")]
            above = number(one["share_above"][split], ".0%")
            rows.append([*(first if split == "train" else [""] * len(first)), split, *losses, above, *errors])
    console.print("[bold]Averages[/] of the iterates kept in the last half: loss at their mean, its excess")
    console.print("over their own mean loss, segments between them that rise above both ends,")
    console.print("error at their mean and their own")
    console.print(columns(rows, (), {}))
    console.print()


def _minima(console: Console, measured: Sequence[Mapping[str, Any]]) -> None:
    marks = _marks(measured)
    head = ["minima", "angle", "equal", "error alone", "of pairs", "gain +- s.e."]
    rows = [["rate", *(name for name, _ in marks), *head]]
    for one in measured:
        found = pair_means(one)
        first = [number(one["key"]["rates"][0]), *(show(one) for _, show in marks), str(len(one["error"]))]
        shares = [number(found[name], ".1%") for name in ("equal", "error", "ensemble")]
        gain = f"{number(found['gain'], '.2%')} +- {number(found['gain_error'], '.2%')}"
        rows.append([*first, number(found["angle"]), *shares, gain])
    console.print("[bold]Minima[/] of different periods, means over pairs: angle in radians, equal test")
    console.print("predictions, test error alone and of the ensemble of two")
    console.print(columns(rows, (), {}))
    console.print()


def _epochs(one: Mapping[str, Any]) -> str:
    epochs = one["key"]["epochs"]
    return f"{len(epochs)}: {epochs[0]}-{epochs[-1]}"

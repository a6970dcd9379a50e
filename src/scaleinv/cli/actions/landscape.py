"""Run ``scaleinv landscape``: measure, then print a table for each part."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaleinv.cli.actions.launching import cancel_jobs, choice, jobs_run_on
from scaleinv.cli.landscape import LandscapeCommand
from scaleinv.cli.tables import columns, console, number
from scaleinv.lab.devices import float64_device
from scaleinv.lab.launch.choose import LOCAL
from scaleinv.report.landscape_section import begin_words, correlated_words, mean, pair_means
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.lineage import named, origin_of, short_names
from scaleinv.runfolder.read import folder_kind, load_sweep
from scaleinv.runfolder.threads import cores
from scaleinv.studies.landscape import Study, damaged, study
from scaleinv.studies.progress import Counted
from scaleinv.studies.terminal import say

Measured = Sequence[Mapping[str, Any]]
Cells = Callable[[Mapping[str, Any]], list[str]]


def run(command: LandscapeCommand) -> int:
    """Measure and print. Exit status 0: measured."""
    launch = choice(command.launcher, command.launcher_args)
    if command.cancel:
        return cancel_jobs(launch, command.folder)
    device = float64_device(command.device)
    settings = Study(**command.numbers())
    lacking: list[str] = []
    with jobs_run_on(launch), Counted("measuring", quiet=command.quiet) as counted:

        def watch(what: str, _: int, total: int) -> None:
            counted.total = total
            counted.done(what)

        content = study(
            command.folder,
            command.chosen_parts(),
            settings=settings,
            data_dir=command.data_dir,
            device=device,
            launch=None if launch == LOCAL and command.workers is None else launch,
            workers=command.workers or cores(),
            watch=watch,
            say=lacking.append,
        )
    for line in lacking:
        say(line, file=sys.stderr)
    if command.json:
        say(json_text(content))
        return 0
    try:
        print_landscape(content, command.folder)
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # what was kept, not what was measured
        raise damaged(command.folder, error) from error
    return 0


def print_landscape(content: Mapping[str, Any], folder: Path) -> None:
    """Print every part there is something of, then where it is kept."""
    names: dict[str, str] = {}
    measured = (one for found in content.values() if isinstance(found, list) for one in found)
    if folder_kind(folder) == "sweep" and any(one.get("start") for one in measured):
        names = short_names(filter(None, (origin_of(run.lineage) for run in load_sweep(folder).runs)), number)
    content = named(content, names)
    terminal = console()
    for part, shown in (
        ("sharpness", _sharpness),
        ("paths", _paths),
        ("walks", _walks),
        ("averages", _averages),
        ("minima", _minima),
    ):
        for found in [[one] for one in content[part]] if part == "walks" else [content[part]]:
            if found:
                title, rows, left, below = shown(found)
                terminal.print(title)
                terminal.print(columns(rows, left))
                if below:
                    terminal.print(below)
                terminal.print()
    terminal.print(f"kept in {folder / 'landscape.json'}; on the page: scaleinv report {folder}", markup=False)


#: title, rows (the first is the head), columns set flush left, a line below
Shown = tuple[str, list[list[str]], tuple[int, ...], str]


def _marks(measured: Measured) -> tuple[list[str], Cells]:
    """Heads and cells of the columns that tell runs of one rate apart; the seed where nothing does."""
    marks: list[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = [
        ("weight_decay", "wd", lambda one: number(one["weight_decay"])),
        ("start", "start", lambda one: one["start"] or "-"),
        ("seed", "seed", lambda one: str(one["seed"])),
    ]
    varying = [mark for mark in marks if len({one[mark[0]] for one in measured}) > 1] or marks[-1:]
    return [name for _, name, _ in varying], lambda one: [show(one) for _, _, show in varying]


def _rate(one: Mapping[str, Any]) -> str:
    return number(one["key"]["rates"][0])


def _sharpness(measured: Measured) -> Shown:
    names, marks = _marks(measured)
    rows = [["rate", *names, "train loss", "eff. grad", "eg/loss", "lambda_1", "ELR*lambda_1"]]
    for one in measured:
        keys = ("loss", "eg", "ratio", "lambda_1", "stability")
        rows.append([_rate(one), *marks(one), *(number(one[key]) for key in keys)])
    return "[bold]Curvature[/] at the unit sphere, at the last weights of every run", rows, (), ""


def _paths(measured: Measured) -> Shown:
    names, marks = _marks(measured)
    rows = [["from rate", "to rate", *names, "angle", "train loss", "train error", "test error"]]
    for one in measured:
        heights = [one["barriers"][key]["height"] for key in ("train_loss", "train_error", "test_error")]
        cells = [number(heights[0]), *(number(height, ".1%") for height in heights[1:])]
        rows.append([*map(number, one["key"]["rates"]), *marks(one), number(one["angle"]), *cells])
    title = "[bold]Barriers[/] on the straight paths between the last weights of neighbouring rates"
    return title, rows, (), ""


def _walks(measured: Measured) -> Shown:
    (one,) = measured
    rows = [["", "train loss", "error", "cosine"]]
    for kind, name in (("walk", "random walk"), ("sgd", "SGD"), ("ascent", "gradient ascent")):
        means = [mean(one[key][kind]) for key in ("loss", "error", "cosine")]
        rows.append([name, number(means[0]), number(means[1], ".1%"), number(means[2], ".3f")])
    rows.append(["random directions", number(one["random"]["loss"]), "-", "-"])
    title = f"[bold]Walks[/] at ELR {number(one['key']['elr'])}, {len(one['loss']['sgd'])} of each kind,"
    return f"{title}\n{begin_words(one)}", rows, (0,), correlated_words(one) or ""


def _averages(measured: Measured) -> Shown:
    names, marks = _marks(measured)
    rows = [["rate", *names, "epochs", "on", "loss", "excess", "above", "error", "own"]]
    for one in measured:
        epochs = one["key"]["epochs"]
        first = [_rate(one), *marks(one), f"{len(epochs)}: {epochs[0]}-{epochs[-1]}"]
        for split in ("train", "test"):
            losses = [number(one[name][split]) for name in ("mean_loss", "excess")]
            errors = [number(one[name][split], ".1%") for name in ("mean_error", "error")]
            above = number(one["share_above"][split], ".0%")
            rows.append([*(first if split == "train" else [""] * len(first)), split, *losses, above, *errors])
    title = (
        "[bold]Averages[/] of the iterates kept in the last half: loss at their mean, its excess\n"
        "over their own mean loss, segments between them that rise above both ends,\nerror at their mean and their own"
    )
    return title, rows, (), ""


def _minima(measured: Measured) -> Shown:
    names, marks = _marks(measured)
    rows = [["rate", *names, "minima", "angle", "equal", "error alone", "of pairs", "gain +- s.e."]]
    for one in measured:
        found = pair_means(one)
        shares = [number(found[name], ".1%") for name in ("equal", "error", "ensemble")]
        gain = f"{number(found['gain'], '.2%')} +- {number(found['gain_error'], '.2%')}"
        rows.append([_rate(one), *marks(one), str(len(one["error"])), number(found["angle"]), *shares, gain])
    title = "[bold]Minima[/] of different periods, means over pairs: angle in radians, equal test\n"
    return title + "predictions, test error alone and of the ensemble of two", rows, (), ""

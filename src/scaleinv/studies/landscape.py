"""Measure the landscape of finished runs once and keep it beside them, for the report and for later.

What is measured stands in ``FOLDER/landscape.json``: curvature at the last weights of every run, paths between the last
weights of runs at neighbouring rates, walks on the sphere of one run from a fresh initialisation, and, where runs have
kept weights, means of late iterates and minima of periods. Runs are known by their identity, so a folder may be moved
or copied. A call adds what is missing and drops what is of runs that are not there; what was measured with other
numbers of images, steps or seeds is measured anew.
"""

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.errors import UserError
from scaleinv.lab.config import read_config
from scaleinv.lab.data.dataset import SPECS
from scaleinv.lab.data.source import ENVIRONMENT
from scaleinv.lab.devices import float64_device
from scaleinv.lab.launch.base import Finished, Job, Launcher, unwatched
from scaleinv.lab.launch.choose import LaunchSite
from scaleinv.lab.launch.task import Task, take_away
from scaleinv.lab.weights import kept_epochs
from scaleinv.landscape.runs import lowest_epochs
from scaleinv.runfolder.files import Lock, json_text, refuse_links
from scaleinv.runfolder.layout import LANDSCAPE, LANDSCAPE_PARTS, RESULT, SWEEP_CONFIG
from scaleinv.runfolder.seal import read_object, read_sealed, write_sealed
from scaleinv.runfolder.write import read_result
from scaleinv.studies.pieces import Ended, Piece, measure
from scaleinv.text import count

_OF_KEPT = ("averages", "minima")  # of weights kept within runs; files of an earlier version have neither
#: below the folder: where pieces are measured that a launcher was given
TASKS = ".landscape"
_FORMAT = 1
_ADVICE = "remove it and measure again"


@dataclass(frozen=True)
class Study:
    """What to measure, and how well."""

    images: int | None = 512  # first train images that curvature is taken on, all of them at most; None: all
    probes: int = 4  # random vectors of a trace
    points: int = 21  # of a path, ends included
    walk_elr: float | None = None  # None: the largest of the runs
    walk_steps: int = 300
    walk_seeds: int = 3
    iterates: int = 8  # kept epochs of the last half of a run that are averaged, at most
    minima: int = 8  # of the periods of a run, at most


def ended_runs(folder: Path) -> list[Ended]:
    """Find the runs of a sweep, or the run itself, that have ended with finite weights; by rate, a copied one once."""
    if (folder / SWEEP_CONFIG).exists():
        places = sorted(path.parent for path in (folder / "runs").glob("*/result.json"))
    elif read_config(folder) is not None:
        places = [folder] if (folder / "result.json").exists() else []
    else:
        raise UserError(f"{folder} is neither the folder of a run nor of a sweep")
    found: dict[str, Ended] = {}
    for place in places:
        config = read_config(place)
        if config is not None and read_result(place / "result.json")["status"] != "diverged":
            found.setdefault(config.identity(), Ended(place, config))
    if not found:
        raise UserError(f"{folder}: no run has ended with finite weights; finish it first")
    runs = found.values()
    return sorted(runs, key=lambda run: (run.config.seed, run.config.weight_decay, run.config.start or "", run.rate))


def read_study(folder: Path) -> dict[str, Any]:
    """Read what has been measured; empty parts where nothing was. A damaged file is a :class:`UserError`."""
    path = folder / LANDSCAPE
    if not path.exists():
        return {"format": _FORMAT, **{part: [] for part in LANDSCAPE_PARTS}}
    content = read_sealed(path, advice=_ADVICE)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(f"{path} is not a landscape of this version; {_ADVICE}")
    content = {**content, **{part: content.get(part, []) for part in _OF_KEPT}}
    for part in LANDSCAPE_PARTS:
        if not isinstance(content.get(part), list) or not all(map(_has_key, content[part])):
            raise damaged(folder, f"{part!r} is no list of what was measured of which runs")
    return content


def damaged(folder: Path, why: object) -> UserError:
    """Make the error for a ``landscape.json`` that does not hold what it should."""
    return UserError(f"{folder / LANDSCAPE} is damaged ({why}); {_ADVICE}")


def _has_key(entry: Any) -> bool:
    key = entry.get("key") if isinstance(entry, dict) else None
    if not isinstance(key, dict) or not all(isinstance(key.get(name), list) for name in ("runs", "rates")):
        return False
    return bool(key["runs"]) and all(isinstance(name, str) for name in key["runs"])


def study(
    folder: Path,
    parts: tuple[str, ...] | None = None,
    *,
    settings: Study | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    launch: Callable[[LaunchSite], Launcher] | None = None,
    workers: int = 1,
    watch: Callable[[str, int, int], None] = lambda what, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure ``parts`` of the runs in ``folder``, keep them in ``landscape.json`` and return all that stands there.

    ``parts`` None: sharpness, and paths where there are any. ``watch`` is told what has been measured or was kept, how
    many pieces are done and how many there are. ``launch``: where pieces are measured, ``workers`` at a time (None:
    one after another in this process); each is on the disk once it is measured. ``say`` is told why a part has nothing
    to measure, beside others that have. ``device``: cpu, cuda or cuda:1; sums are in float64, which mps has not.

    Raises :class:`UserError` for unknown parts, folders without finished runs, paths where no two runs can be joined,
    where no part has anything to measure, and, once the others are kept, where a piece could not be measured elsewhere.
    """
    settings = settings or Study()
    device = float64_device(device)
    for part in parts or ():
        if part not in LANDSCAPE_PARTS:
            raise UserError(f"unknown part {part!r}; choose from: {', '.join(LANDSCAPE_PARTS)}")
    runs = ended_runs(folder)
    refuse_links(folder / TASKS)
    with Lock(folder, name=".landscape.lock", advice="wait for it: two would overwrite each other's landscape.json"):
        return _study(folder, runs, parts, settings, data_dir, launch, workers, device, watch, say)


def _study(
    folder: Path,
    runs: list[Ended],
    parts: tuple[str, ...] | None,
    settings: Study,
    data_dir: Path | None,
    launch: Callable[[LaunchSite], Launcher] | None,
    workers: int,
    device: str,
    watch: Callable[[str, int, int], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    content = read_study(folder)
    if parts is not None and "paths" in parts and not _pairs(runs):
        if runs[0].folder == folder:
            raise UserError(f"paths need two runs; {folder} is one")
        why = "has none that ended with finite weights"
        raise UserError(f"paths need two runs that differ in the rate alone; {folder} {why}")
    asked = ("sharpness", "paths") if parts is None else parts
    pieces, missing = list(_pieces(runs, asked, settings)), []
    for part in (part for part in _OF_KEPT if part in asked):
        found_pieces, why = (_averages if part == "averages" else _minima)(runs, settings)
        pieces += found_pieces
        missing += [why] if why else []
    if missing and not pieces:
        raise UserError("; ".join(missing))
    for why in missing:
        say(why)
    marks = {run.name: run.marks for run in runs}
    here = {
        part: [
            {**kept, **marks[kept["key"]["runs"][0]]}  # an earlier version kept the seed alone
            for kept in content[part]
            if all(name in marks for name in kept["key"]["runs"])
        ]
        for part in LANDSCAPE_PARTS
    }
    if any(here[part] != content[part] for part in LANDSCAPE_PARTS):
        content.update(here)
        write_sealed(folder / LANDSCAPE, content)

    def keep(piece: Piece, measured: Mapping[str, Any]) -> None:
        names = piece.key["runs"]
        found = {"key": piece.key, **marks[names[0]], **measured}
        content[piece.part] = [kept for kept in content[piece.part] if kept["key"]["runs"] != names] + [found]
        write_sealed(folder / LANDSCAPE, content)

    waiting, failed, done = [], [], 0
    for piece in pieces:
        if any(kept["key"] == piece.key for kept in content[piece.part]):
            watch(f"{piece.words}: kept", done := done + 1, len(pieces))
        elif launch is None:
            keep(piece, measure(piece, data_dir, device))
            watch(piece.words, done := done + 1, len(pieces))
        else:
            waiting.append(piece)
    if launch is not None and waiting:
        for piece, measured, error in _elsewhere(waiting, folder, launch, workers, data_dir, device):
            if measured is None:
                failed.append(f"{piece.words}: {error}")
            else:
                keep(piece, measured)
            watch(f"{piece.words}: failed" if measured is None else piece.words, done := done + 1, len(pieces))
        places = {json_text([piece.part, piece.key]): place for place, piece in enumerate(pieces)}
        for part in LANDSCAPE_PARTS:  # they ended in any order
            content[part].sort(key=lambda kept: places.get(json_text([part, kept["key"]]), -1))
        write_sealed(folder / LANDSCAPE, content)
    if failed:
        raise UserError(f"{count(len(failed), 'piece')} could not be measured, the others are kept; {failed[0]}")
    return read_study(folder)  # as a reader finds it: NaN is null


def _elsewhere(
    pieces: Sequence[Piece],
    folder: Path,
    launch: Callable[[LaunchSite], Launcher],
    workers: int,
    data_dir: Path | None,
    device: str,
) -> Iterator[tuple[Piece, Mapping[str, Any] | None, str]]:
    """Measure pieces by a launcher and yield each as it ends: what was measured, or None and why. What an earlier call
    has left behind, ended or still measured, is not measured again.
    """
    place = data_dir or os.environ.get(ENVIRONMENT)
    at = None if place is None else str(Path(place).absolute())
    jobs: dict[Path, tuple[Job, Piece]] = {}
    for piece in pieces:
        told = {"part": piece.part, "key": piece.key, "folders": [str(run.folder.absolute()) for run in piece.runs]}
        task = Task("scaleinv.studies.pieces:measure_task", {**told, "data_dir": at, "device": device})
        where = folder / TASKS / hashlib.sha256(json_text(told).encode()).hexdigest()[:16]
        jobs[where] = (Job(piece.runs[0].config, where, {}, task=task), piece)
    with Lock(folder / TASKS, wait=2.0):
        launcher = launch(LaunchSite(folder, None, workers, data_dir))
        ended = [
            Finished(job, read_object(place / RESULT, quiet=True))
            for place, (job, _) in jobs.items()
            if (place / RESULT).exists()
        ]
        rest = [job for place, (job, _) in jobs.items() if not (place / RESULT).exists()]
        try:
            for job, result, error in itertools.chain(ended, launcher.run(rest, unwatched)):
                yield jobs[job.folder][1], result, error
                if result is not None:
                    take_away(job.folder)
        finally:
            launcher.cancel()
    if not any(path.is_dir() for path in (folder / TASKS).iterdir()):
        shutil.rmtree(folder / TASKS, ignore_errors=True)


def _key(members: list[Ended], **numbers: Any) -> dict[str, Any]:
    return {"runs": [run.name for run in members], "rates": [run.rate for run in members], **numbers}


def _pairs(runs: list[Ended]) -> list[tuple[Ended, Ended]]:
    """Runs at neighbouring rates that differ in nothing else."""
    return [(a, b) for a, b in itertools.pairwise(runs) if a.marks == b.marks]


def _pieces(runs: list[Ended], parts: tuple[str, ...], settings: Study) -> Iterator[Piece]:
    if "sharpness" in parts:
        for run in runs:
            if run.config.data not in SPECS:
                raise UserError(f"{run.folder}: {run.config.data} is not a data set that scaleinv can load again")
            size = run.config.subset or SPECS[run.config.data].train_size
            images = size if settings.images is None else min(settings.images, size)
            key = _key([run], images=images, probes=settings.probes)
            yield Piece("sharpness", key, [run])
    if "paths" in parts:
        for a, b in _pairs(runs):
            yield Piece("paths", _key([a, b], points=settings.points), [a, b])
    if "walks" in parts:
        fastest = max(runs, key=lambda run: run.config.elr or 0.0)
        elr = settings.walk_elr if settings.walk_elr is not None else fastest.config.elr
        if elr is None:
            raise UserError("walks need an ELR: these runs have none (whole space); give --walk-elr")
        # files of an earlier version have no "begin": those walks started from the last weights of the run
        numbers = {"elr": elr, "steps": settings.walk_steps, "seeds": settings.walk_seeds, "begin": "fresh"}
        yield Piece("walks", _key([fastest], **numbers), [fastest])


def _averages(runs: list[Ended], settings: Study) -> tuple[list[Piece], str]:
    """The pieces, and why there are none or not of all runs."""
    epochs = {run: late_epochs(run.folder, settings.iterates) for run in runs}
    usable = [run for run in runs if len(epochs[run]) > 1]
    why = "averages need two epochs or more kept in the last half of a run"
    if len(usable) < len(runs):
        why += f", {_none_of(runs, len(runs) - len(usable))} them: train with --keep-every N, such as 1"
    pieces = [Piece("averages", _key([run], epochs=epochs[run]), [run]) for run in usable]
    return pieces, "" if len(usable) == len(runs) else why


def _minima(runs: list[Ended], settings: Study) -> tuple[list[Piece], str]:
    """The pieces, and why there are none; runs on the sphere have no periods and are passed over."""
    space = [run for run in runs if run.config.lr is not None and run.config.weight_decay > 0]
    if not space:
        return [], "minima of periods need runs in the whole space with weight decay; train with --lr, --weight-decay"
    kept = [run for run in space if kept_epochs(run.folder)]
    if not kept:
        return [], "minima need weights kept within a run: train with --keep-every N, such as 1"
    pieces: list[Piece] = []
    for run in kept:
        epochs = spread(lowest_epochs(run.folder, kept_epochs(run.folder)), settings.minima)
        if len(epochs) > 1:
            pieces.append(Piece("minima", _key([run], epochs=epochs), [run]))
    left = len(space) - len(pieces)
    why = f"minima need two periods with a kept epoch in each, {_none_of(space, left)} them: train longer, or with a "
    return pieces, why + "smaller --keep-every" if left else ""


def _none_of(runs: list[Ended], lack: int) -> str:
    return f"{lack} of {len(runs)} runs lack" if len(runs) > 1 else "this run lacks"


def spread(items: Sequence[int], most: int) -> list[int]:
    """Choose at most ``most`` of the items, evenly spread, the first and the last included.

    >>> spread([5, 6, 7, 8, 9], 3), spread([5, 6], 3)
    ([5, 7, 9], [5, 6])
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, most)]


def late_epochs(folder: Path, most: int) -> list[int]:
    """Choose the kept epochs of the last half of a run that has ended, at most ``most`` of them, evenly spread."""
    half = float(read_result(folder / "result.json")["epochs"]) / 2
    return spread([epoch for epoch in kept_epochs(folder) if epoch >= half], most)

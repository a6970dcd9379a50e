"""Measure the landscape of finished runs once and keep it beside them, for the report and for later.

What is measured stands in ``FOLDER/landscape.json``: curvature at the last weights of every run, paths between the last
weights of runs at neighbouring rates, walks on the sphere of one run from a fresh initialisation, and, where runs have
kept weights, means of late iterates and minima of periods. Runs are known by their identity, so a folder may be moved
or copied. A call adds what is missing and drops what is of runs that are not there; what was measured with other
numbers of images, steps or seeds is measured anew.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, read_config
from scaleinv.lab.data.dataset import SPECS
from scaleinv.lab.schedule import parse_schedule, rate_share
from scaleinv.lab.weights import kept_epochs, read_weights
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.averages import convexity
from scaleinv.landscape.paths import QUANTITIES, linear_path
from scaleinv.landscape.runs import fresh_surface_of, lowest_epochs, points_of, surface_of
from scaleinv.landscape.sharpness import sharpness
from scaleinv.landscape.walks import KINDS, compare
from scaleinv.runfolder.files import Lock
from scaleinv.runfolder.layout import LANDSCAPE, LANDSCAPE_PARTS
from scaleinv.runfolder.seal import read_sealed, write_sealed
from scaleinv.runfolder.write import read_result
from scaleinv.theory import rates

_OF_KEPT = ("averages", "minima")  # of weights kept within runs; files of an earlier version have neither
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


@dataclass(frozen=True)
class Ended:
    """A run that left weights."""

    folder: Path
    config: RunConfig

    @property
    def rate(self) -> float:
        """ELR or LR."""
        return float(self.config.elr if self.config.elr is not None else self.config.lr or math.nan)

    @property
    def name(self) -> str:
        """What the run is known by, wherever its folder lies."""
        return self.config.identity()

    @property
    def marks(self) -> dict[str, Any]:
        """What tells runs of one rate apart."""
        return {"seed": self.config.seed, "weight_decay": self.config.weight_decay, "start": self.config.start}


def ended_runs(folder: Path) -> list[Ended]:
    """Find the runs of a sweep, or the run itself, that have ended with finite weights; by rate, a copied one once."""
    if (folder / "sweep-config.json").exists():
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
    watch: Callable[[str, int, int], None] = lambda what, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure ``parts`` of the runs in ``folder``, keep them in ``landscape.json`` and return all that stands there.

    ``parts`` None: sharpness, and paths where there are any. ``watch`` is told what has been measured or was kept, how
    many pieces are done and how many there are. Each piece is on the disk before the next one begins. ``say`` is told
    why a part has nothing to measure, beside others that have.

    Raises :class:`UserError` for unknown parts, folders without finished runs, paths where no two runs can be joined,
    and where no part has anything to measure.
    """
    settings = settings or Study()
    for part in parts or ():
        if part not in LANDSCAPE_PARTS:
            raise UserError(f"unknown part {part!r}; choose from: {', '.join(LANDSCAPE_PARTS)}")
    runs = ended_runs(folder)
    with Lock(folder, name=".landscape.lock", advice="wait for it: two would overwrite each other's landscape.json"):
        return _study(folder, runs, parts, settings, data_dir, watch, say)


def _study(
    folder: Path,
    runs: list[Ended],
    parts: tuple[str, ...] | None,
    settings: Study,
    data_dir: Path | None,
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
    for number, (part, key, measure) in enumerate(pieces, start=1):
        what = f"{part} {' - '.join(f'{rate:.3g}' for rate in key['rates'])}"
        if any(kept["key"] == key for kept in content[part]):
            what += ": kept"
        else:
            found = {"key": key, **marks[key["runs"][0]], **measure(data_dir)}
            content[part] = [kept for kept in content[part] if kept["key"]["runs"] != key["runs"]] + [found]
            write_sealed(folder / LANDSCAPE, content)
        watch(what, number, len(pieces))
    return read_study(folder)  # as a reader finds it: NaN is null


Piece = tuple[str, dict[str, Any], Callable[[Path | None], dict[str, Any]]]


def _key(members: list[Ended], **numbers: Any) -> dict[str, Any]:
    return {"runs": [run.name for run in members], "rates": [run.rate for run in members], **numbers}


def _pairs(runs: list[Ended]) -> list[tuple[Ended, Ended]]:
    """Runs at neighbouring rates that differ in nothing else."""
    return [(a, b) for a, b in pairwise(runs) if a.marks == b.marks]


def _pieces(runs: list[Ended], parts: tuple[str, ...], settings: Study) -> Iterator[Piece]:
    if "sharpness" in parts:
        for run in runs:
            if run.config.data not in SPECS:
                raise UserError(f"{run.folder}: {run.config.data} is not a data set that scaleinv can load again")
            size = run.config.subset or SPECS[run.config.data].train_size
            images = size if settings.images is None else min(settings.images, size)
            key = _key([run], images=images, probes=settings.probes)
            yield "sharpness", key, partial(_sharpness, run, settings.probes, images)
    if "paths" in parts:
        for a, b in _pairs(runs):
            yield "paths", _key([a, b], points=settings.points), partial(_path, a, b, settings)
    if "walks" in parts:
        fastest = max(runs, key=lambda run: run.config.elr or 0.0)
        elr = settings.walk_elr if settings.walk_elr is not None else fastest.config.elr
        if elr is None:
            raise UserError("walks need an ELR: these runs have none (whole space); give --walk-elr")
        # files of an earlier version have no "begin": those walks started from the last weights of the run
        numbers = {"elr": elr, "steps": settings.walk_steps, "seeds": settings.walk_seeds, "begin": "fresh"}
        yield "walks", _key([fastest], **numbers), partial(_walks, fastest, elr, settings)


def _averages(runs: list[Ended], settings: Study) -> tuple[list[Piece], str]:
    """The pieces, and why there are none or not of all runs."""
    epochs = {run: late_epochs(run.folder, settings.iterates) for run in runs}
    usable = [run for run in runs if len(epochs[run]) > 1]
    why = "averages need two epochs or more kept in the last half of a run"
    if len(usable) < len(runs):
        why += f", {_none_of(runs, len(runs) - len(usable))} them: train with --keep-every N, such as 1"
    pieces: list[Piece] = [
        ("averages", _key([run], epochs=epochs[run]), partial(averages_of, run.folder, epochs[run])) for run in usable
    ]
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
            pieces.append(("minima", _key([run], epochs=epochs), partial(minima_of, run.folder, epochs)))
    left = len(space) - len(pieces)
    why = f"minima need two periods with a kept epoch in each, {_none_of(space, left)} them: train longer, or with a "
    return pieces, why + "smaller --keep-every" if left else ""


def _none_of(runs: list[Ended], lack: int) -> str:
    return f"{lack} of {len(runs)} runs lack" if len(runs) > 1 else "this run lacks"


def _sharpness(run: Ended, probes: int, images: int, data_dir: Path | None) -> dict[str, Any]:
    found = sharpness(surface_of(run.folder, data_dir=data_dir), top=1, probes=probes, images=images)
    slopes, hessian = found.gradients, found.hessian
    config = run.config
    # the rate that acts on the unit sphere at these weights, as it was at the last step; Adam's has another law
    base = config.elr if config.elr is not None else rates.elr(config.lr or math.nan, slopes.rho)
    base *= rate_share(parse_schedule(config.schedule), config.steps - 1, config.steps, config.warmup)
    if config.optimizer != "sgd" or config.granularity != "total":
        base = math.nan
    return {
        "elr": base,
        "rho": slopes.rho,
        "loss": slopes.loss,
        "eg": slopes.mean_norm,
        "ratio": slopes.ratio,
        "lambda_1": hessian.top,
        "residual": hessian.residuals[0],
        "converged": hessian.converged,
        "trace": None if hessian.trace is None else hessian.trace.value,
        "trace_error": None if hessian.trace is None else hessian.trace.error,
        "stability": found.stability(base),
        "homogeneity": found.homogeneity,
    }


def _path(a: Ended, b: Ended, settings: Study, data_dir: Path | None) -> dict[str, Any]:
    path = linear_path(
        surface_of(a.folder, data_dir=data_dir), read_weights(a.folder), read_weights(b.folder), points=settings.points
    )
    return {
        "angle": path.angle,
        "fractions": path.fractions,
        **{quantity: getattr(path, quantity) for quantity in QUANTITIES},
        "barriers": {quantity: asdict(path.barrier(quantity)) for quantity in QUANTITIES},
    }


def _walks(run: Ended, elr: float, settings: Study, data_dir: Path | None) -> dict[str, Any]:
    # regime 3 is a statement about any start; trained weights take long to be forgotten at an ELR that is not its own
    surface = fresh_surface_of(run.folder, data_dir=data_dir)
    found = compare(surface, elr, settings.walk_steps, seeds=range(settings.walk_seeds))
    # one walk of each kind step by step, the first seed's
    first = {kind: next(walk for walk in found.walks if walk.kind == kind) for kind in KINDS}
    return {
        "window": found.window,
        **{name: getattr(found, name) for name in ("loss", "error", "cosine")},
        "random": {"loss": found.random.loss, "loss_error": found.random.loss_error},
        "steps": {kind: {"loss": one.loss, "cosine": one.cosine} for kind, one in first.items()},
    }


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


def averages_of(folder: Path, epochs: Sequence[int], data_dir: Path | None = None) -> dict[str, Any]:
    """Measure the :func:`~scaleinv.landscape.averages.convexity` of iterates kept at ``epochs``, train and test loss.

    ``excess``: loss at their mean less their mean loss. ``share_above``: of the segments between all pairs, those whose
    loss rises above both ends. BN statistics are recomputed at every point of which the test loss is taken.
    """
    surface = surface_of(folder, data_dir=data_dir)
    found = convexity(surface, [weights for _, weights in points_of(folder, epochs)], test=True)
    at, members = found.average.values, found.average.members
    mean = {name: float(np.mean([getattr(m, name) for m in members])) for name in ("train_error", "test_error")}
    return {
        "angle": float(found.angles.mean()),
        "segments": len(found.pairs),
        "mean_error": {"train": at.train_error, "test": at.test_error},
        "error": {"train": mean["train_error"], "test": mean["test_error"]},
        "mean_loss": {"train": at.train_loss, "test": at.test_loss},
        "excess": {"train": found.average.excess, "test": found.average.test_excess},
        "share_above": {"train": found.share_above, "test": found.test_share_above},
    }


def minima_of(folder: Path, epochs: Sequence[int], data_dir: Path | None = None) -> dict[str, Any]:
    """Measure the :func:`~scaleinv.landscape.agreement.agreement` of weights kept at ``epochs``, minima of periods.

    Matrices are (n, n). Pairs average the softmax, with the squared loss the outputs themselves.
    """
    config = read_config(folder)
    found = agreement(
        surface_of(folder, data_dir=data_dir),
        [weights for _, weights in points_of(folder, epochs)],
        average="output" if config is not None and config.loss == "mse" else "softmax",
    )
    names = ("error", "angle", "equal", "ensemble", "gain", "gain_error")
    return {"images": found.images, **{name: getattr(found, name) for name in names}}

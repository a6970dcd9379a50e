"""Measure pieces of the landscape of finished runs, each by itself, in this process or wherever it was launched."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, read_config
from scaleinv.lab.schedule import parse_schedule, rate_share
from scaleinv.lab.weights import read_weights
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.averages import convexity
from scaleinv.landscape.paths import QUANTITIES, linear_path
from scaleinv.landscape.runs import fresh_surface_of, points_of, surface_of
from scaleinv.landscape.sharpness import sharpness
from scaleinv.landscape.walks import KINDS, compare
from scaleinv.theory import rates


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


class Piece(NamedTuple):
    """Something to measure: a ``key`` of the ``part``, which holds all numbers it depends on."""

    part: str
    key: dict[str, Any]
    runs: list[Ended]

    @property
    def words(self) -> str:
        """``paths 0.01 - 0.02``."""
        return f"{self.part} {' - '.join(f'{rate:.3g}' for rate in self.key['rates'])}"


def measure(piece: Piece, data_dir: Path | None = None, device: str = "cpu") -> dict[str, Any]:
    """Measure a piece in this process."""
    (part, key, runs), first = piece, piece.runs[0]
    if part == "sharpness":
        return _sharpness(first, key["probes"], key["images"], data_dir, device)
    if part == "paths":
        return _path(first, runs[1], key["points"], data_dir, device)
    if part == "walks":
        return _walks(first, key["elr"], key["steps"], key["seeds"], data_dir, device)
    return (averages_of if part == "averages" else minima_of)(first.folder, key["epochs"], data_dir, device)


def measure_task(
    part: str, key: dict[str, Any], folders: list[str], data_dir: str | None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure a piece wherever it was launched; for :class:`~scaleinv.lab.launch.task.Task`."""
    runs = []
    for place in map(Path, folders):
        config = read_config(place)
        if config is None:
            raise UserError(f"{place} is no folder of a run here: the landscape needs a folder that all nodes share")
        runs.append(Ended(place, config))
    return measure(Piece(part, key, runs), None if data_dir is None else Path(data_dir), device)


def _sharpness(run: Ended, probes: int, images: int, data_dir: Path | None, device: str) -> dict[str, Any]:
    found = sharpness(surface_of(run.folder, data_dir=data_dir, device=device), top=1, probes=probes, images=images)
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


def _path(a: Ended, b: Ended, points: int, data_dir: Path | None, device: str) -> dict[str, Any]:
    path = linear_path(
        surface_of(a.folder, data_dir=data_dir, device=device),
        read_weights(a.folder),
        read_weights(b.folder),
        points=points,
    )
    return {
        "angle": path.angle,
        "fractions": path.fractions,
        **{quantity: getattr(path, quantity) for quantity in QUANTITIES},
        "barriers": {quantity: asdict(path.barrier(quantity)) for quantity in QUANTITIES},
    }


def _walks(run: Ended, elr: float, steps: int, seeds: int, data_dir: Path | None, device: str) -> dict[str, Any]:
    # regime 3 is a statement about any start; trained weights take long to be forgotten at an ELR that is not its own
    surface = fresh_surface_of(run.folder, data_dir=data_dir, device=device)
    found = compare(surface, elr, steps, seeds=range(seeds))
    # one walk of each kind step by step, the first seed's
    first = {kind: next(walk for walk in found.walks if walk.kind == kind) for kind in KINDS}
    return {
        "window": found.window,
        **{name: getattr(found, name) for name in ("loss", "error", "cosine")},
        "random": {"loss": found.random.loss, "loss_error": found.random.loss_error},
        "steps": {kind: {"loss": one.loss, "cosine": one.cosine} for kind, one in first.items()},
    }


def averages_of(
    folder: Path, epochs: Sequence[int], data_dir: Path | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure the :func:`~scaleinv.landscape.averages.convexity` of iterates kept at ``epochs``, train and test loss.

    ``excess``: loss at their mean less their mean loss. ``share_above``: of the segments between all pairs, those whose
    loss rises above both ends. BN statistics are recomputed at every point of which the test loss is taken.
    """
    surface = surface_of(folder, data_dir=data_dir, device=device)
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


def minima_of(folder: Path, epochs: Sequence[int], data_dir: Path | None = None, device: str = "cpu") -> dict[str, Any]:
    """Measure the :func:`~scaleinv.landscape.agreement.agreement` of weights kept at ``epochs``, minima of periods.

    Matrices are (n, n). Pairs average the softmax, with the squared loss the outputs themselves.
    """
    config = read_config(folder)
    found = agreement(
        surface_of(folder, data_dir=data_dir, device=device),
        [weights for _, weights in points_of(folder, epochs)],
        average="output" if config is not None and config.loss == "mse" else "softmax",
    )
    names = ("error", "angle", "equal", "ensemble", "gain", "gain_error")
    return {"images": found.images, **{name: getattr(found, name) for name in names}}

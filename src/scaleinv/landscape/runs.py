"""Read the surface of a run, and the points the run visited, from its folder."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from scaleinv.analysis.periods.summary import periods_of
from scaleinv.errors import UserError
from scaleinv.lab.build import Setup
from scaleinv.lab.data import eval_batches
from scaleinv.lab.schedule import parse_schedule, rate_share
from scaleinv.lab.weights import fresh, kept_epochs, read_weights, rebuild
from scaleinv.landscape.edge import EdgePoint, edge_of_stability
from scaleinv.landscape.surface import Surface, Weights
from scaleinv.runfolder.read import load_run


def surface_of(folder: str | Path, *, data_dir: Path | None = None, device: str = "cpu") -> Surface:
    """Rebuild the surface a run moved on, its network at the run's last weights, on ``device``.

    Its batches are those of the run's exact metrics: one where its gradient was ``full``; its images are not augmented.
    """
    return _surface(rebuild(folder, data_dir=data_dir, device=device))


def fresh_surface_of(folder: str | Path, *, data_dir: Path | None = None, device: str = "cpu") -> Surface:
    """Rebuild the same surface, its network as the run's seed draws it, even where the run started from weights."""
    return _surface(fresh(folder, data_dir=data_dir, device=device))


def _surface(setup: Setup) -> Surface:
    return Surface.of_setup(setup, None if setup.config.gradient == "full" else setup.config.batch_size)


def points_of(folder: str | Path, epochs: Sequence[int] | None = None) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield (epoch, weights) of a run one by one; ``epochs`` (default): all it has kept, with ``keep_every``."""
    chosen = kept_epochs(folder) if epochs is None else list(epochs)
    if not chosen:
        raise UserError(f"{folder} has kept no weights but its last; train it with keep_every")
    for epoch in chosen:
        yield epoch, read_weights(folder, epoch)


def lowest_epochs(folder: str | Path, epochs: Sequence[int]) -> list[int]:
    """Find, for every period that has any of the ``epochs`` whole within it, the one of lowest mean train loss;
    ascending: there the run's minima can be looked at.

    Empty for a run without periods (:func:`~scaleinv.analysis.periods.summary.periods_of`) or that has not ended. An
    epoch that a break-down falls into counts for no period: its mean loss says nothing of its last weights.
    """
    run = load_run(folder)
    found = periods_of(run)
    if found is None or run.result is None:
        return []
    table = run.table("online", "total", "loss")
    loss = dict(zip(table.epochs.tolist(), table.values.tolist()))
    length = int(run.result["steps_per_epoch"])
    lowest = []
    for period in found.periods:
        inside = [e for e in epochs if e in loss and period.start <= (e - 1) * length and e * length <= period.end]
        if inside:
            lowest.append(min(inside, key=lambda e: loss[e]))
    return lowest


def edge_of_run(
    folder: str | Path,
    epochs: Sequence[int] | None = None,
    *,
    images: int | None = None,
    data_dir: Path | None = None,
    generator: torch.Generator | None = None,
) -> list[EdgePoint]:
    """Measure :func:`~scaleinv.landscape.edge.edge_of_stability` at kept ``epochs`` of a run, its own rate and decay.

    ``step`` of a point counts optimizer steps. With momentum b the edge lies at 2 (1 + b) in place of 2.
    """
    setup = rebuild(folder, data_dir=data_dir)
    config, surface = setup.config, _surface(setup)
    if config.optimizer != "sgd":
        raise UserError(f"{folder} was trained by {config.optimizer}: elr * lambda_1 against 2 is the law of sgd")
    if config.granularity != "total":
        raise UserError(f"{folder} has spheres of granularity {config.granularity}; the edge is that of one sphere")
    shape = parse_schedule(config.schedule)
    per_epoch = 1 if config.gradient != "batch" else len(eval_batches(len(setup.train[1]), config.batch_size))

    def rate(step: int, weights: Weights) -> float:
        # of the step to come; after the last step, of the last
        share = rate_share(shape, min(step, config.steps - 1), config.steps, config.warmup)
        base = config.lr if config.elr is None else config.elr * surface.radius(weights) ** 2
        return math.nan if base is None else base * share

    return edge_of_stability(
        surface,
        ((min(epoch * per_epoch, config.steps), weights) for epoch, weights in points_of(folder, epochs)),
        rate,
        weight_decay=config.weight_decay,
        images=images,
        generator=generator,
    )

"""What ``scaleinv landscape`` measures at weights kept within a run: means of late iterates, minima of periods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.lab.store import read_config, read_result
from scaleinv.lab.weights import kept_epochs
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.averages import convexity
from scaleinv.landscape.runs import points_of, surface_of


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of them, evenly spread, the first and the last included.

    >>> spread([5, 6, 7, 8, 9], 3), spread([5, 6], 3)
    ([5, 7, 9], [5, 6])
    """
    if len(items) <= most:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, most)]


def late_epochs(folder: Path, most: int) -> list[int]:
    """The kept epochs of the last half of a run that has ended, at most ``most`` of them, evenly spread."""
    half = float(read_result(folder / "result.json")["epochs"]) / 2
    return spread([epoch for epoch in kept_epochs(folder) if epoch >= half], most)


def averages_of(folder: Path, epochs: Sequence[int], data_dir: Path | None = None) -> dict[str, Any]:
    """:func:`~scaleinv.landscape.averages.convexity` of the iterates kept at ``epochs``, of train and test loss.

    ``excess``: loss at their mean less their mean loss. ``share_above``: of the segments between all pairs, those whose
    loss rises above both ends. BN statistics are recomputed at every point of which the test loss is taken.
    """
    surface = surface_of(folder, data_dir=data_dir)
    found = convexity(surface, [weights for _, weights in points_of(folder, epochs)], test=True)
    at, members = found.average.values, found.average.members
    return {
        "angle": float(found.angles.mean()),
        "segments": len(found.pairs),
        "mean_error": {"train": at.train_error, "test": at.test_error},
        "error": {
            "train": float(np.mean([m.train_error for m in members])),
            "test": float(np.mean([m.test_error for m in members])),
        },
        "mean_loss": {"train": at.train_loss, "test": at.test_loss},
        "excess": {"train": found.average.excess, "test": found.average.test_excess},
        "share_above": {"train": found.share_above, "test": found.test_share_above},
    }


def minima_of(folder: Path, epochs: Sequence[int], data_dir: Path | None = None) -> dict[str, Any]:
    """:func:`~scaleinv.landscape.agreement.agreement` of the weights kept at ``epochs``, a minimum of a period each.

    Matrices are (n, n). Pairs average the softmax, with the squared loss the outputs themselves.
    """
    config = read_config(folder)
    found = agreement(
        surface_of(folder, data_dir=data_dir),
        [weights for _, weights in points_of(folder, epochs)],
        average="output" if config is not None and config.loss == "mse" else "softmax",
    )
    names = ("error", "angle", "equal", "ensemble", "gain", "gain_error")
    return {
        "images": found.images,
        **{name: np.asarray(getattr(found, name)).tolist() for name in names},
    }

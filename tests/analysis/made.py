"""Runs made of series, without a folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.runfolder.read import Run, Series
from scaleinv.runfolder.stored import complete

Floats = np.ndarray


def made_run(
    series: dict[tuple[str, str, str], Floats],
    *,
    elr: float = 1e-2,
    seed: int = 0,
    first: int = 1,
    per_epoch: int = 90,
    **config: Any,
) -> Run:
    """A finished run; every series begins at the epoch ``first`` and has a value at every epoch after it."""
    metrics = {}
    for key, values in series.items():
        epochs = np.arange(first, first + len(values))
        metrics[key] = Series(per_epoch * epochs, epochs, np.asarray(values, dtype=np.float64))
    config = complete({"data": "digits", "elr": elr, "seed": seed, "loss": "ce", **config})
    return Run(Path(f"run-{elr:g}-{seed}"), config, "", {}, {"status": "finished"}, metrics)


def autoregressive(n: int, phi: float, rng: np.random.Generator) -> Floats:
    """Stationary, mean 0, variance 1."""
    x = rng.normal(size=n)
    for i in range(1, n):
        x[i] = phi * x[i - 1] + math.sqrt(1 - phi**2) * x[i]
    return x

"""Look at a run with few epochs through blocks of steps in place of epochs.

On a large set a run may have two epochs and many thousand steps, and every rule here counts in epochs. A run with a
per-step record can be cut into blocks instead: each block becomes an "epoch" whose loss, effective gradient, ESS and
cosine are means over its steps. The error is not recorded by step: a block has that of the epoch it ends in.
"""

import dataclasses
from pathlib import Path

import numpy as np

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run, Series, load_run
from scaleinv.runfolder.steps import load_steps

BLOCKS = 60


def in_blocks(folder: str | Path, count: int = BLOCKS) -> Run:
    """Cut a run into ``count`` blocks of equal length as its epochs (split ``online``); the reference rows stay.

    Steps that fill no block are left out at the end.
    """
    run, steps = load_run(folder), load_steps(folder)
    size = len(steps) // count
    if not size:
        raise UserError(f"{folder}: {len(steps)} steps do not make {count} blocks")
    ends = size * np.arange(1, count + 1)
    epochs = np.arange(1, count + 1)
    columns = {"loss": steps.loss, "eg": steps.eg, "ess": steps.ess, "cosine": np.cos(steps.angle), "rho": steps.rho}
    means = {name: values[: size * count].reshape(count, size).mean(axis=1) for name, values in columns.items()}
    error = run.table("online", "total", "error")
    if len(error.values):
        at = np.searchsorted(error.steps, ends)
        means["error"] = error.values[np.minimum(at, len(error.values) - 1)]
    metrics = {key: series for key, series in run.metrics.items() if key[0].startswith("reference")}
    for name, values in means.items():
        metrics["online", "total", name] = Series(ends.astype(np.int64), epochs.astype(np.int64), values)
    return dataclasses.replace(run, metrics=metrics)

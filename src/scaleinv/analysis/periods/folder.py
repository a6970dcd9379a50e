"""The columns of a run folder: from its per-step record, else from the rows the monitor wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.runs import Run, load_run
from scaleinv.analysis.steps import has_steps, load_steps
from scaleinv.errors import UserError


def run_columns(folder: Path, every: int = 1) -> tuple[dict[str, Any], bool]:
    """Keyword arguments of :func:`scaleinv.analysis.periods.log.make_log`, and whether the optimizer is plain SGD.

    Errors: UserError for a folder that is not a run's, or that has no step-scale record.
    """
    run = load_run(folder)
    config = run.config
    plain = config.get("optimizer", "sgd") == "sgd" and not config.get("momentum")
    if has_steps(folder):
        record = load_steps(folder, every=every)
        columns = {name: getattr(record, name) for name in ("step", "loss", "rho", "eg", "lr", "angle")}
        return {**columns, "wd": config.get("weight_decay", 0.0)}, plain
    if config.get("time") == "step":
        return _monitored(run), plain
    raise UserError(
        f"{folder} has no per-step record (metrics/steps-*.parquet), and periods need one: train with --lr, or with "
        "--record-steps True"
    )


def _monitored(run: Run) -> dict[str, Any]:
    """The monitor's rows of all weights together, where loss and norm were measured at the same step."""
    tables = {name: run.table("online", "total", name) for name in ("loss", "rho", "eg", "elr")}
    if not len(tables["loss"].steps):
        raise UserError(f"{run.folder} has no loss: tell the monitor, monitor.loss(loss)")
    if not len(tables["rho"].steps):
        raise UserError(f"{run.folder} has no norm of scale-invariant weights: give the monitor inputs= or groups=")
    step = np.intersect1d(tables["loss"].steps, tables["rho"].steps)
    columns: dict[str, Any] = {"step": step}
    for name, table in tables.items():
        values = np.full(len(step), np.nan)
        shared, ours, theirs = np.intersect1d(step, table.steps, return_indices=True)
        values[ours] = table.values[theirs]
        if len(shared) and np.isfinite(values).any():
            columns[name] = values
    elr = columns.pop("elr", None)
    if elr is not None and np.all(np.isfinite(elr)):
        columns["lr"] = elr * columns["rho"] ** 2
    decay = run.config.get("weight_decay")
    if isinstance(decay, (int, float)):
        columns["wd"] = float(decay)
    return columns

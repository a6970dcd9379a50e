"""Take the columns of a run folder: from its per-step record, else from the rows the monitor wrote."""

from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run, load_run
from scaleinv.runfolder.steps import has_steps, load_steps
from scaleinv.theory.optimizers import clocks_of


def run_columns(folder: Path, every: int = 1) -> tuple[dict[str, Any], bool]:
    """Read the keyword arguments of :func:`.log.make_log`, and whether the optimizer is plain SGD.

    Errors: UserError for a folder that is not a run's, or that has no step-scale record.
    """
    run = load_run(folder)
    if has_steps(folder):
        record = load_steps(folder, every=every)
        columns = {name: getattr(record, name) for name in ("step", "loss", "rho", "eg", "lr", "angle")}
        columns["wd"] = run.config.get("weight_decay", 0.0)
        optimizer = str(run.config.get("optimizer", "sgd"))
        clocked = _clocked(columns, clocks_of(run.config))
        return clocked, optimizer == "sgd" and not run.config.get("momentum")
    if run.config.get("source") == "monitor":
        return _monitored(run)
    raise UserError(
        f"{folder} has no per-step record (metrics/steps-*.parquet), and periods need one: train with --lr, or with "
        "--record-steps True"
    )


def _clocked(columns: dict[str, Any], paces: set[float | None]) -> dict[str, Any]:
    """Add the pace of weight decay; drop ``wd`` where there is none: the clock then is the norm's own."""
    if len(paces) == 1 and (known := next(iter(paces))) is not None:
        return {**columns, "pace": known}
    if not columns.get("wd"):  # nothing to clock: that stays known
        return columns
    return {name: column for name, column in columns.items() if name != "wd"}


def _monitored(run: Run) -> tuple[dict[str, Any], bool]:
    """Take the monitor's rows of all scale-invariant weights together, where both loss and norm were logged."""
    tables = {name: run.table("online", "total", name) for name in ("loss", "rho", "eg", "lr", "angle")}
    if not len(tables["loss"].steps):
        raise UserError(f"{run.folder} has no loss: tell the monitor, monitor.loss(loss)")
    if not len(tables["rho"].steps):
        raise UserError(f"{run.folder} has no norm of scale-invariant weights: give the monitor inputs= or groups=")
    step = np.intersect1d(tables["loss"].steps, tables["rho"].steps)
    columns: dict[str, Any] = {"step": step}
    for name, table in tables.items():
        values = np.full(len(step), np.nan)
        _, ours, theirs = np.intersect1d(step, table.steps, return_indices=True)
        values[ours] = table.values[theirs]
        if name in ("loss", "rho") or np.isfinite(values).all():
            columns[name] = values
    # rates differ between param groups, or are not known: the clock then is the norm's own
    optimizers = run.config.get("optimizers", [])
    options = [group for one in optimizers for group in one.get("groups", [])]
    decays = {group.get("weight_decay") for group in options}
    if len(decays) == 1 and isinstance(decay := decays.pop(), (int, float)):
        columns["wd"] = float(decay)
    plain = run.config.get("optimizer") == "SGD" and not any(group.get("momentum") for group in options)
    return _clocked(columns, clocks_of(run.config)), plain

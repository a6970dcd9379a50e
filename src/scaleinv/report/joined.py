"""Join the runs of several folders, of sweeps, single runs and monitored ones, to one regime map."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run, SweepRun, folder_kind, load_run, load_sweep
from scaleinv.studies.regime_map import judged_row, regime_map

#: what runs of one map may differ in
_AXES = {"elr", "lr", "seed", "weight_decay", "start", "weights", "threads", "record_steps", "keep_every", "eval_every"}


def join_folders(folders: Sequence[Path]) -> SweepRun:
    """Read all runs of the folders; one that lies in several of them, by its identity, is taken once.

    - Says on stderr what the runs differ in besides rate, seed, weight decay and start: they are on one map all the
      same.
    - UserError where a folder is no run and no sweep, where there is no run, and for ELR and LR together.
    """
    runs: dict[str, Run] = {}
    for folder in folders:
        found = load_sweep(folder).runs if folder_kind(folder) == "sweep" else [load_run(folder)]
        for run in found:
            runs.setdefault(run.identity or str(run.folder.resolve()), run)
    kept = list(runs.values())
    if not kept:
        raise UserError(f"{', '.join(map(str, folders))}: no run has begun there")
    stated = {"elr" if run.config.get("lr") is None else "lr" for run in kept if run.time == "epoch"}
    if len(stated) > 1:
        raise UserError("some runs have an ELR (on the sphere) and some an LR (in the whole space): make two reports")
    differ = _differences(kept)
    if differ:
        sys.stderr.write(f"scaleinv: one map of runs that differ in {', '.join(differ)}\n")
    axis = stated.pop() if stated else "elr"
    rows = [judged_row(run) for run in kept]
    horizons = {int(run.config["steps"]) for run in kept if isinstance(run.config.get("steps"), int)}
    horizon = {"steps": horizons.pop() if len(horizons) == 1 else None, "steps_per_epoch": None, "epochs": None}
    place = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    return SweepRun(place, {"axis": axis}, regime_map(rows, axis, horizon), kept)


def _differences(runs: Sequence[Run]) -> list[str]:
    names = {name for run in runs for name in run.config} - _AXES
    values: dict[str, set[str]] = {name: {repr(run.config.get(name)) for run in runs} for name in sorted(names)}
    return [name for name, found in values.items() if len(found) > 1]

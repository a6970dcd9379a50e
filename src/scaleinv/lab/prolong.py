"""Prolong a run that has ended: more steps of the same, from its last checkpoint."""

import dataclasses
import os
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, read_config
from scaleinv.runfolder.checkpoint import list_checkpoints
from scaleinv.runfolder.files import Lock, disk_errors
from scaleinv.runfolder.layout import CONFIG, FINAL_PART, FINAL_STEPS, RESULT, part_name
from scaleinv.runfolder.manifest import MANIFEST, read_manifest
from scaleinv.runfolder.seal import read_sealed, rewrite_sealed, write_sealed
from scaleinv.runfolder.write import read_result

_RENAMED = {FINAL_PART: part_name("part", 0), FINAL_STEPS: part_name("steps", 0)}


def prolong(folder: Path, config: RunConfig) -> bool:
    """Make the run that has ended in ``folder`` one that has not, if ``config`` is the same with more steps.

    What it measured and its checkpoint stay. The weights are those of a run that was meant to be so long from the
    start; it has been evaluated at its former end as well. False where there is nothing to prolong. UserError where the
    horizon is part of what it did: a schedule, an end within an epoch, a run that diverged.
    """
    present = read_config(folder)
    if present is None or present.steps >= config.steps or dataclasses.replace(present, steps=config.steps) != config:
        return False
    if not (folder / RESULT).exists():
        raise UserError(
            f"{folder} was made for {present.steps} steps and has not ended; finish it first, then prolong it"
        )
    result = read_result(folder / RESULT)
    more = f"{folder} cannot be prolonged from {present.steps} to {config.steps} steps"
    if config.schedule != "constant":
        raise UserError(f"{more}: the schedule {config.schedule} has run to its end; choose another --out")
    if result["status"] != "finished":
        raise UserError(f"{more}: it {result['status']}; choose another --out")
    if present.steps % result["steps_per_epoch"]:
        raise UserError(f"{more}: it ended within an epoch of {result['steps_per_epoch']} steps; choose another --out")
    checkpoints = list_checkpoints(folder / "checkpoints")
    if not checkpoints:
        raise UserError(f"{more}: its checkpoint is gone")
    with Lock(folder):
        _open_parts(folder, checkpoints[0] / MANIFEST)
        head = read_sealed(folder / CONFIG)
        rewrite_sealed(folder / CONFIG, {**head, "config": config.to_dict(), "identity": config.identity()})
        with disk_errors(folder / RESULT):
            (folder / RESULT).unlink()
    return True


def _open_parts(folder: Path, manifest: Path) -> None:
    """Have the joined parts of a run that has ended be the first of several; a kill leaves one name or the other."""
    content, metrics = read_sealed(manifest, quiet=True), folder / "metrics"
    for name in content["parts"]:
        if name in _RENAMED and not (metrics / _RENAMED[name]).exists():
            with disk_errors(metrics / name):
                os.link(metrics / name, metrics / _RENAMED[name])
    content["parts"] = {_RENAMED.get(name, name): checksum for name, checksum in content["parts"].items()}
    write_sealed(manifest, content)
    if (listed := read_manifest(folder)) is not None:
        renamed = {f"metrics/{old}": f"metrics/{new}" for old, new in _RENAMED.items()}
        listed.files = {renamed.get(name, name): states for name, states in listed.files.items()}
        listed.write()
    with disk_errors(metrics):
        for name in _RENAMED:
            (metrics / name).unlink(missing_ok=True)

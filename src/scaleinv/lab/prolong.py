"""Prolong runs that have ended: more steps of the same, from their last checkpoints."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, read_config
from scaleinv.runfolder.checkpoint import list_checkpoints
from scaleinv.runfolder.files import Lock, content_of, disk_errors, write_bytes
from scaleinv.runfolder.layout import CONFIG, FINAL_PART, FINAL_STEPS, RESULT, part_name
from scaleinv.runfolder.manifest import MANIFEST, read_manifest
from scaleinv.runfolder.seal import read_object, rewrite_sealed, write_sealed
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
    if _status(folder, present, config) != "finished":
        raise UserError(f"{_more(folder, present, config)}: it diverged; choose another --out")
    _reopen(folder, config)
    return True


class Waiting(NamedTuple):
    """A run that is to be prolonged."""

    folder: Path
    new: Path  # where it shall be
    config: RunConfig
    status: str  # how it ended


def to_prolong(runs: Sequence[tuple[Path, Path, RunConfig]]) -> list[Waiting]:
    """Find the runs of a sweep that are too short, each (folder that it has, folder that it shall have, its config with
    more steps). UserError where one of them cannot be prolonged or has not ended.
    """
    waiting = []
    for old, new, config in runs:
        folder = new if new.exists() else old
        present = read_config(folder)
        if present is not None and present.steps < config.steps:
            waiting.append(Waiting(folder, new, config, _status(folder, present, config)))
    return waiting


def prolong_all(waiting: Sequence[Waiting]) -> None:
    """Prolong runs of a sweep. One that diverged has the same end, however long it was meant to be, and keeps it.
    Called again after a kill, it does the rest.
    """
    for folder, new, config, status in waiting:
        if folder != new:
            with disk_errors(new):
                folder.rename(new)
        if status == "finished":
            _reopen(new, config)
        else:
            _rename(new, config)


def _more(folder: Path, present: RunConfig, config: RunConfig) -> str:
    return f"{folder} cannot be prolonged from {present.steps} to {config.steps} steps"


def _status(folder: Path, present: RunConfig, config: RunConfig) -> str:
    """How a run ended: finished or diverged; UserError where it has not, or where it has finished for good."""
    if not (folder / RESULT).exists():
        raise UserError(
            f"{folder} was made for {present.steps} steps and has not ended; finish it first, then prolong it"
        )
    result, more = read_result(folder / RESULT), _more(folder, present, config)
    if config.schedule != "constant":
        raise UserError(f"{more}: the schedule {config.schedule} has run to its end; choose another --out")
    if result["status"] != "finished":
        return str(result["status"])
    if present.steps % result["steps_per_epoch"]:
        raise UserError(f"{more}: it ended within an epoch of {result['steps_per_epoch']} steps; choose another --out")
    if not list_checkpoints(folder / "checkpoints"):
        raise UserError(f"{more}: its checkpoint is gone")
    return "finished"


def _reopen(folder: Path, config: RunConfig) -> None:
    """Make it a run that has not ended. Killed within, it is the run it was, at its end but without its result."""
    with Lock(folder):
        _open_parts(folder, list_checkpoints(folder / "checkpoints")[0] / MANIFEST)
        with disk_errors(folder / RESULT):
            (folder / RESULT).unlink()
        _rename(folder, config)


def _rename(folder: Path, config: RunConfig) -> None:
    """Write the config and the identity that follows from it."""
    head = read_object(folder / CONFIG)
    rewrite_sealed(folder / CONFIG, {**head, "config": config.to_dict(), "identity": config.identity()})


def _name_too(path: Path, name: Path) -> None:
    """Give a file a second name, or a copy on file systems that have one name a file (FAT, some network ones)."""
    try:
        os.link(path, name)
    except OSError:
        write_bytes(name, content_of(path))


def _open_parts(folder: Path, manifest: Path) -> None:
    """Have the joined parts of a run that has ended be the first of several; a kill leaves one name or the other."""
    content, metrics = read_object(manifest, quiet=True), folder / "metrics"
    for name in content["parts"]:
        if name in _RENAMED and not (metrics / _RENAMED[name]).exists():
            with disk_errors(metrics / name):
                _name_too(metrics / name, metrics / _RENAMED[name])
    content["parts"] = {_RENAMED.get(name, name): checksum for name, checksum in content["parts"].items()}
    write_sealed(manifest, content)
    if (listed := read_manifest(folder)) is not None:
        renamed = {f"metrics/{old}": f"metrics/{new}" for old, new in _RENAMED.items()}
        listed.files = {renamed.get(name, name): states for name, states in listed.files.items()}
        listed.write()
    with disk_errors(metrics):
        for name in _RENAMED:
            (metrics / name).unlink(missing_ok=True)

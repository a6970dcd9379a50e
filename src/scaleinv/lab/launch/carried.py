"""Carry a run folder, with what the run reads besides, to a node that does not see it, and back whole."""

import io
import json
import os
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from scaleinv.lab.launch.base import Job
from scaleinv.runfolder.files import disk_errors, write_new
from scaleinv.runfolder.layout import CONFIG, LOCK, RESULT
from scaleinv.runfolder.manifest import MANIFEST
from scaleinv.runfolder.seal import read_object, rewrite_sealed
from scaleinv.runfolder.write import recorded_environment


def pack(folder: Path, files: Iterable[Path] | None = None) -> bytes:
    """Pack a folder, its locks aside; ``files``: these of it alone."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(folder.rglob("*") if files is None else files):
            if path.name != LOCK and path.is_file() and not path.is_symlink():
                tar.add(path, arcname=str(path.relative_to(folder)))
    return stream.getvalue()


def unpack(folder: Path, packed: bytes) -> None:
    """Put a packed folder into its place, whole or not at all."""
    part = folder.with_name(f".{folder.name}.{socket.gethostname()}.part")
    with disk_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for member in tar:  # files alone, below the folder: what `pack` packs
                content = tar.extractfile(member) if member.isfile() else None
                target = part / member.name
                if content is not None and target.resolve().is_relative_to(part.resolve()):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_new(target, [content.read()], flush=False)
        before = part.with_suffix(".before")
        shutil.rmtree(before, ignore_errors=True)
        if folder.exists():
            folder.rename(before)
        part.rename(folder)
        shutil.rmtree(before, ignore_errors=True)


def needs(job: Job, put: Callable[[Path, Iterable[Path] | None], Any]) -> dict[str, Any]:
    """Put what a run reads besides its folder, for a node that does not see it: the data of a problem of one's own and
    the run it starts from. ``put`` is told a folder and which of its files.
    """
    found: dict[str, Any] = {}
    data = _data_of(job.folder)
    if data is not None and data.is_dir():
        found["data"] = put(data, None)
    if job.start is not None:
        folder, lists = job.start.folder, job.start.file.with_name(MANIFEST)  # of a checkpoint
        found["start"] = put(folder, [*(folder / name for name in (CONFIG, RESULT, MANIFEST)), job.start.file, lists])
    return found


def _data_of(folder: Path) -> Path | None:
    problem = read_object(folder / CONFIG).get("problem") if (folder / CONFIG).exists() else None
    place = problem.get("place") if isinstance(problem, Mapping) else None
    return Path(os.path.normpath(folder / place)) if isinstance(place, str) else None


def lay_out_needs(folder: Path, carried: Mapping[str, bytes]) -> None:
    """On a node: put what :func:`needs` found where the run in ``folder`` looks for it."""
    data = _data_of(folder)
    if "data" in carried and data is not None:
        unpack(data, carried["data"])
    if "start" in carried:
        unpack(folder.with_name("start"), carried["start"])
        _say_start(folder, str(folder.with_name("start")))


def pack_to_return(folder: Path, sent: bytes) -> bytes:
    """Pack a folder for the driver, whose own paths config.json then holds again, as in the ``sent`` one."""
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        config = tar.extractfile(CONFIG) if CONFIG in tar.getnames() else None
        told = None if config is None else json.loads(config.read()).get("environment", {}).get("start")
    if told is not None:
        _say_start(folder, told)
    return pack(folder)


def _say_start(folder: Path, place: str) -> None:
    head = read_object(folder / CONFIG)
    rewrite_sealed(folder / CONFIG, {**head, "environment": {**recorded_environment(folder), "start": place}})

"""Do work that is no training: call the function that ``task.json`` names, with its arguments, on any machine.

What it returns stands in ``result.json`` of the same folder, written last; so a folder of a task is like a run's: any
engine may do it, and do it again.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from scaleinv.errors import UserError
from scaleinv.plugins import load_object
from scaleinv.runfolder.files import Lock, remove_tree
from scaleinv.runfolder.layout import FORMAT, FORMATS_READ, RESULT, TASK
from scaleinv.runfolder.seal import digest_of, read_object, read_sealed, write_sealed


class Taken(UserError):
    """A task was done by another process, and whoever asked for it has taken its result."""


class Task(NamedTuple):
    """A call: ``PACKAGE.MODULE:FUNCTION`` and its arguments by name, of JSON types; it returns a JSON object."""

    call: str
    arguments: Mapping[str, Any]


def write_task(folder: Path, task: Task, threads: int) -> None:
    """Write task.json, unless it is there."""
    if not (folder / TASK).exists():
        with Lock(folder, wait=5.0):
            content = {"call": task.call, "arguments": dict(task.arguments), "threads": threads}
            write_sealed(folder / TASK, {"format": FORMAT, "task": content}, token=digest_of(content))


def is_task(folder: Path) -> bool:
    """Tell whether a folder holds a task in place of a run."""
    return (folder / TASK).exists()


def do_task(folder: Path, *, lock_wait: float = 5.0) -> dict[str, Any]:
    """Do the task of a folder, unless it is done, and return its result. Raises :class:`UserError` for a damaged
    task.json, for what the function refuses, and where another process is at it.
    """
    head = read_sealed(folder / TASK, quiet=True)
    told = head.get("task") if isinstance(head, dict) and head.get("format") in FORMATS_READ else None
    if not isinstance(told, dict) or not isinstance(told.get("call"), str) or not isinstance(told.get("threads"), int):
        raise UserError(f"{folder / TASK} is not a task of this version; remove {folder} and start the command again")
    with Lock(folder, wait=lock_wait):
        if not is_task(folder):  # while we waited; the lock has made the folder again
            raise Taken(f"{folder} is done, and its result was taken away")
        if not (folder / RESULT).exists():
            threads = torch.get_num_threads()
            torch.set_num_threads(told["threads"])
            try:
                write_sealed(folder / RESULT, load_object(told["call"])(**told["arguments"]))
            finally:
                torch.set_num_threads(threads)
        return read_object(folder / RESULT, quiet=True)


def take_away(folder: Path) -> None:
    """Remove a task that is done, once who does it has left the folder; what cannot be removed stays."""
    with suppress(UserError), Lock(folder, wait=5.0):
        remove_tree(folder)
    remove_tree(folder)

"""Train the config.json of a folder to its end: the unit that any engine, make or ssh can start, and start again."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, present_config, read_config
from scaleinv.lab.data import Dataset
from scaleinv.lab.data.source import ENVIRONMENT
from scaleinv.lab.devices import choose_device
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.job import bugs_kept
from scaleinv.lab.launch.task import Taken, do_task, is_task, write_task
from scaleinv.lab.problem import Problem
from scaleinv.lab.recipe import source_of
from scaleinv.lab.start import Start, find_start
from scaleinv.lab.train import RunEvent, Stopped, run
from scaleinv.runfolder.files import Busy, Lock, remove_tree, write_bytes
from scaleinv.runfolder.layout import CONFIG, ERROR
from scaleinv.runfolder.seal import read_object
from scaleinv.runfolder.write import recorded_environment, write_head

#: what asks a run to stop: SIGUSR2 is how submitit announces the end of a job's time, SIGUSR1 how many clusters do
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
#: seconds a run has for its last checkpoint; beyond them it ends at once, and an older checkpoint (seconds) stands
GRACE = 20.0
#: exit code of a run that was stopped in time and is to be started again (EX_TEMPFAIL)
AGAIN = 75


def prepare(job: Job, data_dir: Path | None = None, problem: Mapping[str, Any] | None = None) -> None:
    """Write config.json of a job, so that its folder says all: the config, where the data and the weights it starts
    from lie, how a ``problem`` of one's own is made again. A folder that is prepared or further is left as it is; one
    that holds anything else is a :class:`UserError`.
    """
    if job.task is not None:
        write_task(job.folder, job.task, job.config.threads)
        return
    if present_config(job.folder, job.config) is not None:
        return
    places = {"data_dir": data_dir or os.environ.get(ENVIRONMENT), "start": job.start and job.start.folder}
    absolute = {name: str(Path(place).absolute()) for name, place in places.items() if place}
    with Lock(job.folder, wait=5.0):
        if present_config(job.folder, job.config) is None:
            lineage = None if job.start is None else job.start.lineage()
            told = problem and {**problem, "place": os.path.relpath(problem["place"], job.folder)}
            head = (job.config.to_dict(), job.config.identity(), {**job.origin, **absolute}, lineage, told)
            write_head(job.folder, *head)


def prepared(folder: Path) -> RunConfig:
    """Read the config of a folder to train; a :class:`UserError` says how one is made."""
    config = read_config(folder)
    if config is None:
        raise UserError(f"{folder} has no {CONFIG}; write it by: scaleinv sweep ... --prepare")
    return config


def train_folder(
    folder: Path,
    *,
    source: Dataset | Problem | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
    watch: Callable[[RunEvent], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
    lock_wait: float = 5.0,
) -> dict[str, Any]:
    """Train what ``folder/config.json`` says to its end, from wherever it stands, and return its result.

    ``source`` spares reading the data; ``data_dir``: where it lies, if not where config.json says; ``device``:
    which one of the type the run was made for. Raises
    :class:`scaleinv.lab.train.Stopped` after ``stop`` said yes, and :class:`UserError` for a folder that is not one of
    a run. A bug leaves its traceback in ``folder/error.txt``.
    """
    config = prepared(folder)
    with bugs_kept(folder):
        where = choose_device(device or config.device)
        if where.partition(":")[0] != config.device:
            raise UserError(f"{folder} is a run on {config.device}; on {where} its numbers would be others")
        if source is None:
            told = recorded_environment(folder).get("data_dir")
            place = data_dir or (Path(told) if isinstance(told, str) and Path(told).is_dir() else None)
            source = source_of(folder, config, place)
        at: dict[str, Any] = {"lock_wait": lock_wait, "device": where}
        return run(config, source, folder, start=_start(folder, config.start), watch=watch, stop=stop, **at)


def attempt(
    folder: Path,
    source: Dataset | Problem | None = None,
    stop: Callable[[], bool] = lambda: False,
    wait: float = 60.0,  # the job before may be about to end
) -> bool:
    """Train a folder, or do its task, where nobody sees it, for an engine: False where it is to be started again, since
    it was stopped, or since another job was still at it after ``wait`` seconds. What goes wrong stands in
    ``folder/error.txt``, the user's mistakes in one line. A task whose folder goes meanwhile was done by
    another job, and its result was taken: the folder is not made again.
    """
    task = is_task(folder)
    try:
        if task:
            with bugs_kept(folder):
                do_task(folder, lock_wait=wait)
        else:
            train_folder(folder, source=source, stop=stop, lock_wait=wait)
    except (Stopped, Busy):
        return False
    except Taken:
        remove_tree(folder)
        with suppress(OSError):  # others are there
            folder.parent.rmdir()
    except UserError as error:
        if not task or folder.exists():
            write_bytes(folder / ERROR, f"UserError: {error}\n".encode(), parents=True)
    except Exception:  # its traceback is there
        traceback.print_exc()
    return True


def _start(folder: Path, checksum: str | None) -> Start | None:
    """Find the weights that a run starts from; None where it needs none any more, or where they are gone."""
    if checksum is None:
        return None
    lineage, place = read_object(folder / CONFIG).get("lineage"), recorded_environment(folder).get("start")
    lineage = lineage if isinstance(lineage, dict) else {}
    with suppress(UserError):  # a run that has begun does not need them; one that has not says what it lacks
        found = find_start(f"{place or lineage.get('folder')}@{lineage.get('epoch')}")
        return found if found.checksum == checksum else None
    return None


class Stopping:
    """Says yes, when called, once this process is asked to stop: by one of :data:`SIGNALS` or after ``time_limit``
    seconds. Where the run does not come to a checkpoint within :data:`GRACE` seconds (a long evaluation), the process
    ends with :data:`AGAIN` after ``leaving()``: the last checkpoint stands. Holds within a ``with``.
    """

    def __init__(self, time_limit: float | None = None, leaving: Callable[[], None] = lambda: None) -> None:
        self.signal: int | None = None  # the one that asked
        self._asked = threading.Event()
        self._leaving = leaving
        self._timers = [threading.Timer(GRACE, self._leave)]
        if time_limit is not None:
            self._timers.append(threading.Timer(time_limit, self._ask))
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked.is_set()

    def __enter__(self) -> Stopping:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        for timer in self._timers:
            timer.daemon = True
        for timer in self._timers[1:]:
            timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int | None = None, frame: object = None) -> None:
        if not self._asked.is_set():
            self.signal = number
            self._asked.set()
            self._timers[0].start()

    def _leave(self) -> None:
        self._leaving()
        os._exit(AGAIN)

"""Many runs on the cores of one machine: warm worker processes that share one copy of the data.

Every worker has its own pipe, so a worker that dies (out of memory, killed) is known together with its run; the run is
tried once more in a new worker. Workers leave when their parent is gone, however it went.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import shutil
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.build import lay_out
from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset, SharedDataset, open_shared, share
from scaleinv.lab.start import Start
from scaleinv.lab.train import Event, run

Watcher = Callable[[RunConfig, Event], None]

#: how often a run may take its worker down before it counts as failed
TRIES = 2


@dataclass(frozen=True)
class Task:
    """A run to do."""

    config: RunConfig
    folder: Path
    origin: Mapping[str, Any]  # what config.json says about where it was made
    start: Start | None = None  # the weights it goes on from


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: Task | None = None


def launch(
    tasks: Sequence[Task], dataset: Dataset, shared: Path, *, workers: int, watch: Watcher | None = None
) -> Generator[tuple[Task, Mapping[str, Any] | None, str], None, None]:
    """Yield (task, result, error) as runs end; ``result`` is ``None`` where ``error`` says why.

    With one worker everything happens in a single child process too, so that numbers cannot depend on ``workers``.
    """
    if not tasks:
        return
    threads = {task.config.threads for task in tasks}
    if len(threads) != 1:
        raise UserError(f"the runs of a sweep must have one thread count, not {sorted(threads)}")
    shutil.rmtree(shared, ignore_errors=True)  # what a killed sweep left
    handle = share(lay_out(dataset, tasks[0].config.model), shared)
    del dataset
    waiting, tries = deque(tasks), {id(task): 0 for task in tasks}
    crew: list[_Worker] = []
    try:
        for _ in range(min(workers, len(tasks))):
            crew.append(_hire(handle, tasks[0].config.threads))
        while waiting or any(w.task for w in crew):
            for worker in crew:
                if worker.task is None and waiting:
                    worker.task = waiting.popleft()
                    with suppress(OSError):  # it has died already: the pipe is readable, and says so below
                        worker.pipe.send(worker.task)
            for pipe in wait([w.pipe for w in crew if w.task]):
                worker = next(w for w in crew if w.pipe is pipe)
                task = worker.task
                assert task is not None
                try:
                    kind, content = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.pipe.close()
                    worker.process.join()
                    crew.remove(worker)
                    tries[id(task)] += 1
                    if tries[id(task)] < TRIES:
                        waiting.append(task)
                    else:
                        code = worker.process.exitcode
                        yield task, None, f"its worker process died {TRIES} times (exit code {code}; out of memory?)"
                    if sum(w.task is None for w in crew) < len(waiting):
                        crew.append(_hire(handle, task.config.threads))
                    continue
                if kind == "event":
                    if watch is not None:
                        watch(task.config, content)
                    continue
                worker.task = None
                yield (task, content, "") if kind == "result" else (task, None, content)
    finally:
        for worker in crew:
            if worker.task is not None:
                worker.process.kill()  # a checkpoint is never half-written: see checkpoint.py
            worker.pipe.close()
        for worker in crew:
            worker.process.join(timeout=10)
        shutil.rmtree(shared, ignore_errors=True)


def _hire(handle: SharedDataset, threads: int) -> _Worker:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))  # read once, when the child loads torch
    try:
        process = context.Process(target=_serve, args=(theirs, handle), daemon=True)
        with _interrupts_held():
            process.start()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal but is the parent's to handle: children started within are deaf."""
    ensure_running()  # the first start would launch it, and it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, handle: SharedDataset) -> None:
    """A worker's life: take a task, run it, say what happened."""
    leave_with_parent()
    dataset = open_shared(handle)
    while True:
        try:
            task: Task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = _attempt(task, dataset, pipe)
            pipe.send(answer)
        except OSError:  # the parent has closed the pipe: it wants no answer any more
            return


def _attempt(task: Task, dataset: Dataset, pipe: Connection) -> tuple[str, Any]:
    try:
        result = run(
            task.config,
            dataset,
            task.folder,
            start=task.start,
            watch=lambda event: pipe.send(("event", event)),
            origin=task.origin,
            lock_wait=5.0,
        )
    except UserError as error:
        return "error", str(error)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a bug must not take the other runs along
        with suppress(OSError):
            task.folder.mkdir(parents=True, exist_ok=True)
            (task.folder / "error.txt").write_text(traceback.format_exc())
        return "error", f"{type(error).__name__}: {error} (traceback: {task.folder / 'error.txt'})"
    return "result", result


def leave_with_parent() -> None:
    """To call in a worker: end it as soon as its parent is gone, however that went (nothing is told by SIGKILL)."""
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)

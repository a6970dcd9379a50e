"""Give work to warm worker processes, one item at a time; a worker that dies costs its own item only.

Why not a library: concurrent.futures and loky fail every pending item when one worker dies, multiprocessing.Pool waits
for the lost item for ever, and none of them hands over reports while an item is worked on. Here every worker has a pipe
of its own, so its end is known together with the item it had.
"""

import atexit
import functools
import multiprocessing as mp
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from typing import Any, Generic, TypeVar

from scaleinv.text import count

Item = TypeVar("Item")
Result = TypeVar("Result")
#: what work calls to hand something over before it ends
Report = Callable[[Any], None]

#: numpy and torch read these once, when they are loaded
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerDied(RuntimeError):
    """The worker process of an item died each time it was tried."""


@dataclass(frozen=True)
class Answer(Generic[Item, Result]):
    """What became of an item: the result of its work, or the error it raised (or :class:`WorkerDied`)."""

    item: Item
    result: Result | None
    error: Exception | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    place: int  # from 0 to size - 1: which of the environments it was started with
    number: int | None = None  # of the item it works on


class Crew(Generic[Item, Result]):
    """Worker processes that call ``work(item, report)``, at most ``size`` at a time, each on ``threads`` threads.

    ``work`` and the items are pickled. ``environments``: variables that each worker is started with, such as the GPU it
    may use; one that takes the place of a dead one has its. An item whose worker dies is tried again in a new one,
    ``tries`` times in all. Workers do not hear Ctrl-C, which is the parent's to handle, and leave when their parent is
    gone, however it went.
    """

    def __init__(
        self,
        work: Callable[[Item, Report], Result],
        size: int,
        *,
        threads: int = 1,
        tries: int = 2,
        environments: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.environments = list(environments) or [{}] * size
        self.work, self.size, self.threads, self.tries = work, size, threads, tries
        self._workers: list[_Worker] = []
        self._closed = False
        atexit.register(self.close)  # or the interpreter would wait for workers that nobody ended

    def run(
        self,
        items: Sequence[Item],
        *,
        started: Callable[[Item], None] = lambda item: None,
        reported: Callable[[Item, Any], None] = lambda item, content: None,
    ) -> Iterator[Answer[Item, Result]]:
        """Yield an answer for each item as its work ends. ``started``: told when a worker is given an item, which is
        more than once where it is tried again; ``reported``: told what ``work`` reports of it.

        Call :meth:`close` if you may stop before the last answer.
        """
        waiting, deaths, answers = deque(range(len(items))), [0] * len(items), list[Answer[Item, Result]]()
        try:
            while True:
                while len(self._workers) < self.size and sum(w.number is None for w in self._workers) < len(waiting):
                    self._hire()
                for worker in self._workers:
                    if worker.number is None and waiting:
                        worker.number = waiting.popleft()
                        with suppress(OSError):  # it has died already: its pipe tells
                            worker.pipe.send(items[worker.number])
                        started(items[worker.number])
                yield from answers  # while the next items are worked on
                busy = [(worker, worker.number) for worker in self._workers if worker.number is not None]
                if self._closed or not busy:
                    return
                answers, ready = [], wait([worker.pipe for worker, _ in busy])
                for worker, number in busy:
                    if worker.pipe not in ready:
                        continue
                    try:
                        kind, content = worker.pipe.recv()
                    except (EOFError, OSError):
                        self._dismiss(worker)
                        deaths[number] += 1
                        if deaths[number] < self.tries:
                            waiting.append(number)
                            continue
                        code, times = worker.process.exitcode, count(self.tries, "time")
                        kind = "error"
                        content = WorkerDied(f"its worker process died {times} (exit code {code}; out of memory?)")
                    if kind == "report":
                        reported(items[number], content)
                        continue
                    worker.number = None
                    result, error = (content, None) if kind == "result" else (None, content)
                    answers.append(Answer(items[number], result, error))
        finally:
            self.close()

    def close(self) -> None:
        """End all workers at once, whatever they are at, and so :meth:`run`; may be called again."""
        self._closed = True
        for worker in self._workers:
            if worker.number is not None:
                worker.process.kill()
            worker.pipe.close()  # an idle one leaves by itself
        for worker in self._workers:
            worker.process.join(timeout=10)
            worker.process.kill()
        self._workers.clear()
        atexit.unregister(self.close)

    def _hire(self) -> None:
        context = mp.get_context("spawn")  # a fork of a process with threads (torch, a live display) may hang
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.work))
        place = min(set(range(self.size)) - {worker.place for worker in self._workers})
        variables = {**dict.fromkeys(_THREADS, str(self.threads)), **self.environments[place]}
        with _environment(variables), _interrupts_held(), _main_left_alone():
            process.start()
            self._workers.append(_Worker(process, ours, place))  # known to `close` before an interrupt may come
        theirs.close()

    def _dismiss(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self._workers.remove(worker)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Have processes started within not run the main script again: one that starts training would do so there too.

    What of the script a worker needs it finds by name (``script.py:make_net``, :mod:`scaleinv.plugins`).
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    try:
        main.__spec__ = None
        if file is not None:
            del main.__file__
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal but is the parent's to handle: children started within are deaf."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: workers end with their parent, whose pipe they read
        yield
        return
    ensure_running()  # the first start would launch it, and it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Callable[[Any, Report], Any]) -> None:
    """A worker's life: take an item, work on it, say what happened."""
    parent = mp.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()

    def send(kind: str, content: Any) -> None:
        message = pickle.dumps((kind, content))
        try:
            pipe.send_bytes(message)
        except OSError:  # the parent wants no answer any more
            os._exit(1)

    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        try:  # what cannot be pickled is an error of this item as well
            send("result", work(pickle.loads(message), functools.partial(send, "report")))
        except Exception as error:
            send("error", _portable(error))


def _portable(error: Exception) -> Exception:
    """The error, in words where it does not survive pickling."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _leave_with(sentinel: int) -> None:
    wait([sentinel])  # nothing is told by SIGKILL
    os._exit(1)

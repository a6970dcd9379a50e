"""What launchers share whose jobs run out of sight: the run folders say how far each is, and how it ended."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scaleinv.errors import UserError
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.train import RunEvent
from scaleinv.runfolder.layout import ERROR, PROGRESS, RESULT
from scaleinv.runfolder.progress import read_progress
from scaleinv.runfolder.seal import read_object
from scaleinv.runfolder.write import read_result
from scaleinv.text import count, visible

#: seconds between two looks at the folders, and between two questions to the engine
POLL, ASK = 1.0, 5.0
#: how often a job is started that ends without a result and without having come further
TRIES = 3


class Gone(NamedTuple):
    """A job that the engine does not have any more."""

    error: str = ""  # why it can have no result however often it is started; empty: start it again
    log: str = ""  # where the engine wrote what it printed


class Polled:
    """A launcher whose jobs train their folders elsewhere; an engine is a subclass that submits jobs and knows which of
    them it still has. A job that is lost (pre-empted, out of time, its node dead) is submitted again, and resumes.
    """

    engine = "the engine"

    def __init__(self, prepare: Callable[[Sequence[Job]], None]) -> None:
        self.prepare = prepare  # writes the folders of jobs
        self._cancelled = False
        self._seen: dict[Path, tuple[int, int]] = {}  # time and size of the progress.json read last
        self._farthest: dict[Path, int] = {}  # step
        self._tried: dict[Path, int] = {}  # starts since it last came further
        self._heard = self._told = ""  # why jobs wait: what the engine said last, and what was told of that

    def submit(self, jobs: Sequence[Job]) -> None:
        """Give jobs to the engine. Raises :class:`UserError` where it refuses them."""
        raise NotImplementedError

    def held(self, jobs: Sequence[Job]) -> set[Path]:
        """Which folders the engine still has, waiting or running: of this process's jobs and of an earlier one's."""
        raise NotImplementedError

    def why_gone(self, job: Job) -> Gone:
        """Say why a job left without a result."""
        return Gone()

    def why_waiting(self, jobs: Sequence[Job]) -> str:
        """Say in one line why jobs do not begin, where the engine cannot begin them as it is; empty: nothing to say."""
        return ""

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends. Jobs that the engine has of an earlier call are waited for, not started twice."""
        waiting = {job.folder: job for job in jobs}
        self.prepare(jobs)
        held = self.held(jobs)
        self._start([job for job in jobs if job.folder not in held])
        asked = time.monotonic()
        while waiting and not self._cancelled:
            for job in list(waiting.values()):
                finished = self._ended(job)
                if finished is not None:
                    del waiting[job.folder]
                    _tell_end(finished, watch)
                    yield finished
                else:
                    self._tell(job, watch)
            if waiting and time.monotonic() - asked >= ASK:
                held = self.held(list(waiting.values()))
                asked = time.monotonic()
                lost = [job for job in waiting.values() if job.folder not in held and self._ended(job) is None]
                again = []
                for job in lost:
                    finished = self._lost(job)
                    if finished is None:
                        again.append(job)
                    else:
                        del waiting[job.folder]
                        yield finished
                if again:
                    self._start(again)
                elif waiting:
                    self._tell_why(self.why_waiting(list(waiting.values())))
            if waiting and not self._cancelled:
                time.sleep(POLL)

    def cancel(self) -> None:
        """Stop waiting. Jobs of an engine keep running without us; see its own cancel for those."""
        self._cancelled = True

    def _start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._tried[job.folder] = self._tried.get(job.folder, 0) + 1
            with suppress(OSError):
                (job.folder / ERROR).unlink(missing_ok=True)
        if jobs:
            self.submit(jobs)

    def _ended(self, job: Job) -> Finished | None:
        path = job.folder / RESULT
        if path.exists():
            with suppress(UserError):
                return Finished(job, read_result(path) if job.task is None else read_object(path, quiet=True))
        return None

    def _tell(self, job: Job, watch: Watcher) -> None:
        """Hand on what progress.json says, if it has changed."""
        try:
            stat = (job.folder / PROGRESS).stat()
        except OSError:
            return
        mark = (stat.st_mtime_ns, stat.st_size)
        now = None if self._seen.get(job.folder) == mark else read_progress(job.folder)
        if now is not None:
            self._seen[job.folder] = mark
            if now.step > self._farthest.get(job.folder, -1):
                self._farthest[job.folder] = now.step
                self._tried[job.folder] = 0
            watch(job, RunEvent("epoch", now.step, now.steps, now.epoch, now.numbers))

    def _tell_why(self, why: str) -> None:
        """Write why jobs wait, once it has been so twice in a row, and when that changes or is over."""
        if why == self._heard and why != self._told:
            sys.stderr.write(f"scaleinv: {visible(why) or f'{self.engine} can begin the runs again'}\n")
            sys.stderr.flush()
            self._told = why
        self._heard = why

    def _lost(self, job: Job) -> Finished | None:
        """Decide about a job that left without a result: how it ended, or None to start it again."""
        gone = self.why_gone(job)
        place = job.folder / ERROR
        if place.exists():
            last = (place.read_text(errors="replace").strip().splitlines() or ["?"])[-1]
            known = last.removeprefix("UserError: ")
            return Finished(job, None, known if known != last else f"{last} (traceback: {place})")
        if gone.error:
            return Finished(job, None, gone.error)
        if self._tried.get(job.folder, 0) >= TRIES:
            where = f"; its output: {gone.log}" if gone.log else ""
            return Finished(job, None, f"{self.engine} ended it {count(TRIES, 'time')} without a result{where}")
        return None


def _tell_end(finished: Finished, watch: Watcher) -> None:
    """Hand on how far a run came in the end; between two looks it may have trained all there was."""
    job, result = finished.job, finished.result
    if result is not None and job.task is None:
        watch(
            job, RunEvent("ended", result["steps"], job.config.steps, int(result["epochs"]), message=result["status"])
        )

"""The launcher for the cores of one machine: warm worker processes that share one copy of the data."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset, SharedDataset, share
from scaleinv.lab.images import lay_out
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.crew import Crew, Report
from scaleinv.lab.launch.job import train_job
from scaleinv.lab.problem import Problem
from scaleinv.lab.recipe import Recipe
from scaleinv.runfolder.files import remove_tree


class Processes:
    """Trains jobs, ``workers`` at a time; ``shared``: a folder for the copy of the data, removed later.

    ``source``: a data set of the package, or the recipe of a Problem. With one worker everything happens in a child
    process too, so that numbers cannot depend on ``workers``. A job whose worker dies is tried once more.
    """

    def __init__(self, source: Dataset | Recipe, shared: Path, workers: int) -> None:
        self.source, self.shared, self.workers = source, shared, workers
        self._crew: Crew[Job, Mapping[str, Any]] | None = None

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends. Raises :class:`UserError` for jobs of different thread counts."""
        if not jobs:
            return
        threads = {job.config.threads for job in jobs}
        if len(threads) != 1:
            raise UserError(f"the runs of a sweep must have one thread count, not {sorted(threads)}")
        remove_tree(self.shared)  # what a killed sweep left
        try:
            handle: SharedDataset | Recipe
            if isinstance(self.source, Recipe):
                handle = self.source
            else:
                handle = share(lay_out(self.source, jobs[0].config.model), self.shared)
            self._crew = Crew(functools.partial(_train, handle), self.workers, threads=threads.pop())
            for answer in self._crew.run(jobs, reported=watch):
                yield Finished(answer.item, answer.result, "" if answer.error is None else str(answer.error))
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop all jobs at once; a checkpoint is never half-written, so they resume from their last one."""
        if self._crew is not None:
            self._crew.close()
            remove_tree(self.shared)


@functools.lru_cache(maxsize=1)
def _opened(handle: SharedDataset | Recipe) -> Dataset | Problem:
    return handle.open()


def _train(handle: SharedDataset | Recipe, job: Job, report: Report) -> dict[str, Any]:
    """In a worker: train a job; a bug leaves its traceback in the run folder."""
    return train_job(lambda: _opened(handle), job, report)

"""The launcher for the cores of one machine: warm worker processes that share one copy of the data."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaleinv.errors import StateError, UserError
from scaleinv.lab.data import Dataset, SharedDataset, share
from scaleinv.lab.images import lay_out
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.crew import Crew, Report
from scaleinv.lab.launch.gpus import visible_gpus, worker_environments
from scaleinv.lab.launch.job import train_job
from scaleinv.lab.problem import Problem
from scaleinv.lab.recipe import Recipe
from scaleinv.runfolder.files import remove_tree


class Processes:
    """Trains jobs, ``workers`` at a time; ``shared``: a folder for the copy of the data, removed later.

    ``source``: a data set of the package, or the recipe of a Problem; None: all jobs are tasks. With one worker
    everything happens in a child process too, so that numbers cannot depend on ``workers``. A job whose worker dies is
    tried once more. On ``cuda`` each worker has a GPU of its own, or shares one where they are more than the GPUs.
    """

    def __init__(self, source: Dataset | Recipe | None, shared: Path, workers: int) -> None:
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
            handle: SharedDataset | Recipe | None
            if self.source is None or isinstance(self.source, Recipe):
                handle = self.source
            else:
                handle = share(lay_out(self.source, jobs[0].config.model), self.shared)
            device = jobs[0].device or jobs[0].config.device
            gpus = visible_gpus() if device == "cuda" else []
            places = worker_environments(device, self.workers, gpus)
            self._crew = Crew(
                functools.partial(_train, handle), self.workers, threads=threads.pop(), environments=places
            )
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
def _opened(handle: SharedDataset | Recipe | None) -> Dataset | Problem:
    if handle is None:
        raise StateError("a job without a task needs a source to train on")
    return handle.open()


def _train(handle: SharedDataset | Recipe | None, job: Job, report: Report) -> dict[str, Any]:
    """In a worker: train a job, or do its task; a bug leaves its traceback in the run folder."""
    return train_job(lambda: _opened(handle), job, report)

"""The launcher for this process: one job after another."""

import functools
from collections.abc import Iterator, Sequence

import torch

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.job import JobFailed, train_job
from scaleinv.lab.problem import Problem


class Here:
    """Trains jobs one after another in this process, as it must be where a factory has no name (a notebook)."""

    def __init__(self, source: Dataset | Problem) -> None:
        self.source, self._cancelled = source, False

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends; torch has the thread count it had before afterwards."""
        threads = torch.get_num_threads()
        try:
            for job in jobs:
                if self._cancelled:
                    return
                try:
                    result = train_job(lambda: self.source, job, functools.partial(watch, job))
                    yield Finished(job, result)
                except (UserError, JobFailed) as error:
                    yield Finished(job, None, str(error))
        finally:
            torch.set_num_threads(threads)

    def cancel(self) -> None:
        """Start no other job."""
        self._cancelled = True

"""Train one job, wherever it was launched."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Job
from scaleinv.lab.problem import Problem
from scaleinv.lab.train import RunEvent, run


class JobFailed(RuntimeError):
    """Tells in the parent why a job has no result."""


def train_job(source: Callable[[], Dataset | Problem], job: Job, report: Callable[[RunEvent], None]) -> dict[str, Any]:
    """Train a job; a bug leaves its traceback in the run folder and is a :class:`JobFailed`."""
    try:
        return run(
            job.config,
            source(),
            job.folder,
            start=job.start,
            watch=report,
            origin=job.origin,
            lock_wait=5.0,
            device=job.device,
        )
    except UserError:
        raise
    except Exception as error:
        place = job.folder / "error.txt"
        with suppress(OSError):
            job.folder.mkdir(parents=True, exist_ok=True)
            place.write_text(traceback.format_exc())
        raise JobFailed(f"{type(error).__name__}: {error} (traceback: {place})") from error

"""Train one job, wherever it was launched."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.task import do_task, write_task
from scaleinv.lab.problem import Problem
from scaleinv.lab.train import RunEvent, Stopped, run
from scaleinv.runfolder.files import write_bytes
from scaleinv.runfolder.layout import ERROR


class JobFailed(RuntimeError):
    """Tells in the parent why a job has no result."""


@contextmanager
def bugs_kept(folder: Path) -> Iterator[None]:
    """Leave the traceback of a bug in ``folder/error.txt``; a user's mistake and a run that was stopped are none."""
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception:
        with suppress(UserError):  # a full disk
            write_bytes(folder / ERROR, traceback.format_exc().encode("utf-8", "backslashreplace"), parents=True)
        raise


def train_job(source: Callable[[], Dataset | Problem], job: Job, report: Callable[[RunEvent], None]) -> dict[str, Any]:
    """Train a job, or do its task; a bug leaves its traceback in the run folder and is a :class:`JobFailed`."""
    try:
        with bugs_kept(job.folder):
            if job.task is not None:
                write_task(job.folder, job.task, job.config.threads)
                return do_task(job.folder)
            return run(
                job.config,
                source(),
                job.folder,
                start=job.start,
                watch=report,
                origin=job.origin,
                lock_wait=job.wait,
                device=job.device,
            )
    except UserError:
        raise
    except Exception as error:
        raise JobFailed(f"{type(error).__name__}: {error} (traceback: {job.folder / ERROR})") from error

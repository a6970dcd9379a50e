"""Where runs run: the protocol of a launcher. It is given jobs and yields them as they end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from scaleinv.lab.config import RunConfig
from scaleinv.lab.launch.task import Task
from scaleinv.lab.start import Start
from scaleinv.lab.train import RunEvent


class Job(NamedTuple):
    """A run to train to its end in ``folder``, from wherever it stopped; or, with a ``task``, what to do there."""

    config: RunConfig
    folder: Path
    origin: Mapping[str, Any]  # what config.json says about where it was made
    start: Start | None = None  # the weights it starts from
    device: str | None = None  # which one of config.device's type
    wait: float = 5.0  # seconds to wait for another process that trains it
    task: Task | None = None  # in place of training; config is then that of the run it is about


class Finished(NamedTuple):
    """A job that has ended: with a result (a diverged run has one too), or with ``None`` and why there is none."""

    job: Job
    result: Mapping[str, Any] | None
    error: str = ""


#: told what the runs report while they train
Watcher = Callable[[Job, RunEvent], None]


class Launcher(Protocol):
    """Trains jobs somewhere. All state is in the run folders: a job that was cut off may be launched again anywhere."""

    def run(self, jobs: Sequence[Job], watch: Watcher) -> Iterator[Finished]:
        """Yield every job as it ends; one that fails does not stop the others."""
        ...

    def cancel(self) -> None:
        """Stop all jobs at once, and so :meth:`run`; nothing happens where none is running."""
        ...


def unwatched(job: Job, event: RunEvent) -> None:
    """A watcher that shows nothing."""

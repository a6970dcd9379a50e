"""What the commands with ``--launcher`` share: their launcher, and ``--cancel``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.launch.choose import Choice, LaunchSite
from scaleinv.lab.launch.names import parse_arguments
from scaleinv.lab.launch.slurm import JOBS_RUN_ON, Slurm
from scaleinv.studies.terminal import say
from scaleinv.text import count


def choice(name: str, arguments: str) -> Choice:
    """Make the choice of ``--launcher`` and ``--launcher-args``."""
    return Choice(name, parse_arguments(arguments))


@contextmanager
def jobs_run_on(launch: Choice) -> Iterator[None]:
    """Say at Ctrl-C, wherever it is heard, what becomes of jobs that outlive the command."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or (JOBS_RUN_ON if launch.name == "slurm" else "")) from None


def cancel_jobs(launch: Choice, out: Path) -> int:
    """End the jobs of the studies in ``out``; their runs resume from their checkpoints when they are started again."""
    if launch.name != "slurm":
        raise UserError(f"--cancel: the launcher {launch.name} has no jobs that outlive its command")
    launcher = launch(LaunchSite(out, None, 1))
    assert isinstance(launcher, Slurm)
    number = launcher.cancel_jobs()
    then = "the same command without --cancel resumes them" if number else "Slurm has none of them any more"
    say(f"{count(number, 'job')} cancelled; {then}")
    return 0

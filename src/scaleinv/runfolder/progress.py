"""Say how far a run is, in its folder: progress.json, for whoever looks from another process or machine."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.runfolder.layout import PROGRESS
from scaleinv.runfolder.seal import read_sealed, write_sealed

#: seconds between two writes
EVERY = 2.0


class Progress:
    """Writes ``folder/progress.json`` at most every :data:`EVERY` seconds, whole each time; a full disk is no error."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.path, self.steps = folder / PROGRESS, steps
        self._next = 0.0
        self._numbers: Mapping[str, float] = {}

    def write(self, step: int, epoch: int, numbers: Mapping[str, float] | None = None) -> None:
        """Say where the run is, if it is time to; ``numbers``: of the last epoch, kept until there are others."""
        self._numbers = self._numbers if numbers is None else numbers
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        content = {"step": step, "steps": self.steps, "epoch": epoch, "numbers": self._numbers}
        content |= {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        with suppress(UserError):
            write_sealed(self.path, content, flush=False)

    def remove(self) -> None:
        """Forget it: the run has ended, and result.json says the rest."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Reached:
    """What progress.json says."""

    step: int
    steps: int
    epoch: int
    host: str
    pid: int
    time: float  # seconds since 1970, by the clock of ``host``
    numbers: Mapping[str, float] = field(default_factory=dict)


def read_progress(folder: Path) -> Reached | None:
    """Read progress.json; None where there is none, or one that is not ours."""
    with suppress(UserError, TypeError, ValueError, LookupError, AttributeError):
        content = read_sealed(folder / PROGRESS, quiet=True)
        numbers = {str(name): float(value) for name, value in content["numbers"].items() if value is not None}
        step, steps, epoch, pid = (int(content[name]) for name in ("step", "steps", "epoch", "pid"))
        return Reached(step, steps, epoch, str(content["host"]), pid, float(content["time"]), numbers)
    return None

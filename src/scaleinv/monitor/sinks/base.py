"""What a sink is, and the simple ones."""

import sys
from collections.abc import Callable
from typing import IO, Any

from scaleinv.monitor.records import Alert, Record
from scaleinv.monitor.state import MonitorState


class Sink:
    """Base of all sinks. ``open`` may raise :class:`~scaleinv.UserError`: it is called when the Monitor is made."""

    def open(self, monitor: MonitorState) -> None:
        """Get ready; called once."""

    def start(self, step: int, resumed: bool) -> None:
        """Get told that records come from ``step`` on: before the first of them, and with ``resumed`` when a state was
        loaded, also later. May raise :class:`~scaleinv.UserError`: nothing is measured then.
        """

    def flush(self) -> None:
        """Write what was taken; called when the process ends and nobody has closed the monitor."""

    def write(self, record: Record) -> None:
        """Take a logged step."""
        raise NotImplementedError

    def alert(self, alert: Alert) -> None:
        """Take an alert, after the record it belongs to."""

    def close(self) -> None:
        """Write what is left, and let go of files and runs; called once."""


class Call(Sink):
    """Calls ``function(dict)`` for every logged step: ``{"step": 3, "loss": ..., "total/rho": ...}``, without NaN."""

    def __init__(self, function: Callable[[dict[str, float]], Any]) -> None:
        self.function = function

    def write(self, record: Record) -> None:
        self.function(record.to_dict())


class Lines(Sink):
    """Prints a line a logged step: step, loss, and of the total rho, eg, ELR and angle; and a line an alert."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream

    def _print(self, line: str) -> None:
        stream = self._stream or sys.stdout  # not at construction: notebooks and tests change it
        stream.write(line + "\n")
        stream.flush()

    def write(self, record: Record) -> None:
        parts = [f"step {record.step:>7}"]
        if record.told:
            parts.append(f"loss {record.loss:.4g}")
        for name in ("rho", "eg", "elr", "angle"):
            value = record.get("total", name)
            if value == value:
                parts.append(f"{name} {value:.4g}")
        self._print("  ".join(parts))

    def alert(self, alert: Alert) -> None:
        self._print(f"alert  {alert}")


class Tracker(Sink):
    """Base of the experiment trackers: numbers under ``scaleinv/``, of all groups or of the total only."""

    def __init__(self, *, groups: bool = True) -> None:
        self.groups = groups

    def numbers(self, record: Record) -> dict[str, float]:
        """Give ``{"scaleinv/total/rho": ...}``; the step is given apart."""
        found = record.to_dict()
        found.pop("step")
        return {
            f"scaleinv/{name}": value
            for name, value in found.items()
            if self.groups or "/" not in name or name.startswith("total/")
        }

"""What a sink is; the simple ones; and the guard that keeps a sink's errors out of the training run."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from scaleinv.errors import UserError
from scaleinv.monitor.history import Record

if TYPE_CHECKING:
    from scaleinv.monitor.alerts import Alert
    from scaleinv.monitor.monitor import Monitor


class Sink:
    """Base of all sinks. ``open`` may raise :class:`~scaleinv.UserError`: it is called when the Monitor is made."""

    def open(self, monitor: Monitor) -> None:
        """Get ready; called once."""

    def start(self, step: int, resumed: bool) -> None:
        """Records come from ``step`` on: called before the first of them, and with ``resumed`` when a state was loaded,
        also later. May raise :class:`~scaleinv.UserError`: nothing is measured then.
        """

    def flush(self) -> None:
        """Let nothing taken wait any longer; called when the process ends and nobody has closed the monitor."""

    def write(self, record: Record) -> None:
        """A logged step."""
        raise NotImplementedError

    def alert(self, alert: Alert) -> None:
        """An alert, after the record it belongs to."""

    def close(self) -> None:
        """Write what is left; called once."""


class Call(Sink):
    """Calls ``function(dict)`` for every logged step: ``{"step": 3, "loss": ..., "total/rho": ...}``, without NaN."""

    def __init__(self, function: Callable[[dict[str, float]], Any]) -> None:
        self.function = function

    def write(self, record: Record) -> None:
        self.function(record.to_dict())


class Lines(Sink):
    """One line a logged step: step, loss, and of the total rho, eg, ELR and angle; alerts as lines of their own."""

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
        """``{"scaleinv/total/rho": ...}``; the step is given apart."""
        found = record.to_dict()
        found.pop("step")
        return {
            f"scaleinv/{name}": value
            for name, value in found.items()
            if self.groups or "/" not in name or name.startswith("total/")
        }


class Guard:
    """A sink whose first error, after ``open``, is its last: one warning, and it is left alone."""

    def __init__(self, sink: Sink) -> None:
        self.sink: Sink | None = sink

    def _try(self, action: str, *args: Any) -> None:
        if self.sink is None:
            return
        try:
            getattr(self.sink, action)(*args)
        except Exception as error:
            name, self.sink = type(self.sink).__name__, None
            warnings.warn(
                f"the sink {name} failed and gets nothing more, training goes on: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def start(self, step: int, resumed: bool) -> None:
        if self.sink is not None:
            self.sink.start(step, resumed)

    def take(self, record: Record) -> None:
        self._try("write", record)

    def flush(self) -> None:
        self._try("flush")

    def alert(self, alert: Alert) -> None:
        self._try("alert", alert)

    def close(self) -> None:
        self._try("close")
        self.sink = None


def open_sinks(given: Any, monitor: Monitor) -> list[Guard]:
    """Make sinks of what the user gave and open them; in a distributed run only process 0 has sinks."""
    several = isinstance(given, Iterable) and not isinstance(given, (str, os.PathLike, Sink))
    sinks = [_make(item) for item in (given if several else [given])]
    if _rank() != 0:
        return []
    opened: list[Guard] = []
    try:
        for sink in sinks:
            sink.open(monitor)
            opened.append(Guard(sink))
    except BaseException:
        for guard in opened:
            guard.close()
        raise
    return opened


def _make(item: Any) -> Sink:
    from scaleinv.monitor.sinks.folder import RunFolder

    if isinstance(item, Sink):
        return item
    if isinstance(item, (str, os.PathLike)):
        return RunFolder(Path(item))
    if callable(item):
        return Call(item)
    raise UserError(f"sinks: {item!r} is neither a folder, nor a function, nor a sink of scaleinv.monitor.sinks")


def _rank() -> int:
    import torch

    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0

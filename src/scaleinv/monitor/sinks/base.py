"""What a sink is, and the simple ones."""

import re
import sys
import weakref
from collections.abc import Callable
from typing import IO, Any, Literal

from scaleinv.errors import UserError
from scaleinv.monitor.groups import FREE
from scaleinv.monitor.records import Alert, Record
from scaleinv.monitor.state import MonitorState
from scaleinv.text import visible


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
        stream.write(visible(line) + "\n")
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


#: which groups trackers get: the scale-invariant ones and the total, all, or the total alone
Groups = Literal["free", "all", "total"] | bool


class Tracker(Sink):
    """Base of the experiment trackers: numbers under ``scaleinv/``.

    groups: ``free``, the total and the scale-invariant groups (where none is known: the total alone); ``all`` or True,
    every group; ``total`` or False, the total alone.  select: a regular expression; of these names
    (``loss``, ``0.weight/elr``) those that it is found in.  invert: those that it is not found in.
    """

    def __init__(self, *, groups: Groups = "free", select: str | None = None, invert: bool = False) -> None:
        if groups not in (True, False, "free", "all", "total"):
            raise UserError(f"groups={groups!r}: choose free, all or total")
        try:
            self._select = None if select is None else re.compile(select)
        except re.error as error:
            raise UserError(f"select={select!r} is not a regular expression: {error}") from None
        self.groups: Groups = groups
        self._invert = invert
        self._kinds: dict[str, str] = {}
        self._wanted: dict[str, bool] = {}
        self._watched: weakref.ref[MonitorState] | None = None

    def open(self, monitor: MonitorState) -> None:
        self._watched = weakref.ref(monitor)

    def _wants(self, name: str) -> bool:
        group = name.rpartition("/")[0]
        if group not in ("", "total") and self.groups not in (True, "all"):
            if self.groups != "free":
                return False
            if group not in self._kinds and self._watched is not None and (monitor := self._watched()) is not None:
                self._kinds = {g.name: g.kind for g in monitor.groups}
            if self._kinds.get(group, FREE) != FREE:
                return False
        return self._select is None or (self._select.search(name) is None) == self._invert

    def numbers(self, record: Record) -> dict[str, float]:
        """Give ``{"scaleinv/total/rho": ...}``; the step is given apart."""
        found = record.to_dict()
        found.pop("step")
        for name in found:
            if name not in self._wanted:
                self._wanted[name] = self._wants(name)
        return {f"scaleinv/{name}": value for name, value in found.items() if self._wanted[name]}

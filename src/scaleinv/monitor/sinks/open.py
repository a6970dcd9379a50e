"""Open the sinks that a Monitor was given, each behind a guard that keeps its errors out of the training."""

import os
import warnings
from collections.abc import Iterable
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch

from scaleinv.errors import UserError
from scaleinv.monitor.sinks.base import Call, Sink
from scaleinv.monitor.sinks.folder import RunFolder
from scaleinv.monitor.state import MonitorState


class Guard:
    """Keeps a sink's errors out of the training: after its first one, behind ``open``, it is left alone."""

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

    take = partialmethod(_try, "write")
    flush = partialmethod(_try, "flush")
    alert = partialmethod(_try, "alert")

    def close(self) -> None:
        self._try("close")
        self.sink = None


def open_sinks(given: Any, monitor: MonitorState) -> list[Guard]:
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
    if isinstance(item, Sink):
        return item
    if isinstance(item, (str, os.PathLike)):
        return RunFolder(Path(item))
    if callable(item):
        return Call(item)
    raise UserError(f"sinks: {item!r} is neither a folder, nor a function, nor a sink of scaleinv.monitor.sinks")


def _rank() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0

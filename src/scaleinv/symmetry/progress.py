"""Say on a terminal what a long search is doing: one line that is written over and gone at the end."""

import contextlib
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

#: seconds after which something is said, and between two changes of it
_AFTER, _EVERY = 3.0, 0.2
_WIDTH = 78


class Ticker:
    """Write what is being done to a stream, once it has taken three seconds."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.start, self.last, self.shown = stream, time.monotonic(), 0.0, False

    def say(self, what: str) -> None:
        """Show ``what`` and the seconds so far, at most five times a second."""
        now = time.monotonic()
        if now - self.start < _AFTER or now - self.last < _EVERY:
            return
        self.last, self.shown = now, True
        text = f"scaleinv: {what} ({now - self.start:.0f} s)"
        self.stream.write("\r" + text[:_WIDTH].ljust(_WIDTH))
        self.stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            self.stream.write("\r" + " " * _WIDTH + "\r")
            self.stream.flush()


_TICKER: ContextVar[Ticker | None] = ContextVar("ticker", default=None)


def say(what: str) -> None:
    """Tell what is being done now, if somebody watches."""
    ticker = _TICKER.get()
    if ticker is not None:
        ticker.say(what)


@contextlib.contextmanager
def told(stream: TextIO | None = None) -> Iterator[None]:
    """Have :func:`say` write to a stream (default: stderr) while the context lasts, if it is a terminal.

    Within another such context nothing changes: the outer one goes on counting.
    """
    stream = sys.stderr if stream is None else stream
    if _TICKER.get() is not None or not stream.isatty():
        yield
        return
    ticker = Ticker(stream)
    token = _TICKER.set(ticker)
    try:
        yield
    finally:
        _TICKER.reset(token)
        ticker.clear()

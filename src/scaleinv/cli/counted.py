"""Progress through a known number of pieces, on stderr: a bar on a terminal, plain lines in a log, nothing if quiet."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Counted:
    """A context in which :meth:`done` is called for every piece.

    >>> with Counted("measuring", 2, quiet=True) as view:
    ...     view.done("one")
    ...     view.count
    1
    """

    def __init__(self, what: str, total: int = 0, *, quiet: bool = False) -> None:
        self.quiet, self.total, self.count = quiet, total, 0
        console = Console(stderr=True, quiet=quiet)
        self.progress = Progress(
            TextColumn(what),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
        )
        self.live = console.is_terminal and not quiet
        self.task = self.progress.add_task("", total=total or None, note="")

    def __enter__(self) -> Counted:
        if self.live:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.progress.stop()

    def done(self, line: str, spent: str = "", *, note: str = "") -> None:
        """A piece has ended; ``spent`` is told in a log only, ``note``: what is going on now, beside the bar only."""
        self.count += 1
        if self.live:
            self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            self.doing(note)
        elif not self.quiet:
            told = f"{line}, {spent}" if spent else line
            print(f"[{self.count}/{self.total}] {told}", file=sys.stderr, flush=True)

    def doing(self, note: str) -> None:
        """What is going on now."""
        self.progress.update(self.task, total=self.total, completed=self.count, note=note)

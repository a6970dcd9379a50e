"""Show how far a long command is: live bars on a terminal, plain lines in a log, nothing when quiet."""

import sys
import time
from collections.abc import Mapping
from typing import TypeVar

from scaleinv.errors import needs
from scaleinv.lab.config import RunConfig
from scaleinv.lab.train import RunEvent
from scaleinv.studies.pace import Pace, in_words
from scaleinv.studies.terminal import Terminal
from scaleinv.text import visible

with needs("cli"):
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )


#: seconds between lines of one run in a log
LOG_EVERY = 10.0


def describe(config: RunConfig, starts: Mapping[str, str] | None = None) -> str:
    """A run in a few characters; ``starts``: what to call the weights it starts from, by checksum."""
    rate = f"ELR {config.elr:.3g}" if config.elr is not None else f"LR {config.lr:.3g}"
    decay = f" wd {config.weight_decay:.3g}" if config.lr is not None else ""
    name = (starts or {}).get(config.start or "", "weights " + (config.start or "")[:6])
    start = f", from {name}" if config.start is not None else ""
    return f"{rate}{decay} seed {config.seed}{start}"


def _numbers(numbers: Mapping[str, float]) -> str:
    shown = {"loss": "loss {:.3g}", "test_error": "test error {:.1%}", "eg": "eg {:.3g}", "cosine": "cos {:.3f}"}
    known = {key: number for key, number in numbers.items() if number == number}  # NaN: not measured
    return ", ".join(form.format(known[key]) for key, form in shown.items() if key in known)


_Shown = TypeVar("_Shown", bound="_Bars")


class _Bars:
    """Bars of rich, shown within a ``with``. Everything goes to stderr; stdout is for answers."""

    def __init__(self, title: str, *columns: ProgressColumn, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Terminal(stderr=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        first = (TextColumn(title), BarColumn(bar_width=24), MofNCompleteColumn())
        self.progress = Progress(*first, *columns, console=self.console, transient=True)

    def __enter__(self: _Shown) -> _Shown:
        if self.live:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.progress.stop()

    def say(self, line: str, *, always: bool = False) -> None:
        """A line that stays; ``always``: even if quiet."""
        if self.live:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif always or not self.quiet:
            sys.stderr.write(visible(line) + "\n")
            sys.stderr.flush()


class ProgressView(_Bars):
    """Watch one run (``total=1``) or a sweep."""

    def __init__(self, *, total: int, quiet: bool = False, starts: Mapping[str, str] | None = None) -> None:
        note = TextColumn("{task.fields[note]}", style="dim")
        super().__init__("{task.description}", note, TimeElapsedColumn(), quiet=quiet)
        self.total, self.ended, self.starts = total, 0, starts
        self.pace = Pace(total)
        self.bars: dict[RunConfig, TaskID] = {}
        self.spoken: dict[RunConfig, float] = {}
        self.overall = self.progress.add_task("all runs", total=None, note="") if total > 1 else None

    def event(self, config: RunConfig, event: RunEvent) -> None:
        """Show what a run reports."""
        name = describe(config, self.starts)
        if event.kind == "notice":
            self.say(f"{name}: {event.message}", always=True)
        elif event.kind == "resumed":
            self.say(f"{name}: resumes at step {event.step} of {event.steps}")
        if event.kind != "notice":
            before = event.step if event.kind == "resumed" else None
            self.pace.at(config, event.step, event.steps, before=before)
            self._show_all()
        if self.live:
            if event.kind == "ended":
                if config in self.bars:
                    self.progress.remove_task(self.bars.pop(config))
                return
            if config not in self.bars:
                self.bars[config] = self.progress.add_task(name, total=event.steps, note="")
            left = in_words(self.pace.seconds_left()) if self.total == 1 else ""
            note = ", ".join(filter(None, (_numbers(event.numbers), left)))
            self.progress.update(self.bars[config], completed=event.step, note=note)
            return
        now = time.monotonic()
        last = self.spoken.setdefault(config, now if self.total > 1 else -LOG_EVERY)
        if event.kind == "epoch" and now - last >= LOG_EVERY:
            self.spoken[config] = now
            where = f"{name}: epoch {event.epoch}, step {event.step}/{event.steps}"
            self.say(", ".join(filter(None, (where, _numbers(event.numbers)))))

    def run_ended(self, config: RunConfig, line: str) -> None:
        """A run of a sweep has ended; ``line`` says how."""
        self.ended += 1
        self.pace.end(config)
        self._show_all()
        if config in self.bars:
            self.progress.remove_task(self.bars.pop(config))
        left = in_words(self.pace.seconds_left()) if self.ended < self.total and not self.live else ""
        self.say(f"[{self.ended}/{self.total}] {describe(config, self.starts)}: {line}{left and f' ({left})'}")

    def _show_all(self) -> None:
        """Bring the bar of all runs up to date: steps done, runs ended, time to go."""
        if self.overall is not None:
            left = in_words(self.pace.seconds_left())
            note = ", ".join(filter(None, (f"{self.ended} of {self.total} runs ended", left)))
            self.progress.update(self.overall, completed=self.pace.done, total=self.pace.total, note=note)


class Counted(_Bars):
    """A context in which :meth:`done` is called for every piece.

    >>> with Counted("measuring", 2, quiet=True) as view:
    ...     view.done("one")
    ...     view.count
    1
    """

    def __init__(self, what: str, total: int = 0, *, quiet: bool = False) -> None:
        super().__init__(what, TimeElapsedColumn(), TextColumn("{task.fields[note]}", style="dim"), quiet=quiet)
        self.total, self.count = total, 0
        self.task = self.progress.add_task("", total=total or None, note="")

    def done(self, line: str, spent: str = "", *, note: str = "") -> None:
        """A piece has ended; ``spent`` is told in a log only, ``note``: what is going on now, beside the bar only."""
        self.count += 1
        if self.live:
            self.say(line)
            self.doing(note)
        else:
            self.say(f"[{self.count}/{self.total}] {line}{spent and f', {spent}'}")

    def doing(self, note: str) -> None:
        """What is going on now."""
        self.progress.update(self.task, total=self.total, completed=self.count, note=note)

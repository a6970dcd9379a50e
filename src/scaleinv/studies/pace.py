"""How far all runs of a command are, counted in steps, and how long the rest takes."""

import time
from collections.abc import Callable, Hashable


class Pace:
    """Steps done and to be done over all runs.

    A run that has not been heard of yet counts as many steps as the others do on average; one that ends early has no
    more. The rate is that of the steps trained here, not of runs that were found ended or half done.

    >>> clock = iter([0.0, 30.0])
    >>> pace = Pace(2, clock=lambda: next(clock))
    >>> pace.at("a", 0, 1000)
    >>> pace.at("a", 500, 1000)
    >>> pace.done, pace.total, pace.seconds_left()  # 500 steps in 30 s, 1500 to go
    (500, 2000, 90.0)
    """

    def __init__(self, runs: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.runs, self._clock = runs, clock
        self._began = clock()
        self._first: dict[Hashable, int] = {}  # step at which it was first heard of: trained before
        self._at: dict[Hashable, tuple[int, int]] = {}
        self._ended: set[Hashable] = set()

    def at(self, run: Hashable, step: int, steps: int, *, before: int | None = None) -> None:
        """A run is at ``step`` of ``steps``; ``before``: of these were done by an earlier command."""
        self._first.setdefault(run, 0)
        if before is not None:
            self._first[run] = before
        self._at[run] = (step, steps)

    def end(self, run: Hashable) -> None:
        """A run has ended, perhaps before its horizon, perhaps long ago."""
        step = self._at.get(run, (0, 0))[0]
        self._first.setdefault(run, step)
        self._at[run] = (step, step)
        self._ended.add(run)

    @property
    def done(self) -> int:
        """Steps done, those of earlier commands too."""
        return sum(step for step, _ in self._at.values())

    @property
    def total(self) -> int | None:
        """Steps in all; None as long as no run has told its own."""
        told = [steps for _, steps in self._at.values() if steps]
        if not told:
            return None
        unheard = max(self.runs - len(self._at), 0)
        return sum(told) + round(unheard * sum(told) / len(told))

    def seconds_left(self) -> float | None:
        """Estimate the time to the end; None before a step was trained here."""
        total, trained = self.total, self.done - sum(self._first.values())
        if total is None or trained <= 0:
            return None
        return (total - self.done) * (self._clock() - self._began) / trained


def in_words(seconds: float | None) -> str:
    """Write a time to go in round figures.

    >>> in_words(8.2), in_words(130), in_words(5400), in_words(None)
    ('10 s left', '2 min left', '1.5 h left', '')
    """
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"

"""Alert to trouble while training goes on. No alert without numbers that were measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from scaleinv.monitor.breakdowns import Window
from scaleinv.monitor.extras import TouchedRows
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Alert
from scaleinv.monitor.rules import ahead, broken, motion, scale, stillness
from scaleinv.monitor.rules.past import Past
from scaleinv.monitor.state import MonitorState

#: told again each time, by their own count
_AGAIN = ("spike-eg", "spike-angle", "break-down")
#: at an interval of one step, rules about what is slow look at one logged step in so many
_SLOWLY = 4
#: told once a group
_LASTING = (
    "dead-decay", "not-scale-free", "eps", "out-of-time", "rows-decay", "never-moves", "law", "first-step", "collapse",
    "outside-change",
)  # fmt: skip


class Watch:
    """Looks at every logged step. A kind of alert is told once a group, and again only after it has passed.

    A rule's docstring says what triggers it, and of what it must stay silent. Errors and warnings have a budget of
    false alarms: over 60 healthy runs of 12 kinds at most one (``benchmarks/alerts.py``).
    """

    def __init__(self, monitor: MonitorState, rows: dict[int, TouchedRows]) -> None:
        self._monitor = monitor
        self._rows = rows
        self._past = Past()
        self._standing: set[tuple[str, str]] = set()
        self._looked_slowly = True  # in this logged step
        self._spikes = motion.Spikes()
        self._decaying = stillness.DecayingRows()

    def told(self, alerts: Sequence[Alert]) -> None:
        """Take alerts of before a resume, which are not to be repeated."""
        self._standing = {(a.kind, a.group) for a in alerts}
        self._past.clear()
        self._spikes.count = Counter({kind: 2 ** (n - 1) for kind, n in Counter(a.kind for a in alerts).items()})

    def no_step(self, step: int, unseen: Sequence[int], after: int) -> list[Alert]:
        """Say of which optimizers no step was seen; once each."""
        found = [
            a
            for a in broken.no_step(self._monitor, step, unseen, after)
            if ("no-step", a.reason[:30]) not in self._standing
        ]
        self._standing |= {("no-step", a.reason[:30]) for a in found}
        return found

    def expect(self, readings: Sequence[Reading]) -> list[bool]:
        """Tell of logged steps, which :meth:`look` is then given one by one, which may move out of the ordinary."""
        records = [reading.record for reading in readings]
        block = self._past.expect(records)
        if block is None:
            return [True] * len(records)
        return motion.unusual(self._monitor, self._past, block, self._past.steps_of_block(len(records)))

    def look(self, reading: Reading, window: Window | None = None, unusual: bool = True) -> list[Alert]:
        """Give the new alerts of a logged step.

        ``window``: one for the next break-down that has just been told.  ``unusual``: what :meth:`expect` said.
        """
        record = reading.record
        self._past.take(record)
        found: list[Alert] = []
        if reading.bad or (record.told and not math.isfinite(record.loss)):
            found = list(broken.non_finite(self._monitor, self._past, reading))
        if not found:
            found = list(self._of_finite(reading, window, unusual))
        self._past.seen_lr(record)
        if not found and not self._standing:
            return found
        news = [a for a in found if a.kind in _AGAIN or (a.kind, a.group) not in self._standing]
        lasting = {
            k
            for k in self._standing
            if k[0] in _LASTING or k[0] == "no-step" or (k[0] == "still" and not self._looked_slowly)
        }
        self._standing = lasting | {(a.kind, a.group) for a in found}
        return news

    def _of_finite(self, reading: Reading, window: Window | None, unusual: bool) -> Iterator[Alert]:
        monitor, past = self._monitor, self._past
        if "dead-decay" not in {kind for kind, _ in self._standing}:
            yield from scale.decay_of_the_dead(monitor, past, reading)
        if reading.off:
            yield from broken.law(monitor, past, reading)
        if reading.firsts:
            yield from broken.first_step(monitor, past, reading)
        if reading.rows:
            yield from self._decaying.look(monitor, past, reading, self._rows, monitor.owners)
        if len(past) > 1:
            if monitor.boundary is not None:
                yield from ahead.boundary(monitor, past, reading)
            if window is not None and self._spikes.sparingly("break-down"):
                yield from ahead.break_down(reading, window)
            if ("out-of-time", "total") not in self._standing:
                yield from ahead.out_of_time(monitor, past, reading)
            if unusual:
                alerts, names = motion.outside_change(monitor, past, reading)
                monitor.changed_outside |= names
                yield from alerts
                yield from self._spikes.look(monitor, past, reading)
                yield from motion.norm_jump(monitor, past, reading, self._spikes)
                yield from motion.collapse(monitor, past, reading)
            if past.steps[-1] - past.steps[-2] == 1 and past.rows % _SLOWLY:
                self._looked_slowly = False
                return  # what takes many steps to show is looked for in one of a few
            self._looked_slowly = True
            yield from stillness.still(monitor, past, reading)
            yield from stillness.never_moves(monitor, past, reading)
            starved = {group for kind, group in self._standing if kind in ("rows-decay", "still", "collapse")}
            starved |= self._decaying.starved(monitor)
            yield from scale.scale(monitor, past, reading, monitor.records[0], starved)

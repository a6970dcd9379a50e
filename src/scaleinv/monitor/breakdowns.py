r"""Find break-downs of training as they come, and tell a window for the next one from those before.

With weight decay the norm of a scale-invariant group falls while the gradients are small (phase B), its ELR grows, and
near some ELR training is thrown out of its minimum: gradients jump up, and then the norm (Lobacheva et al. 2021).
Proposition 2 of that paper bounds the time of a large step from the bounds of the effective gradient; on real nets the
bounds are so far apart that it says little. So the window here is empirical, and its calibration is a claim of
``scaleinv verify``.

**A break-down** is what :func:`scaleinv.theory.breakdowns.break_downs` counts in the rows from the largest norm before
the fall on, as ``scaleinv periods`` does: a minimum of rho^2 from which it rises by 5 %, with a spike of the effective
gradient and, where it is told, of the loss. It is judged once, a tenth of 1/(lr wd) steps after the minimum, or when
rho^2 has fallen by 5 % again; asked before that, the rows so far decide.

**The window** is told when the norm has fallen by 5 % again after a break-down. Time is counted in ``sum of lr wd``.
From the earlier periods (the last 20)::

    target = mean of log ELR at the break-downs         pace = median growth of log ELR per time, before them
    centre = (target - log ELR now) / pace              window = centre + mean(e) -+ t s(e) sqrt(1 + 1/n)

where ``e`` are the errors of the centre in the n earlier periods, ``s`` their standard deviation and ``t`` Student's
95 % quantile: nine in ten, if periods were alike and their errors normal. No number of the present period is used but
the ELR at which it is told. There is none before the sixth period.
"""

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np

from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.records import Record
from scaleinv.theory.breakdowns import Definition, LogRows
from scaleinv.theory.breakdowns.definition import BREAK_DOWN
from scaleinv.theory.breakdowns.find import break_downs

#: of log rho^2, down and up
TURN = math.log1p(Definition().rise)
#: earlier periods that are looked at
REMEMBERED = 20
#: periods before the first window
FEWEST = 5
#: Student's 95 % quantile for 1, 2, ... degrees of freedom
STUDENT = (
    6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
    1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
)  # fmt: skip
#: logged steps of a fall, and of the rise after it, that are kept
_KEPT = 4096


@dataclass(frozen=True)
class MonitoredPeriod:
    """From where a window was, or could have been, told to the break-down. Times in ``sum of lr wd``, ELRs as logs."""

    told_at: float  # step
    step: float  # of the break-down: where rho^2 was lowest
    time: float  # between the two
    elr: float  # log, when told
    elr_then: float  # log, at the break-down
    error: float  # of the centre; NaN in the first
    window: tuple[float, float] | None  # times from told_at

    @property
    def held(self) -> bool | None:
        """Tell whether the window contained the break-down; None without a window."""
        return None if self.window is None else self.window[0] <= self.time <= self.window[1]


@dataclass(frozen=True)
class Window:
    """When the next break-down is expected, in steps from now; both 0: it is overdue."""

    earliest: float
    latest: float
    elr: float  # at which training broke down before, the geometric mean
    seen: int  # break-downs so far
    told: int  # windows told so far that could be checked
    held: int  # of these, those that contained the break-down


class Breakdowns:
    """The break-downs of one group; :meth:`look` takes every logged step."""

    def __init__(self) -> None:
        self._past: list[MonitoredPeriod] = []
        self._clock = 0.0  # sum of lr wd
        self._step = math.nan  # the last
        self._pace = math.nan  # lr wd
        self._elr = math.nan
        self._rising = True
        self._high, self._top = -math.inf, math.nan  # the largest log rho^2 of this rise, and its step
        self._low = math.inf  # in this fall, and where
        self._at = (math.nan, 0.0, math.nan)  # step, clock, log ELR
        # step, rho^2, eg, loss, clock since the largest norm before the fall
        self._rows: deque[tuple[float, float, float, float, float]] = deque(maxlen=_KEPT)
        self._judged = True  # this rise has been judged, or is the start
        self._told: tuple[float, float, float] | None = None  # step, clock, log ELR
        self._centre = math.nan
        self._window: tuple[float, float] | None = None

    def look(self, step: float, rho: float, eg: float, elr: float, pace: float, loss: float = math.nan) -> bool:
        """Take a logged step, ``pace`` = lr wd; True when a window has just been told."""
        if not (all(math.isfinite(x) and x > 0 for x in (rho, elr, pace)) and eg >= 0):
            return False
        if self._step == self._step:
            self._clock += pace * (step - self._step)
        self._step, self._pace, self._elr = step, pace, math.log(elr)
        y = 2 * math.log(rho)
        self._rows.append((step, rho * rho, eg, loss, self._clock))
        if not self._rising:
            if y < self._low:
                self._low, self._at = y, (step, self._clock, self._elr)
            if y - self._low >= TURN:
                self._rising, self._high, self._judged = True, y, False
        if not self._rising:
            return False
        if y >= self._high:
            self._high, self._top = y, step
        fell = self._high - y >= TURN
        if not self._judged and (fell or self._clock - self._at[1] >= BREAK_DOWN):
            self._judged = True
            if self._broke():
                self._end_period()
        if not fell:
            return False
        while self._rows and self._rows[0][0] < self._top:
            self._rows.popleft()
        self._rising, self._low, self._at = False, y, (step, self._clock, self._elr)
        return self._told is None and self._tell()

    def _broke(self) -> bool:
        """Judge the rise that the kept rows end with."""
        step, rho_sq, eg, loss, clock = np.array(self._rows).T
        told = loss if np.isfinite(loss).all() else None
        rises = break_downs(LogRows(step.astype(np.int64), rho_sq, told, eg, clock - clock[0]))
        return bool(rises) and bool(step[rises[-1].after] >= self._at[0])

    @property
    def periods(self) -> list[MonitoredPeriod]:
        """The periods so far; a rise that goes on counts where its rows so far are a break-down."""
        now = None if self._judged or not self._rising or not self._broke() else self._period()
        return self._past if now is None else [*self._past, now]

    def _period(self) -> MonitoredPeriod | None:
        if self._told is None:
            return None
        told_at, since, elr = self._told
        step, clock, elr_then = self._at
        time = clock - since
        return MonitoredPeriod(told_at, step, time, elr, elr_then, time - self._centre, self._window)

    def _end_period(self) -> None:
        if (ended := self._period()) is not None:
            self._past.append(ended)
        self._told, self._window = None, None

    def _tell(self) -> bool:
        self._told = (self._step, self._clock, self._elr)
        self._centre, self._window = math.nan, None
        past = self._past[-REMEMBERED:]
        if not past:
            return False
        target = fmean(p.elr_then for p in past)
        # a period of no time, or no growth, counts as one step, or a hundredth
        growth = median(max(p.elr_then - p.elr, 0.01) / max(p.time, self._pace) for p in past)
        self._centre = max(0.0, (target - self._elr) / growth)
        errors = [p.error for p in past if p.error == p.error]
        if len(self._past) < FEWEST:
            return False
        n = len(errors)
        middle, reach = fmean(errors), STUDENT[n - 2] * stdev(errors) * math.sqrt(1 + 1 / n)
        middle += self._centre
        self._window = (max(0.0, middle - reach), max(0.0, middle + reach))
        return True

    def window(self) -> Window | None:
        """Give the present window, from the last logged step on; None where none is told."""
        if self._window is None or self._told is None or len(seen := self.periods) > len(self._past):
            return None
        gone = self._clock - self._told[1]
        first, last = (max(0.0, (end - gone) / self._pace) for end in self._window)
        known = [p.held for p in seen if p.held is not None]
        elr = math.exp(fmean(p.elr_then for p in seen[-REMEMBERED:]))
        return Window(first, last, elr, len(seen), len(known), sum(known))


class Journal:
    """The break-downs of the total and of every group that has an ELR and a known weight decay."""

    def __init__(self) -> None:
        self.of: dict[str, Breakdowns] = {}

    def take(self, record: Record) -> bool:
        """Take a logged step; True when a window for the total has just been told."""
        columns = record.values[:, [COLUMN[name] for name in ("rho", "eg", "elr", "decay")]].tolist()
        news = False
        for name, (rho, eg, elr, decay) in zip(record.groups, columns):
            if not (elr > 0 and decay > 0):  # the decay is lr wd rho
                continue
            told = self.of.setdefault(name, Breakdowns()).look(record.step, rho, eg, elr, decay / rho, record.loss)
            news = news or (told and name == "total")
        return news

"""Keep the books of the norm: what decay takes from log rho^2, gradients give back.

Every step of SGD changes log rho^2 by exactly ``2 log(1 - lr wd) + log(1 + z^2)``, z the tangent of the step's angle.
In a stationary run the gifts therefore sum to 2 lr wd x steps, and if the gradients do nothing in phase B, so do the
log rises of the break-downs: the mean interval is half the mean log rise, in units of 1/(lr wd). That part of
"intervals are proportional to 1/(lr wd)" is arithmetic; the finding is that the mean rise does not depend on lr wd.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaleinv.analysis.periods.events import BreakDown
from scaleinv.analysis.periods.log import Log
from scaleinv.theory import lobacheva2021

NAN = math.nan
#: radial motion that SGD does not explain, in units of what decay takes, above which it is said
UNEXPLAINED = 0.1


@dataclass(frozen=True)
class Books:
    """Of the settled part of a log, in units of log rho^2; NaN where it cannot be said."""

    taken: float = NAN  # by decay: 2 x time
    given: float = NAN  # by gradients: taken + change of log rho^2
    given_measured: float = NAN  # sum of log(1 + z^2) from eg and rho: needs every step, SGD, lr and wd
    in_events: float = NAN  # share of ``given`` that comes while the norm rises at break-downs
    rise_sum: float = NAN  # sum of the log rises of break-downs / taken; 1 where the gradients rest in phase B
    half_mean_rise: float = NAN  # half the mean log rise of a break-down, to compare with mean interval x lr wd

    @property
    def error(self) -> float:
        """(measured - given) / given: 0 if rho, eg, lr and wd belong together and the step is SGD's."""
        return self.given_measured / self.given - 1 if self.given > 0 else NAN


def keep_books(log: Log, events: Sequence[BreakDown], first_row: int) -> Books:
    """Keep the books of ``events``, the break-downs; ``first_row``: where the settled part begins."""
    rises = np.array([e.log_rise for e in events if e.row >= first_row and math.isfinite(e.log_rise)])
    half = float(rises.mean()) / 2 if len(rises) else NAN
    if log.time is None or log.rho_sq is None or first_row >= len(log) - 1:
        return Books(half_mean_rise=half)
    taken = 2 * float(log.time[-1] - log.time[first_row])
    given = taken + float(np.log(log.rho_sq[-1] / log.rho_sq[first_row]))
    in_events = sum(
        e.log_rise + 2 * float(log.time[int(np.searchsorted(log.step, e.peak))] - log.time[e.row])
        for e in events
        if e.row >= first_row
    )
    push = pushes(log)
    return Books(
        taken=taken,
        given=given,
        given_measured=NAN if push is None else float(push[first_row:].sum()),
        in_events=in_events / given if given > 0 else NAN,
        rise_sum=float(rises.sum()) / taken if taken > 0 else NAN,
        half_mean_rise=half,
    )


def pushes(log: Log) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Compute what gradients give to log rho^2 in a step, ``log(1 + z^2)``; None where steps or columns lack."""
    if log.rho_sq is None or log.eg is None or log.lr is None or log.wd is None or np.any(np.diff(log.step) != 1):
        return None
    # for a rate of 0 the formulas of the theory have no say: nothing moves
    rho_sq, rate, wd = log.rho_sq[:-1], np.maximum(log.lr[:-1], np.finfo(np.float64).tiny), log.wd[:-1]
    following = np.asarray(lobacheva2021.next_rho_sq(rho_sq, log.eg[:-1], rate, wd))
    return np.asarray(np.log(following) - 2 * np.log1p(-log.lr[:-1] * wd) - np.log(rho_sq))


def unexplained(log: Log, width: int = 100) -> tuple[float, int | None] | None:
    """How much the norm's path departs from SGD's (eq. 4): the sum of |observed - predicted| change of log rho^2 over
    windows of ``width`` steps, as a share of what decay takes; and the step from which on it stays above a tenth.

    None where it cannot be computed. Not plain SGD, other rates than those given, weights that are not
    scale-invariant, or an eps of the norm layers that matters at a small norm all show here.
    """
    push = pushes(log)
    if push is None or log.rho_sq is None or len(push) < 2 * width:
        return None
    taken = np.zeros(len(push)) if log.time is None else 2 * np.diff(log.time)
    rest = np.diff(np.log(log.rho_sq)) - (push - taken)
    count = len(rest) // width
    rest, decay, gifts = (x[: count * width].reshape(count, width).sum(axis=1) for x in (rest, taken, push))
    scale = np.maximum(decay, gifts)  # a break-down moves the norm by far more than decay
    if not np.all(scale > 0):
        return None
    share = np.abs(rest) / scale
    wrong = share > UNEXPLAINED
    last_right = np.nonzero(~wrong)[0]
    begin = int(last_right[-1]) + 1 if len(last_right) else 0
    return float(np.median(share)), int(log.step[begin * width]) if begin < count else None

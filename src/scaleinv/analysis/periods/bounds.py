"""Compare data with theory: l and L, the envelope of 1 - cos, the interval of rho^2, the time to the next jump.

l and L are percentiles 1 and 99 of eg in a window, and its extremes beside them. With the extremes of the same window
Proposition 1's envelope and Theorem 1's bounds hold by construction and test nothing; with those of the period before,
they can fail.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.periods.phases import Period
from scaleinv.runfolder.read import Floats, Ints
from scaleinv.theory import kosson2024, lobacheva2021

NAN = math.nan
PERCENTILES = (1.0, 99.0)
#: a turn of so many times the equilibrium rotation sqrt(2 lr wd) is a break-down's
BREAK = 4.0
#: of the largest delta for which t_max exists
NEAR_CONDITION = 0.9
#: where l and L come from: the period before, or all periods before
Since = Literal["before", "start"]


@dataclass(frozen=True)
class Bounds:
    """Of the effective gradient norm in a window of steps [first, last]."""

    first: int
    last: int
    low: float  # l, percentile 1
    high: float  # L, percentile 99
    least: float
    largest: float


@dataclass(frozen=True)
class NormBand:
    """Theorem 1 beside the settled part of a run. Ends of rho^2 are exact, with the factor 1/sqrt(1 - lr wd/2)."""

    bounds: Bounds
    low: float  # kappa l
    high: float  # kappa L
    low_extreme: float  # with the extremes of eg
    high_extreme: float
    inside: float  # share of the rows within [low, high]
    inside_extreme: float
    fills: float  # log width of the observed band (percentiles 1 to 99) / log width of [low, high]
    condition: bool  # 2 lr wd L <= l with the percentiles
    condition_extreme: bool  # with the extremes
    balance: float  # mean rho^4 / (lr mean(eg^2) / (2 wd)): 1 in an equilibrium


def bounds_of(log: Log, first: int, last: int) -> Bounds:
    """Find l and L of rows [first, last); needs the effective gradient."""
    assert log.eg is not None
    window = log.eg[first:last]
    window = window[window > 0]
    if not len(window):
        return Bounds(int(log.step[first]), int(log.step[last - 1]), NAN, NAN, NAN, NAN)
    low, high = (float(q) for q in np.percentile(window, PERCENTILES))
    return Bounds(int(log.step[first]), int(log.step[last - 1]), low, high, float(window.min()), float(window.max()))


def norm_band(log: Log, first_row: int) -> NormBand | None:
    """Compare the rows from ``first_row`` on with Theorem 1; None where a column is missing or the rates change."""
    rated = log.rated
    if rated is None or first_row >= len(log) - 1:
        return None
    _, _, lr, wd = rated
    bounds = bounds_of(log, first_row, len(log))
    if not bounds.low > 0:
        return None
    rho_sq, eg = rated.rho_sq[first_row:], rated.eg[first_row:]
    low, high, low_extreme, high_extreme = (
        float(lobacheva2021.resting_rho_sq(end, lr, wd))
        for end in (bounds.low, bounds.high, bounds.least, bounds.largest)
    )
    band = np.log(np.percentile(rho_sq, PERCENTILES))
    width = math.log(high / low)
    rest = float(lobacheva2021.resting_rho_sq(1.0, lr, wd)) ** 2 * float(np.mean(eg**2))
    return NormBand(
        bounds=bounds,
        low=low,
        high=high,
        low_extreme=low_extreme,
        high_extreme=high_extreme,
        inside=float(np.mean((rho_sq >= low) & (rho_sq <= high))),
        inside_extreme=float(np.mean((rho_sq >= low_extreme) & (rho_sq <= high_extreme))),
        fills=float((band[1] - band[0]) / width) if width > 0 else NAN,
        condition=bool(lobacheva2021.decay_is_slow(bounds.low, bounds.high, lr, wd)),
        condition_extreme=bool(lobacheva2021.decay_is_slow(bounds.least, bounds.largest, lr, wd)),
        balance=float(np.mean(rho_sq**2)) / rest if rest > 0 else NAN,
    )


def cosine_distance(log: Log) -> Floats | None:
    """Compute 1 - cos of consecutive weights in every row: by the angle where it is logged, else by SGD's step."""
    return log.cosine_distance


@dataclass(frozen=True)
class Envelope:
    """1 - cos in a stretch between what l and L allow it to be (Proposition 1, Fig. 4); arrays of shape (n,)."""

    step: Ints
    distance: Floats
    low: Floats
    high: Floats
    bounds: Bounds

    @property
    def inside(self) -> float:
        """Share of the steps within the envelope."""
        return float(np.mean((self.distance >= self.low) & (self.distance <= self.high)))


def envelope(log: Log, first: int, last: int, bounds: Bounds, *, extremes: bool = False) -> Envelope | None:
    """Compare the steps [first, last) with the envelope of the l and L given; None where the formulas do not apply."""
    distance, rated = cosine_distance(log), log.rated
    if distance is None or rated is None or not bounds.low > 0:
        return None
    rows = log.rows(first, last)
    low, high = (bounds.least, bounds.largest) if extremes else (bounds.low, bounds.high)
    ends = lobacheva2021.cosine_distance_envelope(rated.rho_sq[rows], low, high, rated.lr, rated.wd)
    return Envelope(log.step[rows], distance[rows], ends[0], ends[1], bounds)


def earlier(log: Log, periods: Sequence[Period], k: int, since: Since, *, phase_b: bool = False) -> Bounds | None:
    """Find the l and L known when period ``k`` begins; None for fewer than two rows.

    Of the period before (``phase_b``: of its phase B alone), or of all training since the first break-down.
    """
    before = periods[k - 1]
    first, last = before.b if phase_b else (before.start, before.end)
    if since == "start":
        first, last = periods[0].start, periods[k].start
    rows = log.rows(first, last)
    if rows.stop - rows.start < 2:
        return None
    found = bounds_of(log, rows.start, rows.stop)
    return found if found.low > 0 else None


def envelopes(
    log: Log, periods: Sequence[Period], since: Since = "before", among: Iterable[int] | None = None
) -> list[Envelope]:
    """Compare phase B of every period but the first with l and L of phase B of the period before (or all).

    Phase B on phase B: the break-down itself (large eg) is what the envelope is to warn of, not what it is made of.
    """
    found = []
    for k in (among or range(1, len(periods))) if log.rated else ():
        bounds = earlier(log, periods, k, since, phase_b=True)
        one = None if bounds is None else envelope(log, *periods[k].b, bounds)
        if one is not None and len(one.step):
            found.append(one)
    return found


@dataclass(frozen=True)
class Prediction:
    """Proposition 2 beside one period: how long from a step of its phase B to the next delta-jump, with the l and L of
    earlier training. Arrays over the steps of its phase B, shape (n,). Times are steps from each of them; NaN: the
    proposition's conditions fail there, or no jump was seen.
    """

    bounds: Bounds  # of the period before, or of all periods before
    step: Ints
    delta: float  # of a break-down: 1 - cos of BREAK times the equilibrium rotation
    t_min: Floats  # no such jump before
    observed: Floats
    small_delta: float  # the largest delta of which t_max speaks (times 0.9)
    t_max: Floats  # such a jump by then
    observed_small: Floats

    @property
    def holds_min(self) -> float:
        """Share of the predictions t_min that held; NaN without one."""
        return _share(self.t_min - self.observed)

    @property
    def holds_max(self) -> float:
        """Share of the predictions t_max that held."""
        return _share(self.observed_small - self.t_max)

    @property
    def empty(self) -> float:
        """Share of the predictions t_min that are 0: a jump is possible at once, so they say nothing."""
        known = np.isfinite(self.t_min)
        return float(np.mean(self.t_min[known] == 0)) if known.any() else NAN


def _share(late: Floats) -> float:
    """How many known times are at most one step late: a step is a step, times are whole."""
    known = late[np.isfinite(late)]
    return float(np.mean(known <= 1)) if len(known) else NAN


def time_to_jump(log: Log, first: int, last: int, bounds: Bounds, delta: float) -> tuple[Floats, Floats, Floats]:
    """Compute ``t_min``, ``t_max`` from every step in [first, last), and the time to the first ``1 - cos > delta``.

    NaN outside the conditions of the formulas, and where no jump was seen.
    """
    rated, distance = log.rated, cosine_distance(log)
    assert rated is not None
    assert distance is not None
    rows = log.rows(first, last)
    rho_sq, steps = rated.rho_sq[rows], log.step[rows]
    low, high = np.full(len(rho_sq), bounds.low), np.full(len(rho_sq), bounds.high)
    t_min, t_max = (
        np.asarray(formula(rho_sq, low, high, rated.lr, rated.wd, delta))
        for formula in (lobacheva2021.t_min, lobacheva2021.t_max)
    )
    after = distance[rows.start :] > delta  # what was before is not asked for
    jumps = log.step[rows.start :][after]
    at = np.searchsorted(jumps, steps)
    observed = np.full(len(rho_sq), NAN)
    seen = at < len(jumps)
    observed[seen] = jumps[at[seen]] - steps[seen]
    return t_min, t_max, observed


def predict(
    log: Log, periods: Sequence[Period], since: Since = "before", among: Iterable[int] | None = None
) -> list[Prediction]:
    """Predict the jump of every period but the first, with l and L of the period before it, or of all before."""
    rated = log.rated
    if rated is None:
        return []
    turn = BREAK * kosson2024.sgd_angle(rated.lr, rated.wd)
    if turn >= math.pi / 2:
        return []
    found = []
    for k in among or range(1, len(periods)):
        bounds = earlier(log, periods, k, since)
        first, last = periods[k].b
        rows = log.rows(first, last)
        if bounds is None or rows.stop - rows.start < 2:
            continue
        delta = 1 - math.cos(turn)
        small = NEAR_CONDITION * (rated.lr * rated.wd) * (bounds.low / bounds.high) ** 2
        t_min, _, observed = time_to_jump(log, first, last, bounds, delta)
        _, t_max, observed_small = time_to_jump(log, first, last, bounds, small)
        found.append(Prediction(bounds, log.step[rows], delta, t_min, observed, small, t_max, observed_small))
    return found

"""Proposition 2 beside data: how long from a step of phase B to the next delta-jump, with the l and L of earlier
training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.periods.bounds import Bounds, Since, cosine_distance, earlier, has_theory
from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.periods.phases import Period
from scaleinv.theory import kosson2024, lobacheva2021

Floats = npt.NDArray[np.float64]
#: a turn of so many times the equilibrium rotation sqrt(2 lr wd) is a break-down's
BREAK = 4.0
#: of the largest delta for which t_max exists
NEAR_CONDITION = 0.9


@dataclass(frozen=True)
class Prediction:
    """One period; arrays over the steps of its phase B, shape (n,). Times are steps from each of them; NaN: the
    proposition's conditions fail there, or no jump was seen.
    """

    bounds: Bounds  # of the period before, or of all periods before
    step: npt.NDArray[np.int64]
    delta: float  # of a break-down: 1 - cos of BREAK times the equilibrium rotation
    t_min: Floats  # no such jump before
    observed: Floats
    small_delta: float  # the largest delta of which t_max speaks (times 0.9)
    t_max: Floats  # such a jump by then
    observed_small: Floats

    @property
    def holds_min(self) -> float:
        """Share of the predictions t_min that held; NaN without one."""
        return _share(self.t_min, self.observed, np.less_equal)

    @property
    def holds_max(self) -> float:
        """Share of the predictions t_max that held."""
        return _share(self.t_max, self.observed_small, np.greater_equal)

    @property
    def empty(self) -> float:
        """Share of the predictions t_min that are 0: a jump is possible at once, so they say nothing."""
        known = np.isfinite(self.t_min)
        return float(np.mean(self.t_min[known] == 0)) if known.any() else math.nan


def _share(predicted: Floats, observed: Floats, holds: np.ufunc) -> float:
    known = np.isfinite(predicted) & np.isfinite(observed)
    if not known.any():
        return math.nan
    # a step is a step: times are whole
    tolerance = np.where(np.isfinite(predicted), 1.0, 0.0)
    sign = 1.0 if holds is np.greater_equal else -1.0
    return float(np.mean(holds(predicted + sign * tolerance, observed)[known]))


def time_to_jump(log: Log, first: int, last: int, bounds: Bounds, delta: float) -> tuple[Floats, Floats, Floats]:
    """``t_min``, ``t_max`` from every step in [first, last), and the observed time to the first ``1 - cos > delta``.

    NaN outside the conditions of the formulas, and where no jump was seen.
    """
    assert log.rho_sq is not None
    assert log.lr is not None
    assert log.wd is not None
    rows = slice(int(np.searchsorted(log.step, first)), int(np.searchsorted(log.step, last)))
    rho_sq, lr, wd = log.rho_sq[rows], float(log.lr[0]), float(log.wd[0])
    count = len(rho_sq)
    low, high = np.full(count, bounds.low), np.full(count, bounds.high)
    t_min = np.asarray(lobacheva2021.t_min(rho_sq, low, high, lr, wd, delta))
    t_max = np.asarray(lobacheva2021.t_max(rho_sq, low, high, lr, wd, delta))
    distance = cosine_distance(log)
    assert distance is not None
    jumps = log.step[np.nonzero(distance > delta)[0]]
    at = np.searchsorted(jumps, log.step[rows])
    observed = np.full(count, np.nan)
    seen = at < len(jumps)
    observed[seen] = jumps[at[seen]] - log.step[rows][seen]
    return t_min, t_max, observed


def predict(log: Log, periods: Sequence[Period], since: Since = "before") -> list[Prediction]:
    """Every period but the first, with the l and L of the whole period before it, or of all periods before it."""
    if not has_theory(log) or cosine_distance(log) is None:
        return []
    assert log.lr is not None
    assert log.wd is not None
    product = float(log.lr[0] * log.wd[0])
    turn = BREAK * kosson2024.sgd_angle(float(log.lr[0]), float(log.wd[0]))
    if turn >= math.pi / 2:
        return []
    found = []
    for k in range(1, len(periods)):
        bounds = earlier(log, periods, k, since)
        first, last = periods[k].b
        rows = slice(int(np.searchsorted(log.step, first)), int(np.searchsorted(log.step, last)))
        if bounds is None or rows.stop - rows.start < 2:
            continue
        delta = 1 - math.cos(turn)
        small = NEAR_CONDITION * product * (bounds.low / bounds.high) ** 2
        t_min, _, observed = time_to_jump(log, first, last, bounds, delta)
        _, t_max, observed_small = time_to_jump(log, first, last, bounds, small)
        found.append(Prediction(bounds, log.step[rows], delta, t_min, observed, small, t_max, observed_small))
    return found

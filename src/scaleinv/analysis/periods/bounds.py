"""Theory beside data: l and L, the envelope of 1 - cos, the interval of rho^2, and whether Theorem 1 speaks of a run.

l and L are percentiles 1 and 99 of eg in a window, and its extremes beside them. With the extremes of the same window
Proposition 1's envelope and Theorem 1's bounds hold by construction and test nothing; with those of the period before,
they can fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.periods.log import Log
from scaleinv.analysis.periods.phases import Period
from scaleinv.theory import lobacheva2021

Floats = npt.NDArray[np.float64]
NAN = math.nan
PERCENTILES = (1.0, 99.0)
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
    """l and L of rows [first, last); needs the effective gradient."""
    assert log.eg is not None
    window = log.eg[first:last]
    window = window[window > 0]
    if not len(window):
        return Bounds(int(log.step[first]), int(log.step[last - 1]), NAN, NAN, NAN, NAN)
    low, high = (float(q) for q in np.percentile(window, PERCENTILES))
    return Bounds(int(log.step[first]), int(log.step[last - 1]), low, high, float(window.min()), float(window.max()))


def has_theory(log: Log) -> bool:
    """Everything the formulas need is logged, with positive constant rates."""
    return (
        log.rho_sq is not None
        and log.eg is not None
        and log.lr is not None
        and log.wd is not None
        and log.constant
        and bool(log.lr[0] > 0)
        and bool(log.wd[0] > 0)
    )


def norm_band(log: Log, first_row: int) -> NormBand | None:
    """Of the rows from ``first_row`` on; None where a column is missing or the rates change."""
    if not has_theory(log) or first_row >= len(log) - 1:
        return None
    assert log.rho_sq is not None
    assert log.eg is not None
    assert log.lr is not None
    assert log.wd is not None
    lr, wd = float(log.lr[0]), float(log.wd[0])
    bounds = bounds_of(log, first_row, len(log))
    if not bounds.low > 0:
        return None
    rho_sq, eg = log.rho_sq[first_row:], log.eg[first_row:]
    low, high = (float(lobacheva2021.resting_rho_sq(end, lr, wd)) for end in (bounds.low, bounds.high))
    low_extreme, high_extreme = (
        float(lobacheva2021.resting_rho_sq(end, lr, wd)) for end in (bounds.least, bounds.largest)
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
    """1 - cos of consecutive weights in every row: measured where the angle is logged, else what SGD's step gives."""
    if log.angle is not None:
        return np.asarray(2 * np.sin(log.angle / 2) ** 2)
    if log.rho_sq is None or log.eg is None or log.lr is None or log.wd is None:
        return None
    rate = np.maximum(log.lr, np.finfo(np.float64).tiny)
    return np.asarray(lobacheva2021.step_cosine_distance(log.rho_sq, log.eg, rate, log.wd))


@dataclass(frozen=True)
class Envelope:
    """1 - cos in a stretch between what l and L allow it to be (Proposition 1, Fig. 4); arrays of shape (n,)."""

    step: npt.NDArray[np.int64]
    distance: Floats
    low: Floats
    high: Floats
    bounds: Bounds

    @property
    def inside(self) -> float:
        """Share of the steps within the envelope."""
        return float(np.mean((self.distance >= self.low) & (self.distance <= self.high)))


def envelope(log: Log, first: int, last: int, bounds: Bounds, *, extremes: bool = False) -> Envelope | None:
    """Of the steps [first, last) with the l and L given; None where the formulas do not apply."""
    distance = cosine_distance(log)
    if distance is None or not has_theory(log) or not bounds.low > 0:
        return None
    assert log.rho_sq is not None
    assert log.lr is not None
    assert log.wd is not None
    rows = slice(int(np.searchsorted(log.step, first)), int(np.searchsorted(log.step, last)))
    low, high = (bounds.least, bounds.largest) if extremes else (bounds.low, bounds.high)
    bottom, top = lobacheva2021.cosine_distance_envelope(
        log.rho_sq[rows], low, high, float(log.lr[0]), float(log.wd[0])
    )
    return Envelope(log.step[rows], distance[rows], bottom, top, bounds)


def earlier(log: Log, periods: Sequence[Period], k: int, since: Since, *, phase_b: bool = False) -> Bounds | None:
    """l and L known when period ``k`` begins: of the period before (``phase_b``: of its phase B alone), or of all
    training since the first destabilisation; None for fewer than two rows.
    """
    before = periods[k - 1]
    first, last = before.b if phase_b else (before.start, before.end)
    if since == "start":
        first, last = periods[0].start, periods[k].start
    rows = [int(np.searchsorted(log.step, step)) for step in (first, last)]
    if rows[1] - rows[0] < 2:
        return None
    found = bounds_of(log, *rows)
    return found if found.low > 0 else None


def envelopes(log: Log, periods: Sequence[Period], since: Since = "before") -> list[Envelope]:
    """Phase B of every period but the first, in the envelope of the l and L of phase B of the period before (or of
    all periods before).

    Phase B on phase B: the break-down itself (large eg) is what the envelope is to warn of, not what it is made of.
    """
    found: list[Envelope] = []
    if not has_theory(log):
        return found
    for k in range(1, len(periods)):
        bounds = earlier(log, periods, k, since, phase_b=True)
        one = None if bounds is None else envelope(log, *periods[k].b, bounds)
        if one is not None and len(one.step):
            found.append(one)
    return found

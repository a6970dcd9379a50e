"""Decide whether a series is in equilibrium, at what level, and whether levels are the same.

The answer is a test of equivalence: "stationary" has to be shown, not merely not refuted. Let ``d`` be the drift (mean
of the last third minus mean of the first) with a standard error that respects autocorrelation, ``tol`` what may pass:

- **drifting**: ``|d| - 3 s.e. > tol``,
- **stationary**: ``|d| + 2 s.e. <= tol``, with at least :data:`FEWEST_EFFECTIVE` independent values (length over
  correlation time),
- **undecided**: everything else, with the reason.

Losses move by factors: drift and tolerance are of their logarithm (``relative=True``), the level is the loss's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scaleinv.analysis.statistics import UNKNOWN, Estimate, Floats, autocorrelation_time, batch_means, drift, mean
from scaleinv.runfolder.read import Run

FEWEST = 12  # values
FEWEST_EFFECTIVE = 5.0  # values over their correlation time: errors are right within 20 % from four on
TOLERANCE = 0.15  # of a level: how far it may drift, or two levels may differ


@dataclass(frozen=True)
class Stationarity:
    """Whether a series is stationary, its level, and what the answer rests on."""

    verdict: Literal["stationary", "drifting", "undecided"]
    reason: str
    level: Estimate  # mean with an error that respects autocorrelation
    batch_error: float  # the error of the level by batch means: another way to the same number
    drift: Estimate  # last third minus first third; of the logarithm where relative
    tolerance: float
    relative: bool
    correlation_time: float  # samples
    values: int
    window: tuple[int, int] | None = None  # epochs, where the series is a run's


def stationarity(x: Floats, *, tolerance: float = TOLERANCE, relative: bool = True) -> Stationarity:
    """Judge a series, shape (n,), in order of time. ``tolerance``: of the logarithm if ``relative``, else of ``x``.

    >>> rng = np.random.default_rng(0)
    >>> level = 0.5 * np.exp(0.1 * rng.normal(size=100))
    >>> stationarity(level).verdict, stationarity(level * np.linspace(2, 1, 100)).verdict
    ('stationary', 'drifting')
    """
    x = np.asarray(x, dtype=np.float64)
    finite = bool(np.all(np.isfinite(x)))
    usable = finite and (not relative or bool(np.all(x > 0)))
    y = np.log(x) if relative and usable else x
    change = drift(y) if usable else UNKNOWN
    tau = autocorrelation_time(x) if finite else math.nan

    def judge() -> tuple[Literal["stationary", "drifting", "undecided"], str]:
        if not finite:
            return "undecided", "not every value is finite"
        if not usable:
            return "undecided", "not every value is positive, so there is no relative drift"
        if len(x) < FEWEST:
            return "undecided", f"{len(x)} values are too few; at least {FEWEST} are needed"
        moved = f"x{math.exp(change.value):.3g}" if relative else f"{change.value:+.3g}"
        says = f"moves by {moved} (s.e. {change.error:.2g}) from the first third to the last; {tolerance:g} may pass"
        if abs(change.value) - 3 * change.error > tolerance:
            return "drifting", says
        if abs(change.value) + 2 * change.error > tolerance:
            return "undecided", f"{says}: the interval reaches over it"
        if len(x) < FEWEST_EFFECTIVE * tau:
            return "undecided", f"{len(x)} values of correlation time {tau:.3g} are too few to know their scatter"
        return "stationary", says

    level, batches = (mean(x), batch_means(x)) if finite else (UNKNOWN, UNKNOWN)
    return Stationarity(*judge(), level, batches.error, change, tolerance, relative, float(tau), len(x))


def loss_level(
    run: Run,
    first: int | None = None,
    last: int | None = None,
    *,
    tolerance: float = TOLERANCE,
    split: str = "online",
    quantity: str = "loss",
) -> Stationarity:
    """Judge the level of a run's train loss over the epochs ``first..last`` (default: its last half).

    Another positive quantity of the group total, for example ``eg``, by ``quantity``.
    """
    epochs, values = run.series(split, "total", quantity)
    last = last if last is not None else (int(epochs[-1]) if len(epochs) else 0)
    first = first if first is not None else last // 2 + 1
    keep = (epochs >= first) & (epochs <= last)
    return replace(stationarity(values[keep], tolerance=tolerance), window=(first, last))


def burn_in(x: Floats) -> int:
    """Count the values to leave out at the start, at most half, so that the error of the mean of the rest is least
    (White's marginal standard error rule, MSER, 1997).

    Guards against the trace of an approach only: a series that never settles is cut too; ask :func:`stationarity`.
    """
    n = len(x)
    if n < 4:
        return 0
    backwards = np.asarray(x, dtype=np.float64)[::-1]
    count = np.arange(1, n + 1)
    centred = backwards - backwards[: n // 2].mean()  # else the difference of two large sums
    squares = np.cumsum(centred**2) - np.cumsum(centred) ** 2 / count
    cuts = np.arange(n // 2 + 1)
    return int(np.argmin((squares / count**2)[n - 1 - cuts]))


@dataclass(frozen=True)
class LevelComparison:
    """Whether levels are the same, from their largest ratio."""

    verdict: Literal["same", "different", "undecided"]
    reason: str
    ratio: Estimate  # the largest level over the smallest, with the error of this pair
    extremes: tuple[int, int]  # positions of the smallest and the largest
    tolerance: float


def compare_levels(levels: Sequence[Estimate], tolerance: float = TOLERANCE) -> LevelComparison:
    """Decide whether positive levels agree: "same" where the largest ratio is at most ``1 + tolerance`` with two of its
    standard errors, "different" where it is beyond with two of them.

    For more than two levels the error of the extreme pair is that of the pair alone: the largest of many ratios is
    biased upwards, so "different" is then stated too easily; compare pairs where it matters.

    >>> compare_levels([Estimate(1.0, 0.01), Estimate(1.05, 0.01)]).verdict
    'same'
    """
    values = np.array([level.value for level in levels])
    if len(levels) < 2 or not (np.all(np.isfinite(values)) and np.all(values > 0)):
        return LevelComparison("undecided", "at least two positive levels are needed", UNKNOWN, (0, 0), tolerance)
    low, high = int(np.argmin(values)), int(np.argmax(values))
    relative = math.hypot(levels[low].error / values[low], levels[high].error / values[high])
    ratio = Estimate(float(values[high] / values[low]), float(values[high] / values[low]) * relative)
    says = f"{values[high]:.3g} against {values[low]:.3g}: a ratio of {ratio.value:.3g} (s.e. {ratio.error:.2g})"
    verdict: Literal["same", "different", "undecided"] = "undecided"
    if ratio.value + 2 * ratio.error <= 1 + tolerance:
        verdict = "same"
    elif ratio.value - 2 * ratio.error > 1 + tolerance:
        verdict = "different"
    return LevelComparison(verdict, f"{says}; {1 + tolerance:g} may pass", ratio, (low, high), tolerance)

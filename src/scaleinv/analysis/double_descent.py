"""Find epoch-wise double descent: a test error that falls, rises and falls again, more than chance makes it.

The series is smoothed by a moving median, which passes over outliers. The statistic is the height of its highest bump,

    D = max over b of min( s_b - min before b, s_b - min after b ),

that is what the error rises before ``b`` and falls again after it. Its law without double descent comes from
simulation: the best curve that only falls and then rises (isotonic least squares; falling alone is one of them) plus
Gaussian noise whose neighbours correlate (AR(1)). Size and correlation of the noise are read off the squared
differences of values one to six evaluations apart, where a slow curve enters as a slope. Noise that wanders slowly
(correlation above :data:`MOST_CORRELATED`) has bumps of its own and is not known well enough from one series: nothing
is decided there. Measured on 100 values: of series without a bump, white noise has p <= 0.01 in none of 120, noise of
correlation 0.5 in one of 17; a bump five times the noise and twenty evaluations wide is found in white noise always.

"double descent": p <= 0.01, and D at least ``effect``. "none": with all its noise (95 %) D stays below ``effect``.
Otherwise undecided. A first descent of at least ``effect`` is demanded as well.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaleinv.analysis.statistics import NOWHERE, Floats, Interval
from scaleinv.errors import needs
from scaleinv.runfolder.read import Ints, Run

with needs("lab"):
    from scipy.optimize import isotonic_regression


EFFECT = 0.01  # of the error as a fraction: a point
SIGNIFICANT = 0.01
DRAWS = 400
FEWEST = 20  # evaluations
LAGS = np.arange(1.0, 7.0)
CORRELATIONS = np.linspace(0.0, 0.98, 50)
SLOPES = np.concatenate([[0.0], np.geomspace(1e-4, 10, 60)])  # squared, in units of the noise
MOST_CORRELATED = 0.6
KEPT_OF_GAUSS = 0.623  # mean of the lowest nine tenths of squared standard Gaussians


@dataclass(frozen=True)
class DoubleDescent:
    """Whether a series of errors falls, rises and falls again, and where."""

    verdict: Literal["double descent", "none", "undecided"]
    reason: str
    first_descent: float  # the error before minus the first valley, smoothed
    rise: float  # from the first valley to the peak
    fall: float  # from the peak to the second valley
    interval: Interval  # of D = min(rise, fall), 95 %
    p: float  # of so high a bump without double descent
    turns: tuple[int, int, int]  # epochs of the first valley, the peak, the second valley
    smoothing: int  # values in the moving median
    noise: float  # standard deviation of single values
    correlation: float  # of the noise of neighbouring values
    values: int


def double_descent(
    epochs: Ints,
    errors: Floats,
    *,
    effect: float = EFFECT,
    smoothing: int | None = None,
    before: float | None = None,
    seed: int = 0,
) -> DoubleDescent:
    """Judge a test error by epoch; ``smoothing``: width of the moving median (default: a tenth, at least 5 values).

    ``before``: the error before training, from which the first descent counts (default: the median of the first three).

    >>> epochs = np.arange(100)
    >>> falls = 0.1 + 0.5 * np.exp(-epochs / 4) + 0.002 * np.random.default_rng(0).normal(size=100)
    >>> bump = 0.1 * np.exp(-((epochs - 40) ** 2) / 200)
    >>> double_descent(epochs, falls + bump).verdict, double_descent(epochs, falls).verdict
    ('double descent', 'none')
    """
    keep = np.isfinite(errors)
    epochs, errors = epochs[keep], np.asarray(errors, dtype=np.float64)[keep]
    n = len(errors)
    if n < FEWEST:
        nan, reason = math.nan, f"{n} evaluations are too few; at least {FEWEST} are needed"
        return DoubleDescent("undecided", reason, nan, nan, nan, NOWHERE, nan, (0, 0, 0), 0, nan, nan, n)
    width = smoothing if smoothing is not None else max(5, n // 10)
    smooth = _smooth(errors, width)
    height, (a, b, c) = _bump(smooth)
    # the fit that falls, rises and falls, with the turns of the smoothed series
    with_bump = np.concatenate([falling(errors[:a]), rising(errors[a:b]), falling(errors[b:])])
    rng = np.random.default_rng(seed)
    sigma, phi = _noise_law(errors)
    null, again = (
        np.array([_bump(_smooth(x, width))[0] for x in fit + sigma * _correlated(phi, DRAWS, n, rng)])
        for fit in (valley(errors), with_bump)
    )
    p = float((1 + np.sum(null >= height)) / (1 + DRAWS))
    spread = np.quantile(again - np.median(again), [0.025, 0.975])
    interval = Interval(max(0.0, height + float(spread[0])), height + float(spread[1]))
    # a window as wide as the others would begin below the steep first descent
    first = float(np.median(errors[:3])) if before is None else max(before, float(np.median(errors[:3])))
    descent = first - float(smooth[a])
    rise, fall = float(smooth[b] - smooth[a]), float(smooth[b] - smooth[c])
    turns = (int(epochs[a]), int(epochs[b]), int(epochs[c]))
    where = f"falls by {descent:.3g} to epoch {turns[0]}, rises by {rise:.3g} to {turns[1]}, falls by {fall:.3g} to "
    where += f"{turns[2]}; so high a bump without double descent has p = {p:.2g}"
    verdict: Literal["double descent", "none", "undecided"] = "undecided"
    if interval.high < effect or (p <= SIGNIFICANT and descent < effect):
        verdict = "none"
    elif phi > MOST_CORRELATED:
        where += f", but noise of correlation {phi:.2f} between neighbours may do as much"
    elif p <= SIGNIFICANT and height >= effect:
        verdict = "double descent"
    return DoubleDescent(verdict, where, descent, rise, fall, interval, p, turns, width, sigma, phi, n)


def run_double_descent(run: Run, *, quantity: str = "error_recomputed_bn", effect: float = EFFECT) -> DoubleDescent:
    """Judge a run by its evaluations after training began; they should be evenly spaced (``--eval-every``)."""
    epochs, errors = run.series("test", "total", quantity)
    started = epochs > 0
    # most of the first descent may be made within the first epoch
    before = None if started.all() else float(errors[~started][0])
    return double_descent(epochs[started], errors[started], effect=effect, before=before)


def falling(y: Floats) -> Floats:
    """Fit the non-increasing series closest to ``y`` in squares.

    >>> falling(np.array([3.0, 1.0, 2.0, 0.0])).tolist()
    [3.0, 1.5, 1.5, 0.0]
    """
    return np.asarray(isotonic_regression(y, increasing=False).x) if len(y) else y


def rising(y: Floats) -> Floats:
    """Fit the non-decreasing series closest to ``y`` in squares."""
    return falling(y[::-1])[::-1]


def valley(y: Floats) -> Floats:
    """Fit the series closest to ``y`` among those that fall and then rise; either part may be missing.

    >>> valley(np.array([2.0, 1.0, 1.0, 3.0, 2.0])).tolist()
    [2.0, 1.0, 1.0, 2.5, 2.5]
    """
    n = len(y)
    before = [float(np.sum((falling(y[:k]) - y[:k]) ** 2)) for k in range(n + 1)]  # error of the best fall
    after = [float(np.sum((rising(y[k:]) - y[k:]) ** 2)) for k in range(n + 1)]
    cut = int(np.argmin(np.add(before, after)))
    return np.concatenate([falling(y[:cut]), rising(y[cut:])])


def _smooth(x: Floats, width: int) -> Floats:
    """Take the moving median over ``width`` neighbours, fewer at the ends."""
    n, before, after = len(x), (width - 1) // 2, width // 2
    first, last = (before, n - after) if width <= n else (n, n)  # where the window is whole
    smooth = np.empty(n)
    if first < last:
        smooth[first:last] = np.median(np.lib.stride_tricks.sliding_window_view(x, width), axis=1)
    for i in (*range(first), *range(last, n)):
        smooth[i] = np.median(x[max(0, i - before) : i + after + 1])
    return smooth


def _bump(s: Floats) -> tuple[float, tuple[int, int, int]]:
    """Find the highest bump: its height, and the places of the valley before it, its peak, the valley after it."""
    before = np.minimum.accumulate(s)
    after = np.minimum.accumulate(s[::-1])[::-1]
    heights = s - np.maximum(before, after)
    b = int(np.argmax(heights))
    # the last of the lowest before, the first of the lowest after
    a = b - int(np.argmin(s[: b + 1][::-1]))
    return float(heights[b]), (a, b, b + int(np.argmin(s[b:])))


def _noise_law(x: Floats) -> tuple[float, float]:
    """Estimate standard deviation and correlation of neighbours of AR(1) noise on a slow curve.

    The mean square of values ``k`` apart is ``2 sigma^2 (1 - phi^k)`` from the noise and ``c k^2`` from the slope of
    the curve; the three are fitted to the logarithms, near lags weighing more. The largest tenth of the squares is left
    out: the first descent is steep. On 100 values phi has a standard error of 0.1 to 0.15; ``1/sqrt n`` is added, which
    makes the test careful.
    """
    seen = []
    for lag in LAGS:
        squares = np.sort((x[int(lag) :] - x[: -int(lag)]) ** 2)
        seen.append(float(squares[: max(1, int(0.9 * len(squares)))].mean()) / KEPT_OF_GAUSS)
    if min(seen) <= 0:
        return 0.0, 0.0
    expected = np.log(2 * (1 - CORRELATIONS[:, None, None] ** LAGS) + SLOPES[:, None] * LAGS**2)  # (phi, c, lag)
    weights = (1 / LAGS) / np.sum(1 / LAGS)
    apart = np.log(seen) - expected
    level = apart @ weights
    i, j = np.unravel_index(int(np.argmin((apart - level[:, :, None]) ** 2 @ weights)), level.shape)
    phi = min(float(CORRELATIONS[-1]), float(CORRELATIONS[i]) + 1 / math.sqrt(len(x)))
    return math.exp(float(level[i, j]) / 2), phi


def _correlated(phi: float, draws: int, n: int, rng: np.random.Generator) -> Floats:
    """Draw stationary AR(1) series of unit variance, shape (draws, n)."""
    x: Floats = rng.standard_normal((draws, n))
    x[:, 1:] *= math.sqrt(1 - phi**2)
    for k in range(1, n):
        x[:, k] += phi * x[:, k - 1]
    return x

"""Compare trajectories in the diagram of effective gradient (or test error) against train loss, whatever their speed.

Kodryan et al. 2022, figures 7 and 8: in regime 1 a larger ELR runs along a lower curve, re-training with a lower ELR
stays on its curve, with a higher one moves to the curve of that ELR. Two questions, at equal loss, never equal time:

- what is ``eg / loss`` at a given loss (:func:`at_loss`, :func:`spectrum`)?
- are two trajectories the same curve (:func:`compare`)?

For the second, each trajectory is fitted by a broken line in the logarithms over the range of losses both visit, with
the same knots. The differences at the knots have a covariance from the scatter around the lines, inflated by the
correlation time of that scatter. Stated are the mean offset and the root mean square distance (free of the bias that
noise adds), each with a 95 % interval. "same": the whole interval of the distance is within the tolerance. "different":
the interval of the distance or of the offset is wholly beyond. Otherwise undecided. The scatter is that within a run;
what differs from seed to seed is another matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from scaleinv.analysis.statistics import NOWHERE, UNKNOWN, Estimate, Floats, Interval, autocorrelation_time, mean
from scaleinv.errors import UserError
from scaleinv.runfolder.read import Ints, Run

Quantity = Literal["eg", "test_error"]

#: two curves closer than this are one: of the logarithm of eg, and of the test error as a fraction
TOLERANCE = {"eg": math.log(1.1), "test_error": 0.01}
SPAN = 2.0  # factor around a level within which points tell about it
FEWEST_POINTS = 6  # of each trajectory in the common range of losses
NARROWEST = 1.5  # factor: a common range below it says nothing about curves
MOST_KNOTS = 6
DRAWS = 2000


@dataclass(frozen=True)
class Trajectory:
    """A run's points in order of time; shapes (n,). ``test_error`` is NaN where it was not measured."""

    run: str
    elr: float
    split: str
    epochs: Ints
    loss: Floats
    eg: Floats
    test_error: Floats

    def since(self, epoch: int) -> Trajectory:
        """Keep the points from an epoch on, for a re-training whose beginning is passed over."""
        keep = self.epochs >= epoch
        columns = {name: getattr(self, name)[keep] for name in ("epochs", "loss", "eg", "test_error")}
        return replace(self, **columns)


def trajectory(run: Run, split: Literal["train", "online"] | None = None) -> Trajectory:
    """Read the trajectory of a run; points whose loss or gradient is not finite and positive are left out.

    ``split``: exact metrics at evaluation epochs (``train``), or means over every epoch (``online``, noisier, lagging
    where the loss falls fast); default: the exact ones where there are any. Test error: :meth:`Run.test_error`.
    """
    split = split or run.exact_split
    epochs, loss = run.series(split, "total", "loss")
    eg, test_error = (
        np.array([by_epoch.get(int(e), math.nan) for e in epochs])
        for by_epoch in (dict(zip(*series)) for series in (run.series(split, "total", "eg"), run.test_error()))
    )
    keep = np.isfinite(loss) & (loss > 0) & np.isfinite(eg) & (eg > 0)
    return Trajectory(run.name, run.elr, split, epochs[keep], loss[keep], eg[keep], test_error[keep])


@dataclass(frozen=True)
class AtLoss:
    """``eg / loss`` where a trajectory passes a loss."""

    loss: float
    ratio: float  # NaN: the trajectory does not get there
    error: float  # standard error of log(ratio); NaN where the points are too few to have one
    spread: float  # standard deviation of log(eg) of single points around the line
    points: int  # within a factor SPAN of the level
    crossings: int


def at_loss(path: Trajectory, levels: Sequence[float]) -> tuple[AtLoss, ...]:
    """Find ``eg / loss`` at each level of the train loss.

    From a line through ``log eg`` against ``log(loss / level)`` over the points within a factor :data:`SPAN` of the
    level, on both sides of it; with fewer than four such points the crossings of the level are interpolated in the
    logarithms (their mean), without an error. A level that no two consecutive points embrace has no value.
    """
    x, y = np.log(path.loss), np.log(path.eg)
    return tuple(_at(x, y, float(level)) for level in levels)


def _at(x: Floats, y: Floats, level: float) -> AtLoss:
    offset = x - math.log(level)
    passes = np.nonzero((offset[:-1] <= 0) != (offset[1:] <= 0))[0]
    near = np.abs(offset) <= math.log(SPAN)
    count = int(near.sum())
    if not len(passes):
        return AtLoss(level, math.nan, math.nan, math.nan, count, 0)
    if count >= 4 and offset[near].min() < 0 < offset[near].max():
        design = np.stack([np.ones(count), offset[near]], 1)
        (value, slope), inverse = _solve(design, y[near])
        residual = y[near] - design @ np.array([value, slope])
        spread = math.sqrt(float(residual @ residual) / (count - 2))
        error = spread * math.sqrt(inverse[0, 0] * autocorrelation_time(residual))
        return AtLoss(level, math.exp(value) / level, error, spread, count, len(passes))
    weights = offset[passes] / (offset[passes] - offset[passes + 1])
    found = y[passes] + weights * (y[passes + 1] - y[passes])
    spread = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    return AtLoss(level, math.exp(float(found.mean())) / level, math.nan, spread, count, len(passes))


def mean_ratio(path: Trajectory, losses: tuple[float, float] = (0.0, math.inf)) -> Estimate:
    """Average ``log(eg / loss)`` over the points within a range of losses, with an error that respects autocorrelation.

    For a run that hardly moves, such as a re-training with a lower ELR; for its end: of ``path.since(epoch)``.
    """
    keep = (path.loss >= losses[0]) & (path.loss <= losses[1])
    return mean(np.log(path.eg[keep] / path.loss[keep]))


@dataclass(frozen=True)
class MinimaSpectrum:
    """``eg / loss`` at equal losses over several ELRs: is a larger ELR flatter?"""

    elrs: tuple[float, ...]  # ascending
    levels: tuple[float, ...]
    table: tuple[tuple[AtLoss, ...], ...]  # [elr][level]
    mean: tuple[Estimate, ...]  # by ELR: log(ratio), mean over the levels every ELR reaches
    used: tuple[float, ...]  # these levels
    inversions: int  # neighbours whose mean does not fall
    extremes: Estimate  # largest mean ratio over the smallest (its error, not that of the logarithm)


def spectrum(paths: Sequence[Trajectory], levels: Sequence[float]) -> MinimaSpectrum:
    """Compare trajectories of different ELRs at the losses that all of them reach.

    The claim of the paper (regime 1 is a spectrum of minima): the mean falls with the ELR. The verdict is the caller's.
    """
    if len({path.elr for path in paths}) != len(paths) or len(paths) < 2:
        raise UserError(f"a spectrum needs at least two trajectories, each of its own ELR; here are {len(paths)}")
    paths = sorted(paths, key=lambda path: path.elr)
    table = tuple(at_loss(path, levels) for path in paths)
    reached = [k for k in range(len(levels)) if all(math.isfinite(row[k].ratio) for row in table)]
    means = [UNKNOWN] * len(table)
    for i, row in enumerate(table if reached else ()):
        # neighbouring levels share points, so the mean is no better known than the levels are on average
        error = float(np.mean([row[k].error for k in reached]))
        means[i] = Estimate(float(np.mean([math.log(row[k].ratio) for k in reached])), error)
    values = [m.value for m in means]
    low, high = int(np.argmin(values)), int(np.argmax(values))
    ratio = math.exp(values[high] - values[low])
    extremes = Estimate(ratio, ratio * math.hypot(means[low].error, means[high].error))
    inversions = sum(later >= earlier for earlier, later in pairwise(values)) if reached else 0
    elrs, used = tuple(path.elr for path in paths), tuple(float(levels[k]) for k in reached)
    return MinimaSpectrum(elrs, tuple(map(float, levels)), table, tuple(means), used, inversions, extremes)


@dataclass(frozen=True)
class TrajectoryComparison:
    """Whether two trajectories are one curve in ``log eg`` or test error; ``offset`` is the first minus the second."""

    verdict: Literal["same", "different", "undecided"]
    reason: str
    quantity: str
    tolerance: float
    offset: Estimate  # mean over the common range
    distance: float  # root mean square over the common range, noise removed; at least 0
    interval: Interval  # of the distance, 95 %
    losses: Interval  # the common range
    knots: tuple[float, ...]  # losses ...
    gaps: tuple[Estimate, ...]  # ... and the difference at each
    points: tuple[int, int]


def compare(
    first: Trajectory,
    second: Trajectory,
    *,
    quantity: Quantity = "eg",
    tolerance: float | None = None,
    losses: tuple[float, float] = (0.0, math.inf),
) -> TrajectoryComparison:
    """Decide whether two trajectories are the same curve; see the module's docstring for the rule.

    ``losses``: only this range, where both are there; of a long trajectory the end may be what matters.

    >>> loss = np.geomspace(1, 1e-3, 40)
    >>> wiggle = np.exp(0.02 * np.random.default_rng(0).normal(size=(2, 40)))
    >>> def path(factor, noise):
    ...     return Trajectory("", 1e-3, "train", np.arange(40), loss, factor * loss * noise, 0 * loss)
    >>> compare(path(100, wiggle[0]), path(100, wiggle[1])).verdict
    'same'
    >>> compare(path(100, wiggle[0]), path(150, wiggle[1])).verdict
    'different'
    """
    allowed = TOLERANCE[quantity] if tolerance is None else tolerance
    curves = [_curve(path, quantity) for path in (first, second)]

    common, points = NOWHERE, (len(curves[0][0]), len(curves[1][0]))

    def nothing(reason: str) -> TrajectoryComparison:
        none = (UNKNOWN, math.nan, NOWHERE, common, (), (), points)
        return TrajectoryComparison("undecided", reason, quantity, allowed, *none)

    if not all(points):
        return nothing("a trajectory has no points")
    low, high = max(float(x.min()) for x, _ in curves), min(float(x.max()) for x, _ in curves)
    low, high = max(low, math.log(losses[0]) if losses[0] > 0 else low), min(high, math.log(losses[1]))
    common = Interval(math.exp(low), math.exp(high))
    inside = [((x >= low) & (x <= high)) for x, _ in curves]
    points = (int(inside[0].sum()), int(inside[1].sum()))
    if high - low < math.log(NARROWEST):
        return nothing("their losses hardly overlap")
    if min(points) < FEWEST_POINTS:
        return nothing(f"{min(points)} points in the common range are too few; {FEWEST_POINTS} are needed")
    fits = _fit([(x[keep], y[keep]) for (x, y), keep in zip(curves, inside)], low, high)
    if fits is None:
        return nothing("the points leave gaps in the common range")
    knots, difference, covariance = fits
    steps = np.diff(knots)
    weights = np.append(steps, 0.0) + np.append(0.0, steps)  # of the mean of a broken line over its range
    weights /= weights.sum()
    offset = Estimate(float(weights @ difference), math.sqrt(float(weights @ covariance @ weights)))
    draws = np.random.default_rng(0).multivariate_normal(difference, covariance, DRAWS, method="eigh")
    noise = float(weights @ np.diag(covariance))
    distance = math.sqrt(max(0.0, float(weights @ difference**2) - noise))
    # a draw carries the noise of the estimate and its own
    squares = np.maximum(0.0, draws**2 @ weights - 2 * noise)
    interval = Interval(*(math.sqrt(float(q)) for q in np.quantile(squares, [0.025, 0.975])))
    shown = f"distance {distance:.3g} ({interval.low:.2g} to {interval.high:.2g}), offset {offset.value:+.3g} "
    shown += f"(s.e. {offset.error:.2g}) over losses {common.low:.2g} to {common.high:.2g}; {allowed:.3g} may pass"
    verdict: Literal["same", "different", "undecided"] = "undecided"
    if interval.high <= allowed and abs(offset.value) + 2 * offset.error <= allowed:
        verdict = "same"
    elif abs(offset.value) - 2 * offset.error > allowed or interval.low > allowed:
        verdict = "different"
    gaps = tuple(Estimate(float(d), math.sqrt(float(v))) for d, v in zip(difference, np.diag(covariance)))
    found = (offset, distance, interval, common, tuple(float(k) for k in np.exp(knots)), gaps, points)
    return TrajectoryComparison(verdict, shown, quantity, allowed, *found)


def _curve(path: Trajectory, quantity: Quantity) -> tuple[Floats, Floats]:
    y = np.log(path.eg) if quantity == "eg" else path.test_error
    keep = np.isfinite(y)
    return np.log(path.loss[keep]), y[keep]


def _solve(design: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Solve least squares; also gives the inverse of the normal matrix."""
    inverse = np.linalg.pinv(design.T @ design)
    return inverse @ (design.T @ y), inverse


def _fit(curves: Sequence[tuple[Floats, Floats]], low: float, high: float) -> tuple[Floats, Floats, Floats] | None:
    """Fit two broken lines: knots, their differences there, the covariance; None where the points are too uneven.

    Knots stand where the points are: at quantiles of both curves together, as many (up to :data:`MOST_KNOTS`) as leave
    every knot a whole point of each curve and each curve twice as many points as knots.
    """
    together = np.concatenate([np.clip(x, low, high) for x, _ in curves])
    for count in range(MOST_KNOTS, 1, -1):
        knots = np.quantile(together, np.linspace(0, 1, count))
        knots[[0, -1]] = low, high
        if np.any(np.diff(knots) <= 1e-9 * (high - low)):
            continue
        designs = [_hats(x, knots) for x, _ in curves]
        if all(np.all(d.sum(0) >= 1.0) and len(d) >= 2 * count for d in designs):
            break
    else:
        return None
    values, covariance = [], np.zeros((count, count))
    for design, (_, y) in zip(designs, curves):
        coefficients, inverse = _solve(design, y)
        residual = y - design @ coefficients
        tau = autocorrelation_time(residual)
        # a knot takes away as many points as hang together
        variance = float(residual @ residual) / max(1.0, len(y) - count * tau)
        covariance += variance * tau * inverse
        values.append(coefficients)
    return knots, values[0] - values[1], covariance


def _hats(x: Floats, knots: Floats) -> Floats:
    """Make the basis of broken lines: shape (points, knots), rows sum to 1."""
    return np.stack([np.interp(x, knots, row) for row in np.eye(len(knots))], axis=1)

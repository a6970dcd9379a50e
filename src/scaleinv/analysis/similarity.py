"""Find the gap that separates regime 1 in the cosines between the weights of successive epochs.

With the squared loss on a large set no ELR converges within a budget, and the loss shows no regime 1. The cosines do
(Nakhodnov et al. 2022): there the weights freeze, ``1 - cos`` of successive epochs falls with time and grows slowly
with the ELR; in the chaotic equilibrium it keeps a level, which grows faster. So ``log(1 - cos)`` over ``log ELR`` has
a slope that is nearly constant up to some ELR and larger beyond. The gap at a pair of neighbouring ELRs is the growth
beyond what the steepest slope among all smaller ELRs explains, with an interval (95 % for all pairs together) from the
scatter within the runs, or over seeds where there are several. "gap": at least a factor :data:`LEAST` with the whole
interval; "none": no pair's interval reaches that factor; undecided otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from scaleinv.analysis.statistics import NOWHERE, Estimate, Floats, Interval, drift, mean, sample_mean, t_quantile
from scaleinv.errors import UserError
from scaleinv.runfolder.read import Ints, Run

LEAST = 2.0  # factor of 1 - cos beyond the slope
FEWEST_BELOW = 3  # ELRs below the pair
FREEZING = math.log(1.1)  # fall of 1 - cos from the first third to the last, at least
MANY = 1000  # degrees of freedom of errors taken as known
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cosines:
    """Cosines at the end of every epoch, shapes (n,)."""

    epochs: Ints
    previous: Floats  # to the weights one epoch before
    start: Floats  # to the weights of the start


def cosines(run: Run, group: str = "total") -> Cosines:
    """Read the cosines of a run (of one group, or of the whole vector)."""
    epochs, previous = run.series("weights", group, "cos_previous_epoch")
    start_epochs, start = run.series("weights", group, "cos_start")
    if not len(epochs):
        raise UserError(
            f"{run.folder}: no cosines of successive epochs; it was made by a version that did not measure them"
        )
    by_epoch = dict(zip(start_epochs.tolist(), start.tolist()))
    return Cosines(epochs, previous, np.array([by_epoch.get(int(e), math.nan) for e in epochs]))


@dataclass(frozen=True)
class CosineLevel:
    """How far one epoch turns the weights of a run, over its last half."""

    elr: float
    seed: int | None
    log_distance: Estimate  # mean of log(1 - cos) of successive epochs; its error: scatter around a line in time
    trend: Estimate  # its last third minus its first third: negative where the weights freeze
    start: float  # cosine to the start at the end


def cosine_level(run: Run, first: int | None = None, last: int | None = None) -> CosineLevel:
    """Measure the level over the epochs ``first..last`` (default: the last half)."""
    found = cosines(run)
    last = int(found.epochs[-1]) if last is None else last
    first = last // 2 + 1 if first is None else first
    keep = (found.epochs >= first) & (found.epochs <= last) & np.isfinite(found.previous)
    # weights that did not move at all are as near as float32 can tell
    logs = np.log(np.maximum(1 - found.previous[keep], 1e-16))
    return CosineLevel(run.elr, run.seed, _mean_of_trend(logs), drift(logs), float(found.start[-1]))


@dataclass(frozen=True)
class CosineGap:
    """Whether ``1 - cos`` jumps between two ELRs by more than its slope among the smaller ones explains."""

    verdict: Literal["gap", "none", "undecided"]
    reason: str
    between: Interval  # the two ELRs; NaN: no pair could be tested
    factor: float  # of 1 - cos beyond the slope
    interval: Interval  # of the factor
    slope: float  # the steepest among smaller ELRs: d log(1 - cos) / d log ELR
    elrs: tuple[float, ...]
    levels: tuple[Estimate, ...]  # of log(1 - cos), by ELR; over seeds where there are several
    freezing: tuple[bool | None, ...]  # by ELR: 1 - cos falls with time, by 10 % and 2 s.e.; None: not known


def cosine_gap(levels: Sequence[CosineLevel]) -> CosineGap:
    """Find the gap over ELRs: the first pair that shows one, else the pair with the largest jump.

    >>> def level(elr, distance):
    ...     return CosineLevel(elr, 0, Estimate(np.log(distance), 0.02), Estimate(0.0, 0.1), 0.5)
    >>> smooth = [level(e, 0.1 * e) for e in (1e-4, 2e-4, 4e-4, 8e-4)]
    >>> cosine_gap([*smooth, level(1.6e-3, 1.6e-4), level(3.2e-3, 3.2e-4)]).verdict
    'none'
    >>> found = cosine_gap([*smooth, level(1.6e-3, 5e-3)])
    >>> found.verdict, found.between
    ('gap', Interval(low=0.0008, high=0.0016))
    """
    elrs = tuple(sorted({level.elr for level in levels}))
    groups = [[level for level in levels if level.elr == elr] for elr in elrs]
    means = tuple(_over_seeds([level.log_distance for level in group]) for group in groups)
    trends = [_over_seeds([level.trend for level in group]) for group in groups]
    freezing = tuple(None if math.isnan(t.error) else t.value <= -max(FREEZING, 2 * t.error) for t in trends)
    tests = [k for k in range(FEWEST_BELOW - 1, len(elrs) - 1) if all(math.isfinite(m.value) for m in means[: k + 2])]
    if not tests:
        reason = f"{len(elrs)} ELRs; {FEWEST_BELOW} and one above them are needed"
        return CosineGap("undecided", reason, NOWHERE, math.nan, NOWHERE, math.nan, elrs, means, freezing)
    width = t_quantile(1 - (1 - CONFIDENCE) / len(tests), MANY)
    found = [(k, *_beyond(np.log(elrs), means, k)) for k in tests]
    least = math.log(LEAST)
    shown = [f for f in found if f[1].value - width * f[1].error >= least]
    k, jump, slope = shown[0] if shown else max(found, key=lambda f: f[1].value)
    verdict: Literal["gap", "none", "undecided"] = "gap" if shown else "undecided"
    if all(f[1].value + width * f[1].error < least for f in found):
        verdict = "none"
    between = jump.interval(width)
    factor, interval = math.exp(jump.value), Interval(math.exp(between.low), math.exp(between.high))
    reason = f"from ELR {elrs[k]:.3g} to {elrs[k + 1]:.3g} 1 - cos of successive epochs grows x{factor:.3g} beyond the "
    reason += f"steepest slope among smaller ELRs, {slope:.2f} ({interval.low:.3g} to {interval.high:.3g})"
    where = Interval(elrs[k], elrs[k + 1])
    return CosineGap(verdict, reason, where, factor, interval, slope, elrs, means, freezing)


def _over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Average over seeds, with the larger of the scatter over seeds and the errors within runs; one seed: itself."""
    if len(estimates) == 1:
        return estimates[0]
    between = sample_mean(np.array([e.value for e in estimates]))
    within = math.sqrt(sum(e.error**2 for e in estimates if not math.isnan(e.error))) / len(estimates)
    return Estimate(between.value, max(between.error, within))


def _beyond(x: Floats, means: Sequence[Estimate], k: int) -> tuple[Estimate, float]:
    """Compute the growth from point k to k + 1 beyond that of the steepest pair among 0..k, and the slope of that."""
    growth = [Estimate(b.value - a.value, math.hypot(a.error, b.error)) for a, b in pairwise(means)]
    steps = np.diff(x)
    steepest = max(range(k), key=lambda j: growth[j].value / steps[j])
    slope = growth[steepest].value / steps[steepest]
    explained = growth[steepest].error / steps[steepest] * steps[k]
    return Estimate(growth[k].value - slope * steps[k], math.hypot(growth[k].error, explained)), float(slope)


def _mean_of_trend(x: Floats) -> Estimate:
    """Average a series that drifts: the error is that of the scatter around its line."""
    if len(x) < 4:
        return mean(x)
    time = np.arange(len(x)) - (len(x) - 1) / 2
    return Estimate(float(x.mean()), mean(x - time * float(time @ x) / float(time @ time)).error)

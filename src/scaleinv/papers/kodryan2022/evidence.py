"""What the claims conclude about minima, paths and levels from numbers: no training, no files, so that a test can show
each to fail. Tolerances were fixed before any verdict was seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaleinv.analysis.statistics import Estimate
from scaleinv.papers.claim import Sheet
from scaleinv.papers.draws import share_error

#: train losses of regime 1 at which curvatures are compared; on CIFAR-10 runs of 80 epochs end at some 0.01
LEVELS = {"digits": (1e-2, 5e-3, 2e-3, 1e-3), "cifar-small": (5e-2, 3e-2, 2e-2, 1e-2)}


def combine(logs: Sequence[Estimate]) -> Estimate:
    """Average logarithms of ratios; the error is the larger of their scatter and own errors, where known, else NaN."""
    values, errors = (np.array(column) for column in zip(*((e.value, e.error) for e in logs)))
    known = [float(np.sqrt((errors**2).sum()) / len(values))] if np.isfinite(errors).all() else []
    if len(values) > 1:
        known.append(float(values.std(ddof=1) / math.sqrt(len(values))))
    return Estimate(float(values.mean()), max(known, default=math.nan))


def ratio_is_one(
    sheet: Sheet, name: str, logs: Sequence[Estimate], tolerance: float, *, given: bool = True
) -> Estimate:
    """Compare a geometric mean of ratios with 1 within a tolerance."""
    found = combine(logs)
    ratio = math.exp(found.value)
    sheet.close(name, ratio, 1.0, rel=tolerance, se=ratio * found.error, given=given)
    return found


def spectrum_of_minima(sheet: Sheet, name: str, elrs: Sequence[float], rows: Sequence[Sequence[Estimate]]) -> None:
    """Judge the spectrum of minima: means over the seeds of log(eg/loss) at equal loss fall with the ELR; one inversion
    is allowed. ``rows``: one a seed.

    Neighbours are compared seed by seed. An inversion by less than 2 s.e. is none for certain, nor is a fall: the
    number of inversions lies between those that are certain and those that are possible.
    """
    enough = sheet.needs(f"{name}: ELRs compared", len(elrs), at_least=4)

    def rise(first: int, second: int) -> Estimate:
        pairs = [(row[first], row[second]) for row in rows]
        return combine([Estimate(b.value - a.value, math.hypot(a.error, b.error)) for a, b in pairs])

    rises = [rise(k, k + 1) for k in range(len(elrs) - 1)]
    possible = sum(not one.value + 2 * one.error < 0 for one in rises)
    certain = sum(one.value - 2 * one.error >= 0 for one in rises)
    known = all(math.isfinite(one.value) for one in rises)
    inversions = sum(not one.value < 0 for one in rises) if known else math.nan
    sheet.at_most(f"{name}: inversions", inversions, 1, given=enough and (possible <= 1 or certain > 1))
    sheet.note(f"{name}: {certain} inversions are certain, {possible} possible")
    extremes = rise(-1, 0)
    ratio = math.exp(extremes.value)
    error = ratio * extremes.error
    sheet.at_least(f"{name}: eg/loss, lowest ELR over highest", ratio, 1.3, se=error, given=enough)


#: points of train error between linearly connected minima
CONNECTED = 0.5
SPREAD = 1.15


@dataclass(frozen=True)
class Landing:
    """Where the runs of several new ELRs end that start from one run of regime 2."""

    logs: Mapping[float, Estimate]  # log(eg/loss) at equal loss, by new ELR
    barriers: Mapping[tuple[float, float], float]  # points of train error, between pairs of new ELRs

    @property
    def spread(self) -> Estimate:
        """Return the largest eg/loss over the least."""
        low, high = (f(self.logs.values(), key=lambda e: e.value) for f in (min, max))
        ratio = math.exp(high.value - low.value)
        return Estimate(ratio, ratio * math.hypot(low.error, high.error))

    @property
    def barrier(self) -> float:
        """Return the highest barrier of all pairs."""
        return max(self.barriers.values())


def one_curvature(sheet: Sheet, low: Sequence[Landing], high: Sequence[Landing]) -> None:
    """Judge curvatures after regime 2: all new ELRs end alike from a low start, less so from a high one; both by seed.

    Geometric means over the seeds, whose scatter is the error where single ratios have none. Undecided where a run has
    not come down to the losses at which curvatures are compared.
    """
    if not all(math.isfinite(log.value) for one in (*low, *high) for log in one.logs.values()):
        sheet.undecided("the runs from one start reach no common loss at which they could be compared; train longer")
        return
    logs = [[Estimate(math.log(s.value), s.error / s.value) for s in (one.spread for one in of)] for of in (low, high)]
    alike = combine(logs[0])
    apart = combine([Estimate(b.value - a.value, math.hypot(a.error, b.error)) for a, b in zip(*logs)])
    for name, found, compare, bound in (
        ("low start: eg/loss, largest over least", alike, sheet.at_most, SPREAD),
        ("spread from the high start over that from the low", apart, sheet.at_least, 1.0),
    ):
        ratio = math.exp(found.value)
        compare(f"{name}, mean over {len(low)} seeds", ratio, bound, se=ratio * found.error)


def barrier_error(points: float, images: int) -> float:
    """Return the standard error of a barrier in points of train error: that of a count among so many images."""
    return 100 * share_error(points / 100 * images, images)


def unconnected_pairs(
    sheet: Sheet, seeds: Sequence[int], heights: Mapping[tuple[float, float], Sequence[float]], images: int
) -> None:
    """Demand that minima of two ELRs are not connected: a barrier beyond :data:`CONNECTED` for every pair and seed,
    each with the error of its count. ``heights``: points of train error, by seed.
    """
    for (low, high), found in heights.items():
        names = [f"seed {seed}: barrier {low:.3g} to {high:.3g}, points" for seed in seeds]
        for name, height in zip(names, found):
            sheet.at_least(name, height, CONNECTED, se=barrier_error(height, images))
        sheet.draws(names)


def connected(sheet: Sheet, low: Sequence[Landing], high: Sequence[Landing], images: int) -> None:
    """Judge paths after regime 2: the ends are connected from a low start, less so from a high one; undecided where all
    are. ``images``: among which wrong ones are counted.
    """
    same: dict[str, list[str]] = {"low": [], "more": []}
    for k, (a, b) in enumerate(zip(low, high)):
        errors = [barrier_error(one.barrier, images) for one in (a, b)]
        same["low"].append(f"seed {k}, low start: highest barrier, points")
        sheet.at_most(same["low"][-1], a.barrier, CONNECTED, se=errors[0])
        if a.barrier == b.barrier == 0:
            sheet.undecided(f"seed {k}: no barrier from either start, the train error is 0 all along")
        else:
            same["more"].append(f"seed {k}: barrier from the high start less that from the low, points")
            sheet.at_least(same["more"][-1], b.barrier - a.barrier, 0.0, se=math.hypot(*errors))
        sheet.note(f"seed {k}: barriers {a.barrier:.3g} (low) and {b.barrier:.3g} (high) points of train error")
    for names in same.values():
        sheet.draws(names)


@dataclass(frozen=True)
class Region:
    """What :func:`scaleinv.landscape.averages.convexity` finds about the iterates of one run."""

    excess: float  # loss at the mean of iterates minus their mean loss
    share_above: float  # of segments with a point above the higher of their ends


def local_convexity(sheet: Sheet, low: Sequence[Region], high: Sequence[Region]) -> None:
    """Judge the convexity of regime 2: every seed is convex at the low ELR, and none at the high one."""
    enough = sheet.needs("seeds", min(len(low), len(high)), at_least=3)
    for name, words, regions, holds in (("low", "convex", low, True), ("high", "not convex", high, False)):
        convex = [r.excess <= 0 and r.share_above == 0 for r in regions]
        sheet.every(f"{name} ELR: seeds whose region is {words}", [c is holds for c in convex], given=enough)
        means = ", ".join(f"{r.excess:+.3g}" for r in regions)
        shares = ", ".join(f"{r.share_above:.0%}" for r in regions)
        sheet.note(f"{name} ELR: loss at the mean less mean loss {means}; segments above their ends {shares}")

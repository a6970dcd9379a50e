"""What the claims about the regimes conclude from numbers: no training, no files, so that a test can show each to fail.

Tolerances are PAPERS 8's and were fixed before any verdict was seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaleinv.analysis.runs import Run
from scaleinv.analysis.statistics import Estimate
from scaleinv.claims.registry import Sheet

JUMP = 10.0  # of the loss at the boundary 1/2 ...
WITHIN = 3.0  # ... between two ELRs no farther apart than this
CORRELATED = 0.3  # cosine of consecutive iterates
CONVERGED, ABOVE = 0.1, 0.5  # shares of epochs above the threshold
ACROSS_SEEDS = 3.0  # the paper's boundary: a factor 2-3


@dataclass(frozen=True)
class Point:
    """A run in its last half: what decides its regime."""

    elr: float  # or the learning rate, in the whole space
    seed: int
    loss: float
    error: float
    cosine: float
    share: float  # of epochs above 1 % of the loss of the best constant answer
    chance: float  # error of the best constant answer
    falling: bool = False  # loss and effective gradient still fall together, late in the window too

    @property
    def better(self) -> bool:
        """Whether it is better than guessing, by more than 5 %; an error that is not a number is not."""
        return self.error < 0.95 * self.chance


def point(run: Run, rate: float) -> Point:
    """Of a run."""
    from scaleinv.analysis.regimes import THRESHOLD, classify, window

    w = window(run)
    assert run.constant_loss is not None  # the lab's own runs have both
    assert run.chance_error is not None
    threshold = THRESHOLD * run.constant_loss
    # a loss that is not finite is above every threshold
    share = float(np.mean(~(w.loss <= threshold))) if len(w.loss) else math.nan
    loss, error, cosine = (float(np.mean(x)) if len(x) else math.nan for x in (w.loss, w.error, w.cosine))
    falling = share > CONVERGED and classify(run).regime == 1
    return Point(rate, run.seed or 0, loss, error, cosine, share, run.chance_error, falling)


@dataclass(frozen=True)
class Boundaries:
    """Of one seed: the last ELR on the near side and the first from which all are on the far side."""

    first: tuple[float, float]  # 1/2; NaN where there is none
    second: tuple[float, float]  # 2/3: by the error alone


def boundaries(points: Sequence[Point]) -> Boundaries:
    """By the share of epochs above the threshold (1/2) and by the error of guessing, within 5 % (2/3)."""
    points = sorted(points, key=lambda p: p.elr)
    return Boundaries(
        _between(points, [p.share <= CONVERGED for p in points], [p.share >= ABOVE for p in points]),
        _between(points, [p.better for p in points], [not p.better for p in points]),
    )


def _between(points: Sequence[Point], near: Sequence[bool], far: Sequence[bool]) -> tuple[float, float]:
    low = high = math.nan
    for p, is_near in zip(points, near):
        low = p.elr if is_near else low
    for p, is_far in reversed(list(zip(points, far))):
        if not is_far:
            break
        high = p.elr
    return low, high


def jump(points: Sequence[Point]) -> float:
    """The largest ratio of losses across the boundary 1/2 between ELRs at most a factor 3 apart; 1 if there is none."""
    found = [
        b.loss / a.loss
        for a in points
        for b in points
        if a.elr < b.elr <= WITHIN * a.elr * (1 + 1e-9) and a.share <= ABOVE <= b.share and b.loss < math.inf
    ]
    return max(found, default=1.0)


def three_regimes(sheet: Sheet, name: str, points: Sequence[Point]) -> list[Boundaries]:
    """Claim 4 for one network: a jump of the loss, something between it and chance, uncorrelated chance beyond."""
    found = []
    for seed in sorted({p.seed for p in points}):
        mine = sorted((p for p in points if p.seed == seed), key=lambda p: p.elr)
        label = f"{name}, seed {seed}"
        bounds = boundaries(mine)
        found.append(bounds)
        sheet.at_least(f"{label}: loss over a factor 3 of ELR at 1/2", jump(mine), JUMP)
        sheet.at_least(f"{label}: ELRs in regime 1", sum(p.share <= CONVERGED for p in mine), 1)
        middle = [p for p in mine if p.share >= ABOVE and p.better]
        sheet.at_least(f"{label}: ELRs in regime 2", len(middle), 1)
        # the onset reaches over a factor 4: there the error is chance, but iterates are still correlated
        beyond = [p for p in mine if p.elr >= 4 * bounds.second[0]]
        if not beyond:
            sheet.undecided(f"{label}: no ELR four times beyond the last that does better than chance")
            continue
        sheet.at_most(f"{label}: largest |cos| beyond 2/3", max(abs(p.cosine) for p in beyond), CORRELATED)
        worst = min(beyond, key=lambda p: -abs(p.error - p.chance))
        sheet.close(f"{label}: error beyond 2/3", worst.error, worst.chance, rel=0.05)
        sheet.note(f"{label}: 1/2 between {_pair(bounds.first)}, 2/3 between {_pair(bounds.second)}")
    for words, edges in (("1/2", [b.first for b in found]), ("2/3", [b.second for b in found])):
        middles = [math.sqrt(low * high) for low, high in edges]
        if len(middles) > 1:
            ratio = max(middles) / min(middles) if all(map(math.isfinite, middles)) else math.nan
            sheet.at_most(f"{name}: boundary {words} over seeds, largest over least", ratio, ACROSS_SEEDS)
    return found


def _pair(edge: tuple[float, float]) -> str:
    return f"{edge[0]:.3g} and {edge[1]:.3g}"


def visible(sheet: Sheet, name: str, points: Sequence[Point]) -> None:
    """The regimes seen along another rate: converged, then a level better than chance, then chance."""
    points = sorted(points, key=lambda p: p.elr)
    letters = ""
    for p in points:
        if not p.better:
            letters += "3"
        elif p.share <= CONVERGED or p.falling:
            letters += "1"
        else:
            letters += "2" if p.share >= ABOVE else "-"
    decided = letters.replace("-", "")
    runs = "".join(c for k, c in enumerate(decided) if k == 0 or decided[k - 1] != c)
    sheet.true(f"{name}: regimes by rising rate", runs, "123")
    sheet.note(f"{name}: " + ", ".join(f"{p.elr:.3g} {c} (loss {p.loss:.2g})" for p, c in zip(points, letters)))


#: train losses of regime 1 at which curvatures are compared; on CIFAR-10 runs of 80 epochs end at some 0.01
LEVELS = {"digits": (1e-2, 5e-3, 2e-3, 1e-3), "cifar-small": (5e-2, 3e-2, 2e-2, 1e-2)}


def combine(logs: Sequence[Estimate]) -> Estimate:
    """Mean of logarithms of ratios; its error is the larger of the scatter between them and of their own errors, as far
    as these are known; NaN where nothing is.
    """
    values, errors = (np.array(column) for column in zip(*((e.value, e.error) for e in logs)))
    known = [float(np.sqrt((errors**2).sum()) / len(values))] if np.isfinite(errors).all() else []
    if len(values) > 1:
        known.append(float(values.std(ddof=1) / math.sqrt(len(values))))
    return Estimate(float(values.mean()), max(known, default=math.nan))


def ratio_is_one(sheet: Sheet, name: str, logs: Sequence[Estimate], tolerance: float) -> Estimate:
    """A geometric mean of ratios that should be 1 within a tolerance."""
    mean = combine(logs)
    ratio = math.exp(mean.value)
    sheet.close(name, ratio, 1.0, rel=tolerance, se=ratio * mean.error)
    return mean


def spectrum_of_minima(sheet: Sheet, name: str, elrs: Sequence[float], means: Sequence[Estimate]) -> None:
    """Claim 5: ``means`` of log(eg/loss) at equal loss, by rising ELR, fall, with one inversion allowed."""
    values = [m.value for m in means]
    sheet.at_least(f"{name}: ELRs compared", len(elrs), 4)
    inversions = sum(not later < earlier for earlier, later in itertools.pairwise(values))
    sheet.at_most(f"{name}: inversions", inversions, 1)
    ratio = math.exp(values[0] - values[-1])
    error = ratio * math.hypot(means[0].error, means[-1].error)
    sheet.at_least(f"{name}: eg/loss, lowest ELR over highest", ratio, 1.3, se=error)


#: points of train error between linearly connected minima
CONNECTED = 0.5
SPREAD = 1.15


@dataclass(frozen=True)
class Landing:
    """Where runs of several new ELRs end that start from one run of regime 2."""

    logs: Mapping[float, Estimate]  # log(eg/loss) at equal loss, by new ELR
    barriers: Mapping[tuple[float, float], float]  # points of train error, between pairs of new ELRs

    @property
    def spread(self) -> Estimate:
        """Largest eg/loss over the least."""
        low, high = (f(self.logs.values(), key=lambda e: e.value) for f in (min, max))
        ratio = math.exp(high.value - low.value)
        return Estimate(ratio, ratio * math.hypot(low.error, high.error))

    @property
    def barrier(self) -> float:
        """The highest of all pairs."""
        return max(self.barriers.values())


def one_curvature(sheet: Sheet, low: Sequence[Landing], high: Sequence[Landing]) -> None:
    """Claim 8, curvature: from a low start all new ELRs end alike, from a high one less so; one of each a seed.

    Geometric means over the seeds, whose scatter is the error where single ratios have none. Undecided where a run has
    not come down to the losses at which curvatures are compared.
    """
    if not all(math.isfinite(log.value) for one in (*low, *high) for log in one.logs.values()):
        sheet.undecided("the runs from one start reach no common loss at which they could be compared; train longer")
        return
    logs = [[Estimate(math.log(s.value), s.error / s.value) for s in (one.spread for one in of)] for of in (low, high)]
    alike = combine(logs[0])
    apart = combine([Estimate(b.value - a.value, math.hypot(a.error, b.error)) for a, b in zip(*logs)])
    for name, mean, compare, bound in (
        ("low start: eg/loss, largest over least", alike, sheet.at_most, SPREAD),
        ("spread from the high start over that from the low", apart, sheet.at_least, 1.0),
    ):
        ratio = math.exp(mean.value)
        compare(f"{name}, mean over {len(low)} seeds", ratio, bound, se=ratio * mean.error)


def connected(sheet: Sheet, low: Sequence[Landing], high: Sequence[Landing]) -> None:
    """Claim 8, paths: the ends are connected from a low start, and less so from a high one; undecided where all are."""
    for k, (a, b) in enumerate(zip(low, high)):
        sheet.at_most(f"seed {k}, low start: highest barrier, points", a.barrier, CONNECTED)
        if a.barrier == b.barrier == 0:
            sheet.undecided(f"seed {k}: no barrier from either start, the train error is 0 all along")
        else:
            more = b.barrier - a.barrier
            sheet.true(f"seed {k}: barrier from the high start exceeds that from the low", more > 0, True)
        sheet.note(f"seed {k}: barriers {a.barrier:.3g} (low) and {b.barrier:.3g} (high) points of train error")


@dataclass(frozen=True)
class Region:
    """What :func:`scaleinv.landscape.averages.convexity` finds about the iterates of one run."""

    excess: float  # loss at the mean of iterates minus their mean loss
    share_above: float  # of segments with a point above the higher of their ends


def local_convexity(sheet: Sheet, low: Sequence[Region], high: Sequence[Region]) -> None:
    """Claim 22: holds for every seed at the low ELR, fails for every seed at the high one."""
    sheet.at_least("seeds", min(len(low), len(high)), 3)
    for name, regions, holds in (("low", low, True), ("high", high, False)):
        for k, r in enumerate(regions):
            convex = r.excess <= 0 and r.share_above == 0
            sheet.true(f"{name} ELR, seed {k}: convex", convex, holds)
        means = ", ".join(f"{r.excess:+.3g}" for r in regions)
        shares = ", ".join(f"{r.share_above:.0%}" for r in regions)
        sheet.note(f"{name} ELR: loss at the mean less mean loss {means}; segments above their ends {shares}")

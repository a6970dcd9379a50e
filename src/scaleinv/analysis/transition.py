"""Follow the passage between regimes 1 and 2: the time to convergence diverges, the effective gradient peaks.

Time to convergence is the first passage of the epoch's mean train loss below a threshold (the released follow-up code's
rule). It has no value for a run that does not get there; then its horizon is a lower bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaleinv.analysis.statistics import NOWHERE, UNKNOWN, Estimate, Floats, Interval, mean, sample_mean, t_quantile
from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run

THRESHOLD = 1e-2  # of the train loss
SHARE = 0.4  # of the last ELR that converges: how far below it growth is measured
GROWTH = 2.0
FARTHEST = 4.0  # candidates for the critical ELR, in units of the last one that converges
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Passage:
    """When a run's train loss first came below a threshold."""

    elr: float
    seed: int | None
    epoch: int | None  # the first epoch whose mean loss is below; None: it did not get there
    time: float  # epochs, interpolated in the logarithm of the loss between two epochs; NaN: it did not get there
    horizon: int  # epochs of the run: a lower bound where it did not
    threshold: float


def first_passage(run: Run, threshold: float = THRESHOLD, split: Literal["online", "train"] = "online") -> Passage:
    """Find the first passage of a run; a loss that is later above the threshold again does not undo it."""
    epochs, loss = run.series(split, "total", "loss")
    below = np.nonzero(loss < threshold)[0]
    if not len(below):
        return Passage(run.elr, run.seed, None, math.nan, run.last_epoch, threshold)
    k = int(below[0])
    time = float(epochs[k])
    if k > 0 and loss[k] > 0 and math.isfinite(loss[k - 1]):
        share = math.log(loss[k - 1] / threshold) / math.log(loss[k - 1] / loss[k])
        time = float(epochs[k - 1] + share * (epochs[k] - epochs[k - 1]))
    return Passage(run.elr, run.seed, int(epochs[k]), time, run.last_epoch, threshold)


@dataclass(frozen=True)
class Growth:
    """How much longer convergence takes at the last ELR that gets there than a share below it."""

    verdict: Literal["grows", "does not grow", "undecided"]
    reason: str
    ratio: Estimate  # geometric mean over seeds; its error is that of the ratio
    by_seed: tuple[tuple[int | None, float, float], ...]  # seed, its last ELR that gets there, its ratio
    share: float
    needed: float


def growth(passages: Sequence[Passage], *, share: float = SHARE, needed: float = GROWTH) -> Growth:
    """Compare the time at the largest converging ELR ``e`` of every seed with that at ``(1 - share) e``, interpolated.

    A seed counts only if a larger ELR did not get there (else the boundary was not reached) and one at or below ``(1 -
    share) e`` did. With several seeds the geometric mean decides with two standard errors, with one its value alone.
    """
    found = []
    for seed in sorted({p.seed for p in passages}, key=lambda s: -1 if s is None else s):
        mine = sorted((p for p in passages if p.seed == seed), key=lambda p: p.elr)
        reached = [p for p in mine if p.epoch is not None]
        if not reached or mine[-1] is reached[-1]:
            continue
        last = reached[-1]
        if reached[0].elr > (1 - share) * last.elr or last.time <= 0:
            continue
        x = np.log([p.elr for p in reached])
        y = np.log([p.time for p in reached])
        earlier = float(np.interp(math.log((1 - share) * last.elr), x, y))
        found.append((seed, last.elr, math.exp(float(y[-1]) - earlier)))
    if not found:
        reason = "no seed has an ELR that does not converge above one that does, and another far enough below"
        return Growth("undecided", reason, UNKNOWN, (), share, needed)
    logs = sample_mean(np.log([ratio for _, _, ratio in found]))
    ratio = Estimate(math.exp(logs.value), math.exp(logs.value) * logs.error)
    within = logs.value - math.log(needed) + 2 * logs.known_error * np.array([-1, 1])
    verdict: Literal["grows", "does not grow", "undecided"] = "undecided"
    if within[0] >= 0:
        verdict = "grows"
    elif within[1] < 0:
        verdict = "does not grow"
    reason = f"x{ratio.value:.3g} over the last {share:.0%} below the last ELR that converges ({len(found)} seeds, "
    reason += f"s.e. {ratio.error:.2g}); x{needed:g} is needed"
    return Growth(verdict, reason, ratio, tuple(found), share, needed)


@dataclass(frozen=True)
class CriticalFit:
    """``time = A (critical - elr)^-exponent``, fitted in the logarithms."""

    verdict: Literal["diverges", "undecided"]
    reason: str
    critical: float
    critical_interval: Interval
    exponent: float
    exponent_interval: Interval
    scatter: float  # standard deviation of log(time) around the fit
    points: int  # runs that converged and were used
    censored: int  # runs that did not converge and bound the fit from below


def fit_divergence(passages: Sequence[Passage], *, lowest: float = 0.25) -> CriticalFit:
    """Fit the divergence of the time to convergence at a critical ELR, with profile-likelihood intervals (95 %).

    Used are the runs of ELR at least ``lowest`` times the largest converging one (far below, the time falls as 1/ELR,
    which is another law). A run that did not converge says that its time is at least its horizon: a prediction below it
    costs as a residual does. "diverges": the critical ELR is bounded from above and the exponent from zero. All seeds
    share one critical ELR here, so its scatter over seeds widens the intervals.
    """
    reached = [p for p in passages if p.epoch is not None and p.time > 0]
    top = max((p.elr for p in reached), default=0.0)
    used = [p for p in reached if p.elr >= lowest * top]
    # beyond the last ELR that converges only: a run below that fails where another seed succeeds is scatter
    failed = [p for p in passages if p.epoch is None and p.elr > top]
    if len({p.elr for p in used}) < 4:
        reason = f"{len({p.elr for p in used})} ELRs that converge are too few for three parameters; 4 are needed"
        none = (math.nan, NOWHERE, math.nan, NOWHERE, math.nan)
        return CriticalFit("undecided", reason, *none, len(used), len(failed))
    e, y = np.array([p.elr for p in used]), np.log([p.time for p in used])
    elr_bound, bound = np.array([p.elr for p in failed]), np.log([max(p.horizon, 1) for p in failed])
    critical = top * (1 + np.geomspace(1e-3, FARTHEST - 1, 200))
    exponent = np.linspace(0.0, 8.0, 161)
    cost = np.array([_cost(c, exponent, e, y, elr_bound, bound) for c in critical])  # (critical, exponent)
    i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
    freedom = max(1, len(used) - 3)
    scatter = math.sqrt(max(float(cost[i, j]), 1e-12) / freedom)
    allowed = float(cost[i, j]) + (t_quantile(CONFIDENCE, freedom) * scatter) ** 2
    inside = cost <= allowed
    ci, pi = np.nonzero(inside.any(1))[0], np.nonzero(inside.any(0))[0]
    # an interval that reaches the end of the candidates is open there
    last = [math.inf if ks[-1] == len(x) - 1 else float(x[ks[-1]]) for ks, x in ((ci, critical), (pi, exponent))]
    c = Interval(float(critical[ci[0]]) if ci[0] else top, last[0])
    p = Interval(float(exponent[pi[0]]), last[1])
    verdict: Literal["diverges", "undecided"] = "diverges" if math.isfinite(c.high) and pi[0] > 0 else "undecided"
    reason = f"critical ELR {critical[i]:.4g} ({c.low:.3g} to {c.high:.3g}), "
    reason += f"exponent {exponent[j]:.2f} ({p.low:.2f} to {p.high:.2f}), log scatter {scatter:.2g}"
    found = (float(critical[i]), c, float(exponent[j]), p)
    return CriticalFit(verdict, reason, *found, scatter, len(used), len(failed))


def _cost(critical: float, exponent: Floats, e: Floats, y: Floats, e_bound: Floats, bound: Floats) -> Floats:
    """Sum the squares at the best prefactor, for every exponent; a bound that is kept costs nothing."""
    shape = -exponent[:, None] * np.log(critical - e)
    rest = y - shape  # what log A should be
    log_a = rest.mean(axis=1)
    # an ELR beyond the critical one never converges and keeps its bound
    near = e_bound < critical
    floor = bound[near] + exponent[:, None] * np.log(critical - e_bound[near])
    short = np.zeros(floor.shape, dtype=bool)
    for _ in range(1 + floor.shape[1]):  # the mean over those that count, until they are those
        before, short = short, floor > log_a[:, None]
        if np.array_equal(before, short):
            break
        log_a = (rest.sum(1) + np.where(short, floor, 0.0).sum(1)) / (rest.shape[1] + short.sum(1))
    lack = np.maximum(0.0, floor - log_a[:, None])
    cost: Floats = ((rest - log_a[:, None]) ** 2).sum(1) + (lack**2).sum(1)
    return cost


@dataclass(frozen=True)
class Peak:
    """Where the effective gradient of a run is largest along its trajectory, and where it is in the end."""

    elr: float
    seed: int | None
    eg: float  # the largest; NaN: the run has no point below the given loss
    epoch: int
    loss: float  # the train loss there
    inner: bool  # neither the first nor the last point is the largest
    final_eg: Estimate  # mean over the last half
    final_loss: Estimate


def gradient_peak(run: Run, *, below: float = math.inf, split: Literal["online", "train"] = "online") -> Peak:
    """Find the peak of the effective gradient along a run, over points whose train loss is ``below`` a value.

    A confidently wrong network starts with its largest gradient; ``below`` = the best constant answer's loss skips it.
    """
    epochs, loss = run.series(split, "total", "loss")
    eg_epochs, eg = run.series(split, "total", "eg")
    epochs, left, right = np.intersect1d(epochs, eg_epochs, return_indices=True)
    loss, eg = loss[left], eg[right]
    keep = np.isfinite(loss) & np.isfinite(eg)
    epochs, loss, eg = epochs[keep], loss[keep], eg[keep]
    if not len(epochs):
        raise UserError(f"{run.folder}: no effective gradient was measured in the split {split}")
    late = epochs > epochs[-1] // 2
    ends = (mean(eg[late]), mean(loss[late]))
    chosen = np.nonzero(loss < below)[0]
    if not len(chosen):
        return Peak(run.elr, run.seed, math.nan, 0, math.nan, False, *ends)
    k = int(chosen[np.argmax(eg[chosen])])
    inner = bool(chosen[0] < k < chosen[-1])
    return Peak(run.elr, run.seed, float(eg[k]), int(epochs[k]), float(loss[k]), inner, *ends)


@dataclass(frozen=True)
class TransitionPeak:
    """Which ELR ends with the largest effective gradient, among runs that end below the given loss."""

    elr: float
    between: Interval  # its neighbours among the ELRs: where the peak lies
    decided: bool  # both neighbours are lower, by two standard errors
    eg: tuple[tuple[float, Estimate], ...]  # (ELR, eg at the end), by ELR


def transition_peak(peaks: Sequence[Peak], *, below: float = math.inf) -> TransitionPeak:
    """Find the peak over ELRs of the final effective gradient (the paper: at the 1/2 transition); one seed at a time.

    ``below``: runs that end above that loss (regime 3, whose gradients are larger by orders) are left out.
    """
    points = sorted(((p.elr, p.final_eg) for p in peaks if p.final_loss.value < below), key=lambda point: point[0])
    if len({elr for elr, _ in points}) < len(points):
        raise UserError("two runs of one ELR: give the peaks of one seed")
    if not points:
        raise UserError(f"no run ends below the loss {below:g}")
    k = int(np.argmax([e.value for _, e in points]))
    elr, top = points[k]
    (low, left), (high, right) = (points[i] if 0 <= i < len(points) else (math.nan, UNKNOWN) for i in (k - 1, k + 1))
    decided = all(top.value - e.value > 2 * math.hypot(top.error, e.error) for e in (left, right))
    return TransitionPeak(elr, Interval(low, high), decided, tuple(points))

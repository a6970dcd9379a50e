r"""Decide whether the effective step sizes of the groups on the sphere become equal, and check their relations.

Relations of Kodryan et al. 2022 (eqs. 7-9), with ``ess_i = elr_i eg_i``: ``sum 1/elr_i = 1/elr``, ``ess^2 = sum w_i
ess_i^2``, ``elr_i' = elr_i (1 + ess^2)/(1 + ess_i^2)``. The last one says over a window of T steps, exactly,

    mean log(1 + ess^2) - mean log(1 + ess_i^2) = (log elr_i(T) - log elr_i(0)) / T,

so these means, not those of the ESS themselves, become equal in a stationary run. They can do so only after a time of
about ``1/ess^2`` steps: the clock, the sum over steps of ``log(1 + ess^2)`` of the total, has to pass a few units.

Arrays have shape (steps, groups). Everything holds for plain SGD on the sphere of the total. Runs whose optimizer has
another law (Adam) are refused; with momentum or in the whole space the residuals tell.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from scaleinv.analysis.statistics import UNKNOWN, Estimate, Floats, mean
from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run
from scaleinv.runfolder.steps import Steps
from scaleinv.theory import rates
from scaleinv.theory.kodryan2022 import next_elrs, total_elr, total_ess

TOLERANCE = 1.05  # largest over smallest mean of log(1 + ess_i^2)
FEWEST_TIMES = 3.0  # units of the clock a window must hold before "equal" is more than a coincidence


@dataclass(frozen=True)
class GroupEss:
    """What happened to every group at every step of a run, before the step."""

    names: tuple[str, ...]
    elr: Floats  # (steps, groups)
    ess: Floats  # (steps, groups)
    total_elr: Floats  # (steps,)
    total_ess: Floats  # (steps,): measured by the angle of the whole vector, ess = tan(angle)


def from_steps(steps: Steps) -> GroupEss:
    """Compute ELR and ESS of every group from the per-step record of a run.

    Errors: UserError for a record without groups, or of an optimizer with another law than SGD's.
    """
    _only_sgd(steps.law, "the per-step record")
    names = tuple(steps.groups)
    if not names:
        raise UserError("the per-step record has no groups")
    rho_sq = np.stack([steps.groups[name].rho_sq for name in names], axis=1)
    g = np.stack([steps.groups[name].g for name in names], axis=1)
    elr = rates.elr_of_square(steps.lr[:, None], rho_sq)
    ess = elr * g * np.sqrt(rho_sq)
    return GroupEss(names, elr, ess, rates.elr_of_square(steps.lr, steps.rho_sq), np.tan(steps.angle))


def _only_sgd(law: str, what: str) -> None:
    if law != "sgd":
        raise UserError(
            f"{what} is of an optimizer with the law {law!r}: the relations between the ELRs and the effective step "
            "sizes of groups hold for SGD; train with --optimizer sgd"
        )


@dataclass(frozen=True)
class Equalisation:
    """Window means of ``log(1 + ess_i^2)`` and whether they are equal."""

    verdict: Literal["equal", "unequal", "undecided"]
    reason: str
    names: tuple[str, ...]
    means: tuple[Estimate, ...]  # of log(1 + ess_i^2), errors respect autocorrelation; NaN error: not known
    total: Estimate
    ratio: Estimate  # largest mean over smallest
    elrs: tuple[float, ...]  # geometric mean of each group's ELR over the window
    time_scale: float  # steps: 1 / mean log(1 + ess^2)
    clock: float  # window in units of the time scale
    window: tuple[int, int]  # steps, first to last + 1
    tolerance: float


def equalisation(
    groups: GroupEss, first: int = 0, last: int | None = None, *, tolerance: float = TOLERANCE
) -> Equalisation:
    """Decide whether the groups' ESS are equal over the steps ``first..last-1``.

    "equal": the ratio of the extreme means with two standard errors stays within the tolerance, over a window of at
    least :data:`FEWEST_TIMES` units of the clock. "unequal": it is beyond by two standard errors; or at all,
    within less than one unit: in a run that converges the clock stands still and there is no time to become equal.
    """
    last = len(groups.ess) if last is None else last
    logs, total = np.log1p(groups.ess[first:last] ** 2), np.log1p(groups.total_ess[first:last] ** 2)
    if not len(logs):
        raise UserError(f"steps {first} to {last} hold nothing; the record has {len(groups.ess)} steps")
    means = tuple(mean(logs[:, i]) for i in range(logs.shape[1]))
    elrs = tuple(float(v) for v in np.exp(np.log(groups.elr[first:last]).mean(0)))
    clock = float(total.sum())
    low, high = (int(k([m.value for m in means])) for k in (np.argmin, np.argmax))
    error = math.nan
    if means[low].value > 0:  # of the ratio of two means of the same steps, whose scatter is common in part
        error = mean(logs[:, high] / means[high].value - logs[:, low] / means[low].value).error
    return _judge(groups.names, means, error, mean(total), elrs, clock, (first, last), tolerance)


def _judge(
    names: tuple[str, ...],
    means: tuple[Estimate, ...],
    error: float,
    total: Estimate,
    elrs: tuple[float, ...],
    clock: float,
    window: tuple[int, int],
    tolerance: float,
) -> Equalisation:
    """Compare the extreme means; ``error``: of the logarithm of their ratio."""
    values = np.array([m.value for m in means])
    ratio = UNKNOWN
    verdict: Literal["equal", "unequal", "undecided"] = "undecided"
    if not (np.all(np.isfinite(values)) and np.all(values > 0) and math.isfinite(error)):
        reason = "a group did not move, or its step is not known"
    else:
        low, high = int(np.argmin(values)), int(np.argmax(values))
        ratio = Estimate(float(values[high] / values[low]), float(values[high] / values[low]) * error)
        reason = f"largest mean of log(1 + ess^2) ({names[high]}) over smallest ({names[low]}): {ratio.value:.3g}"
        reason += f" (s.e. {ratio.error:.2g}) against {tolerance:g}, over {clock:.3g} times 1/ess^2"
        # within one unit of the clock nothing is stationary: the means are those of this window, without an error
        if ratio.value - (2 * ratio.error if clock >= 1 else 0.0) > tolerance:
            verdict = "unequal"
        elif ratio.value + 2 * ratio.error <= tolerance and clock >= FEWEST_TIMES:
            verdict = "equal"
        elif clock < FEWEST_TIMES:
            reason += ", which is too short to call them equal"
    scale = (window[1] - window[0]) / clock if clock > 0 else math.inf
    return Equalisation(verdict, reason, names, means, total, ratio, elrs, scale, clock, window, tolerance)


@dataclass(frozen=True)
class Profile:
    """The equalisation in consecutive windows, each twice as long by the clock as the one before."""

    windows: tuple[Equalisation, ...]
    clock: tuple[float, ...]  # at the end of each window, from the start of the run
    settled: int | None  # first window from which on no ratio exceeds the tolerance (s.e. ignored); None: never
    settled_clock: float  # the clock at its beginning; NaN: never


def profile(groups: GroupEss, *, units: float = FEWEST_TIMES, tolerance: float = TOLERANCE) -> Profile:
    """Follow the ratio along the run, in windows each with twice the clock of the one before, from ``units`` on.

    In a window of u units the ratio differs from 1 by about the fluctuations of ``log elr_i`` over u, so windows have
    to grow to see it fall. A window has at least two steps; a rest shorter than a window joins the last one.
    """
    clock = np.cumsum(np.log1p(groups.total_ess**2))
    if not len(clock) or not np.isfinite(clock[-1]):
        raise UserError("the record has no steps, or one that is not finite")
    edges, done, wanted = [0], 0.0, units
    for step, now in enumerate(clock, 1):
        if now - done >= wanted and step - edges[-1] >= 2:
            edges.append(step)
            done, wanted = float(now), 2 * wanted
    if len(edges) == 1:
        edges.append(len(clock))
    edges[-1] = len(clock)
    windows = tuple(equalisation(groups, a, b, tolerance=tolerance) for a, b in pairwise(edges))
    ends = tuple(float(clock[b - 1]) for b in edges[1:])
    settled = max((k for k, w in enumerate(windows, 1) if not w.ratio.value <= tolerance), default=0)
    if settled == len(windows):
        return Profile(windows, ends, None, math.nan)
    return Profile(windows, ends, settled, (0.0, *ends)[settled])


def epoch_equalisation(run: Run, first: int, last: int, *, tolerance: float = TOLERANCE) -> Equalisation:
    """Decide the same by the rows of a run without a per-step record, over the evaluated epochs ``first+1..last``.

    The total is ``-2 log(mean cosine)``, which agrees with the mean of ``log(1 + ess^2)`` to the fourth order of ESS;
    the groups follow from eq. 9, exactly. They have no errors: the relation has none.
    """
    _only_sgd(run.law, str(run.folder))
    names = tuple(run.groups())
    epochs, cosine = run.series("online", "total", "cosine")
    keep = (epochs > first) & (epochs <= last)
    steps = run.table("train", "total", "elr")
    at = {int(epoch): int(step) for epoch, step in zip(steps.epochs, steps.steps)}
    if not (names and np.any(keep) and first in at and last in at):
        raise UserError(f"{run.folder}: epochs {first} and {last} have no exact metrics of the groups")
    rows = [run.series("train", name, "elr") for name in names]
    ends = [np.array([float(elrs[epochs == epoch][0]) for epochs, elrs in rows]) for epoch in (first, last)]
    length = at[last] - at[first]
    total = mean(-2 * np.log(cosine[keep]))
    change = (np.log(ends[1]) - np.log(ends[0])) / length
    means = tuple(Estimate(float(total.value - c), math.nan) for c in change)
    elrs = tuple(float(v) for v in np.sqrt(ends[0] * ends[1]))
    return _judge(names, means, 0.0, total, elrs, total.value * length, (at[first], at[last]), tolerance)


@dataclass(frozen=True)
class RelationResiduals:
    """Largest and root mean square relative deviations from the three relations over a run."""

    sum_rule: tuple[float, float]  # eq. 7, the total ELR against that of the groups
    convex: tuple[float, float]  # eq. 8, the total's ESS by its angle against that of the groups by their gradients
    feedback: tuple[float, float]  # eq. 9, every group's next ELR
    worst_step: int  # of eq. 9
    steps: int


def residuals(groups: GroupEss) -> RelationResiduals:
    """Measure how well the relations hold at every step.

    The sum rule compares with the first step's ELR where the total's was not measured: on the sphere it is constant.
    """
    if len(groups.ess) < 2:
        raise UserError(f"{len(groups.ess)} steps are too few for relations between steps")
    summed = total_elr(groups.elr) / groups.total_elr[0] - 1
    squared = total_ess(groups.ess, groups.elr) ** 2
    with np.errstate(all="ignore"):
        convex = np.where(squared > 0, groups.total_ess**2 / squared - 1, 0.0)
    feedback = groups.elr[1:] / next_elrs(groups.elr[:-1], groups.ess[:-1]) - 1
    worst = int(np.argmax(np.abs(feedback).max(axis=1)))

    def both(x: Floats) -> tuple[float, float]:
        return float(np.abs(x).max()), float(np.sqrt(np.mean(x**2)))

    return RelationResiduals(both(summed), both(convex), both(feedback), worst, len(groups.ess))

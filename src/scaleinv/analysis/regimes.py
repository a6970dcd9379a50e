"""Which regime a run on the sphere is in, with the evidence; and the boundaries of a sweep.

The decision uses the online loss, error, effective gradient and cosine of every epoch in the window, the last half of the run, never the
last value alone: near the 1/2 boundary a run reaches the minimum and is thrown out again. Let ``chance`` be the error of guessing,
``1 - 1/C``, and ``threshold = 0.01 x`` the loss of the best constant answer (``log C`` for cross-entropy, ``(C-1)/C^2`` for squared loss).

- **3, divergence**: mean error at chance, ``|cos| < 0.3`` for consecutive iterates, and the mean train loss not significantly below the
  level of random directions of the same network with the same head: that measured before training, or that measured during the
  window at the present norms of the rows (eps of the norm layers silences rows that became very small, which lowers the level).
- **1, convergence**: the loss is below the threshold in at least 90 % of the epochs of the window; or it still falls, and the effective
  gradient with it: both drop by a factor >= 1.2 from the first to the last third of the window, by more than 3 standard errors,
  with a rank correlation with time of at most -0.8.
- **2, chaotic equilibrium**: the loss is above the threshold in at least half of the epochs of the window, stationary (drift of its
  logarithm between the first and the last third within 3 standard errors or below 15 %), and better than chance.
- otherwise **undecided**, with the reason: among others the intermittent band (10-50 % of the epochs above the threshold), the onset of
  regime 3 (chance error, iterates still correlated, or a loss below the random level), a level that still moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.runs import Run
from scaleinv.analysis.statistics import Estimate, drift, mean, rank_correlation_with_time

Floats = npt.NDArray[np.float64]

THRESHOLD = 0.01  # of the loss of the best constant answer
SHARE_CONVERGED, SHARE_STATIONARY = 0.1, 0.5  # of the window's epochs above the threshold
FALL, FALL_RANK = math.log(1.2), -0.8
STATIONARY_DRIFT = math.log(1.15)
SIGNIFICANT = 3.0  # standard errors
CORRELATED = 0.3  # |cosine| of consecutive iterates from which they count as correlated
CHANCE_TOLERANCE = 0.05  # of the error of guessing
FEWEST_EPOCHS = 10

NAMES = {1: "convergence", 2: "chaotic equilibrium", 3: "divergence", None: "undecided"}


@dataclass(frozen=True)
class Verdict:
    """A regime (``None``: undecided) and what it rests on."""

    regime: int | None
    evidence: dict[str, Any]  # "reason" is a sentence; the rest numbers


@dataclass(frozen=True)
class Window:
    """What is looked at: values of every epoch of the last half of a run."""

    first: int
    last: int
    loss: Floats
    error: Floats
    cosine: Floats
    eg: Floats
    ess: Floats


def window(run: Run) -> Window:
    """The last half of the epochs of a run, from its online metrics."""
    epochs, loss = run.series("online", "total", "loss")
    keep = epochs > (epochs[-1] // 2 if len(epochs) else 0)

    def of(quantity: str) -> Floats:
        values = run.series("online", "total", quantity)[1]
        return values[keep] if len(values) == len(keep) else np.full(int(keep.sum()), math.nan)

    chosen = epochs[keep]
    first, last = (int(chosen[0]), int(chosen[-1])) if len(chosen) else (0, 0)
    return Window(first, last, loss[keep], of("error"), of("cosine"), of("eg"), of("ess"))


def constant_loss(loss: str, classes: int) -> float:
    """Loss of the best constant answer: log C, or (C - 1)/C^2 for the squared loss (mean over classes)."""
    return math.log(classes) if loss == "ce" else (classes - 1) / classes**2


def classify(run: Run, classes: int = 10) -> Verdict:
    """The regime of a run on the sphere, from its folder. ``classes``: of the data set.

    Works for runs in the whole space as well, where it describes the window only.
    """
    w = window(run)
    threshold = THRESHOLD * constant_loss(str(run.config.get("loss", "ce")), classes)
    chance = 1 - 1 / classes
    evidence: dict[str, Any] = {
        "window": [w.first, w.last],
        "threshold": threshold,
        "chance_error": chance,
        "horizon_epochs": run.last_epoch,
    }

    def verdict(regime: int | None, reason: str) -> Verdict:
        return Verdict(regime, {"reason": reason, **evidence})

    if run.status == "diverged" or not np.all(np.isfinite(w.loss)):
        message = (run.result or {}).get("message") or "the loss is not finite"
        return verdict(None, f"the run left the numbers: {message}")
    if run.last_epoch < FEWEST_EPOCHS:
        return verdict(None, f"{run.last_epoch} epochs are too few to judge; at least {FEWEST_EPOCHS} are needed")
    log_loss = np.log(np.maximum(w.loss, 1e-300))
    log_eg = np.log(np.maximum(w.eg, 1e-300))
    level, error, cosine = mean(w.loss), mean(w.error), mean(w.cosine)
    loss_drift, eg_drift = drift(log_loss), drift(log_eg)
    rank, eg_rank = rank_correlation_with_time(w.loss), rank_correlation_with_time(w.eg)
    share = float((w.loss > threshold).mean())
    random, present = _level(run, "reference"), _level(run, "reference_present")
    evidence |= {
        "loss": level.value,
        "loss_se": level.error,
        "error": error.value,
        "cosine": cosine.value,
        "share_above_threshold": share,
        "loss_drift": loss_drift.value,
        "loss_drift_se": loss_drift.error,
        "loss_rank": rank,
        "eg_drift": eg_drift.value,
        "eg_drift_se": eg_drift.error,
        "eg_rank": eg_rank,
        "random_loss": random.value,
        "random_loss_se": random.error,
        "random_loss_present_norms": present.value,
        "random_loss_present_norms_se": present.error,
    }
    if error.value >= chance * (1 - CHANCE_TOLERANCE):
        return verdict(*_at_chance(level, error, cosine, random, present))
    if share <= SHARE_CONVERGED:
        return verdict(
            1, f"loss {level.value:.2g} on average, below {threshold:.2g} in {1 - share:.0%} of epochs {w.first}-{w.last}"
        )
    if all(
        d.value <= -FALL and d.value <= -SIGNIFICANT * d.error and r <= FALL_RANK
        for d, r in ((loss_drift, rank), (eg_drift, eg_rank))
    ):
        return verdict(
            1,
            f"loss still falls (x{math.exp(loss_drift.value):.2f} within epochs {w.first}-{w.last}) and the effective gradient "
            f"with it (x{math.exp(eg_drift.value):.2f})",
        )
    if share < SHARE_STATIONARY:
        return verdict(
            None, f"intermittent: the loss is above {threshold:.2g} in {share:.0%} of epochs {w.first}-{w.last}, the 1/2 band"
        )
    if abs(loss_drift.value) > max(SIGNIFICANT * loss_drift.error, STATIONARY_DRIFT):
        return verdict(
            None,
            f"the level still moves: x{math.exp(loss_drift.value):.2f} within epochs {w.first}-{w.last}; train longer",
        )
    return verdict(
        2,
        f"stationary at loss {level.value:.3g} +- {level.error:.1g} (drift x{math.exp(loss_drift.value):.2f}), above "
        f"{threshold:.2g} in {share:.0%} of epochs {w.first}-{w.last}, error {error.value:.0%}",
    )


def _level(run: Run, split: str) -> Estimate:
    """Mean loss of the random directions of a split; the draws of one evaluation share the norms, so evaluations are the sample."""
    series = [s.values for (kind, _, quantity), s in run.metrics.items() if (kind, quantity) == (split, "loss")]
    if not series:
        return Estimate(math.nan, math.nan)
    draws = np.stack(series)  # (directions, evaluations)
    sample = draws[:, 0] if draws.shape[1] == 1 else draws.mean(axis=0)
    return Estimate(float(sample.mean()), float(sample.std(ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else math.nan)


def _at_chance(
    level: Estimate, error: Estimate, cosine: Estimate, random: Estimate, present: Estimate
) -> tuple[int | None, str]:
    """Regime 3 or its onset, for a run whose error is that of guessing."""
    if not abs(cosine.value) < CORRELATED:
        return None, (
            f"onset of divergence: error {error.value:.0%} is chance, but consecutive iterates are still correlated "
            f"(cos {cosine.value:.2f})"
        )
    if math.isnan(random.value):
        return None, f"error {error.value:.0%} is chance, but the level of random directions was not measured"
    stated = f"error {error.value:.0%} is chance, consecutive iterates are uncorrelated (cos {cosine.value:.2f}), "
    stated += f"loss {level.value:.3g}"
    if not _below(level, random):
        return 3, f"{stated} is that of random directions ({random.value:.3g} +- {random.error:.1g}) or worse"
    if not math.isnan(present.value) and not _below(level, present):
        return 3, (
            f"{stated} is that of random directions with the present norms ({present.value:.3g} +- {present.error:.1g}) or worse; "
            f"at equal norms it would be {random.value:.3g}, but eps of the norm layers silences rows that became too small"
        )
    return None, (
        f"{stated} but is below the level of random directions ({random.value:.3g} +- {random.error:.1g}): onset of divergence"
    )


def _below(level: Estimate, reference: Estimate) -> bool:
    """Whether a level is significantly below a reference."""
    error = math.hypot(*(0.0 if math.isnan(e) else e for e in (level.error, reference.error)))
    return level.value < reference.value - SIGNIFICANT * error


Boundary = dict[str, Any]


def boundaries(points: Sequence[tuple[float, int, int | None]]) -> dict[str, Boundary]:
    """Boundaries between the regimes as intervals of the rate, from (rate, seed, regime).

    For one seed the interval 1/2 runs from the largest rate up to which every decided run is in regime 1 to the smallest rate from
    which on none is; 2/3 alike with regime 3. ``decided`` only if both sides were seen. Several seeds: the union of their intervals,
    decided if every seed's is.

    >>> boundaries([(1e-3, 0, 1), (1e-2, 0, 2), (1e-1, 0, 3)])["1/2"]
    {'low': 0.001, 'high': 0.01, 'decided': True}
    """
    seeds = sorted({seed for _, seed, _ in points})
    return {
        "1/2": _union([_boundary(_decided(points, seed), 1) for seed in seeds]),
        "2/3": _union([_boundary(_decided(points, seed), 2) for seed in seeds]),
    }


def _decided(points: Sequence[tuple[float, int, int | None]], seed: int) -> list[tuple[float, int]]:
    return sorted((rate, regime) for rate, s, regime in points if s == seed and regime is not None)


def _boundary(runs: Sequence[tuple[float, int]], below: int) -> Boundary:
    """Between the regimes ``below`` and ``below + 1`` of one seed."""
    low = high = None
    for rate, regime in runs:
        if regime > below:
            break
        low = rate if regime == below else low
    for rate, regime in reversed(runs):
        if regime <= below:
            break
        high = rate
    above = {regime for rate, regime in runs if high is not None and rate >= high}
    return {"low": low, "high": high, "decided": low is not None and below + 1 in above}


def _union(intervals: Sequence[Boundary]) -> Boundary:
    lows = [b["low"] for b in intervals if b["low"] is not None]
    highs = [b["high"] for b in intervals if b["high"] is not None]
    return {
        "low": min(lows) if lows else None,
        "high": max(highs) if highs else None,
        "decided": bool(intervals) and all(b["decided"] for b in intervals),
    }


def describe(bounds: Mapping[str, Boundary]) -> str:
    """The map in one sentence."""
    parts = []
    for key, (left, right) in (("1/2", (1, 2)), ("2/3", (2, 3))):
        b = bounds[key]
        if b["decided"]:
            parts.append(f"{NAMES[left]} -> {NAMES[right]} between {b['low']:.2g} and {b['high']:.2g}")
        else:
            parts.append(f"{NAMES[left]} -> {NAMES[right]} not decided on this grid")
    return "; ".join(parts)

"""Decide which regime a run on the sphere is in, with the evidence; and the boundaries of a sweep.

The decision uses the online loss, error, effective gradient and cosine of every epoch in the window, the last half of
the run, never the last value alone: near the 1/2 boundary a run reaches the minimum and is thrown out again. Two
numbers are taken from the run's config and never assumed: ``chance_error``, the error of the best constant answer (``1
- 1/C`` for C equally frequent classes), and ``constant_loss``, its loss (``log C`` for cross-entropy, ``(C-1)/C^2`` for
squared loss); ``threshold = 0.01 constant_loss``. Where one is missing, so is every verdict that rests on it.

- **3, divergence**: mean error at chance (within 5 % of ``chance_error``, or within 3 standard errors, and an accuracy
  at most half as much again as that of guessing; where ``chance_error`` is not given or the error was not measured, a
  mean loss not below ``constant_loss`` by 3 standard errors), ``|cos| < 0.3`` for consecutive iterates (with momentum
  the limit of :func:`correlated_from`), and the mean train loss not below the level of divergence of the same network
  with the same head (by more than 3 standard errors and 15 %). That level is one of three: of random directions before
  training; of random directions at the norms that the rows have during the window (eps of the norm layers silences rows
  that became very small, which lowers the level); of SGD in the limit of an infinite ELR, where every iterate is minus
  the direction of a gradient. Such directions have a loss 0-12 % below random ones on digits (convnet, twelve heads)
  and a quarter and more below on CIFAR-10. Where 3 standard errors of the difference exceed half of the level, nothing
  is decided.
- **1, convergence**: the loss is below the threshold in at least 90 % of the epochs of the window and in most of the
  last tenth of them (a run that ends above it has been thrown out, and nobody knows for how long); or it still falls,
  and the effective gradient with it: both drop by a factor >= 1.2 from the first to the last third of the window, by
  more than 3 standard errors, with a rank correlation with time of at most -0.9 (a step has -0.75), and at least a
  quarter of the drop comes after the middle third (a power law gives 44 %, an exponential 50 %; less is the approach to
  a level).
- **2, chaotic equilibrium**: the loss is above the threshold in at least half of the epochs of every third of the
  window (so a run that gets to the minimum late is not one), stationary (the means of its logarithm over the first and
  the last third differ by less than 15 %, or by less than 3 standard errors while its means differ by less than a
  factor of 2), and better than chance (in the error, or where that is not known in the loss).
- otherwise **undecided**, with the reason: among others the intermittent band (some 10-50 % of the epochs above the
  threshold), the onset of regime 3 (chance error, iterates still correlated, or a loss below the random level), a level
  that still moves, a run shorter than 20 epochs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaleinv.analysis.statistics import UNKNOWN, Estimate, Floats, drift, mean, rank_correlation_with_time, sample_mean
from scaleinv.errors import UserError
from scaleinv.plots.regimes import draw_levels, draw_series
from scaleinv.plots.tables import frame
from scaleinv.runfolder.read import Run
from scaleinv.text import esc
from scaleinv.theory.guessing import CHANCE_ACCURACY, guesses
from scaleinv.theory.optimizers import memory_of

THRESHOLD = 0.01  # of the loss of the best constant answer
SHARE_CONVERGED, SHARE_STATIONARY = 0.1, 0.5  # of the window's epochs above the threshold
GONE = 0.75  # how much larger that share is in the first third than in the last where the loss went for good
FALL, FALL_RANK = math.log(1.2), -0.9
STATIONARY_DRIFT = math.log(1.15)
STEADY_DRIFT = math.log(1.02)  # a level that moves by less rests, however steadily
SIGNIFICANT = 3.0  # standard errors
CORRELATED = 0.3  # |cosine| of consecutive iterates from which they count as correlated
LATE_SHARE = 0.25  # of a fall that must come after the middle third for it to go on
MOST_STATIONARY = 2.0  # ratio of the means of the first and the last third, whatever the errors
END = 0.1  # of the window: its last epochs
BELOW = 0.15  # of a level of divergence: as far below it a run in regime 3 may be
VAGUE = 0.5  # of a reference level: 3 standard errors beyond this decide nothing
FEWEST_EPOCHS = 20

NAMES = {1: "convergence", 2: "chaotic equilibrium", 3: "divergence", None: "undecided"}


@dataclass(frozen=True)
class LateEpochs:
    """What is looked at: values of every epoch of the last half of a run."""

    first: int
    last: int
    loss: Floats
    error: Floats
    cosine: Floats
    eg: Floats
    ess: Floats


@dataclass(frozen=True)
class Verdict:
    """A regime (``None``: undecided) and what it rests on."""

    regime: int | None
    evidence: dict[str, Any]  # "reason" is a sentence; the rest numbers
    late: LateEpochs | None = field(default=None, repr=False, compare=False)  # what was looked at

    def __repr__(self) -> str:
        return f"<Verdict: {self.regime or '?'} {NAMES[self.regime]}, {self.evidence.get('reason', '')}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{esc(k)}</td><td>{esc(str(v))}</td></tr>" for k, v in self._numbers())
        return f"<p>{esc(repr(self).strip('<>'))}</p><table>{rows}</table>"

    def _numbers(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in self.evidence.items() if name != "reason"]

    def to_pandas(self) -> Any:
        """Give the evidence as a DataFrame of quantity and value. Needs pandas."""
        return frame([{"quantity": name, "value": value} for name, value in self.evidence.items()])

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss that was judged, with the levels it was compared with; returns matplotlib axes.

        UserError where the verdict was read from a file, which holds no series.
        """
        if self.late is None:
            raise UserError("this verdict has no series to draw; classify the run: classify(si.load(FOLDER)).plot()")
        levels = {"threshold of convergence": "threshold", "random directions": "random_loss"}
        known = {name: self.evidence.get(key, math.nan) for name, key in levels.items()}
        epochs = list(range(self.late.first, self.late.first + len(self.late.loss)))
        ax = draw_series({"online loss": (epochs, self.late.loss.tolist())}, ax)
        return draw_levels(ax, {name: value for name, value in known.items() if value == value})


def window(run: Run) -> LateEpochs:
    """Take the last half of the epochs of a run, from its online metrics."""
    epochs, loss = run.series("online", "total", "loss")
    keep = epochs > (epochs[-1] // 2 if len(epochs) else 0)

    def of(quantity: str) -> Floats:
        values = run.series("online", "total", quantity)[1]
        return values[keep] if len(values) == len(keep) else np.full(int(keep.sum()), math.nan)

    chosen = epochs[keep]
    first, last = (int(chosen[0]), int(chosen[-1])) if len(chosen) else (0, 0)
    return LateEpochs(first, last, loss[keep], of("error"), of("cosine"), of("eg"), of("ess"))


def classify(run: Run) -> Verdict:
    """Decide the regime of a run on the sphere, by the ``chance_error`` and ``constant_loss`` of its config.

    Works for runs in the whole space as well, where it describes the window only.
    """
    w = window(run)
    chance, constant = run.chance_error, run.constant_loss
    threshold = math.nan if constant is None else THRESHOLD * constant
    evidence: dict[str, Any] = {
        "window": [w.first, w.last],
        "threshold": threshold,
        "chance_error": chance,
        "horizon_epochs": run.last_epoch,
    }

    def verdict(regime: int | None, reason: str) -> Verdict:
        return Verdict(regime, {"reason": reason, **evidence}, w)

    if run.status == "diverged" or not np.all(np.isfinite(w.loss)):
        message = (run.result or {}).get("message") or "the loss is not finite"
        return verdict(None, f"the run produced NaN or infinity: {message}")
    if run.last_epoch < FEWEST_EPOCHS:
        return verdict(None, f"{run.last_epoch} epochs are too few to judge; at least {FEWEST_EPOCHS} are needed")
    log_loss = np.log(np.maximum(w.loss, 1e-300))
    log_eg = np.log(np.maximum(w.eg, 1e-300))
    level, error, cosine = mean(w.loss), mean(w.error), mean(w.cosine)
    loss_drift, eg_drift = drift(log_loss), drift(log_eg)
    rank, eg_rank = rank_correlation_with_time(w.loss), rank_correlation_with_time(w.eg)
    above = np.where(math.isnan(threshold), math.nan, w.loss > threshold)
    share, thirds = float(above.mean()), [float(part.mean()) for part in _thirds(above)]
    ends_above = float(above[-max(3, round(END * len(above))) :].mean()) > 0.5
    late = [_late_share(values) for values in (log_loss, log_eg)]
    first, _, last = (float(part.mean()) for part in _thirds(w.loss))
    random, present, limit = (_level(run, f"reference{kind}") for kind in ("", "_present", "_limit"))
    evidence |= {
        **_told("loss", level),
        "error": error.value,
        "cosine": cosine.value,
        "share_above_threshold": share,
        "share_above_threshold_by_third": thirds,
        "ends_above_threshold": ends_above,
        **_told("loss_drift", loss_drift),
        "loss_rank": rank,
        "loss_late_share_of_drift": late[0],
        "loss_last_third_to_first": last / first if first > 0 else math.nan,
        **_told("eg_drift", eg_drift),
        "eg_rank": eg_rank,
        "eg_late_share_of_drift": late[1],
        **_told("random_loss", random),
        **_told("random_loss_present_norms", present),
        **_told("limit_loss", limit),
    }
    at_chance = _guesses(level, error, chance, constant)
    if at_chance:
        if _falls(loss_drift, rank):
            fall = math.exp(loss_drift.value)
            return verdict(None, f"{at_chance}, but the loss still falls (x{fall:.2f}); train longer")
        limits = random, present, limit
        return verdict(*_at_chance(at_chance, level, cosine, correlated_from(memory_of(run.config)), *limits))
    if constant is None:
        return verdict(None, _missing(run))
    epochs, moved = f"epochs {w.first}-{w.last}", f"x{math.exp(loss_drift.value):.2f}"
    if share <= SHARE_CONVERGED:
        below = f"below {threshold:.2g} in {1 - share:.0%} of {epochs}"
        if ends_above:
            return verdict(None, f"thrown out at the end: loss {below} but not in the last ones; the 1/2 band")
        return verdict(1, f"loss {level.value:.2g} on average, {below}")
    falling = _falls(loss_drift, rank) and _falls(eg_drift, eg_rank)
    if falling and min(late) >= LATE_SHARE:
        with_it = f"and the effective gradient with it (x{math.exp(eg_drift.value):.2f})"
        return verdict(1, f"loss still falls ({moved} within {epochs}) {with_it}")
    if min(thirds) < SHARE_STATIONARY:
        parts = ", ".join(f"{part:.0%}" for part in thirds)
        where = f"above {threshold:.2g} in {parts} of the thirds of {epochs}"
        fell = loss_drift.value <= -max(FALL, SIGNIFICANT * loss_drift.error) or thirds[0] - thirds[2] >= GONE
        if fell and thirds[0] >= thirds[1] >= thirds[2]:
            return verdict(None, f"the loss falls below the threshold only now: it is {where}; train longer")
        return verdict(None, f"intermittent: the loss is {where}, the 1/2 band")
    near = 1 / MOST_STATIONARY <= last / first <= MOST_STATIONARY
    if not (
        abs(loss_drift.value) <= STATIONARY_DRIFT or (near and abs(loss_drift.value) <= SIGNIFICANT * loss_drift.error)
    ):
        how = "falls ever more slowly" if falling else "still moves"
        return verdict(None, f"the level {how}: {moved} within {epochs}; train longer")
    if _moves_steadily(loss_drift, rank, late[0]):
        return verdict(None, f"the level still moves, slowly and steadily: {moved} within {epochs}; train longer")
    wrong = "error not measured" if math.isnan(error.value) else f"error {error.value:.0%}"
    at = f"loss {level.value:.3g} +- {level.error:.1g} (drift {moved})"
    return verdict(2, f"stationary at {at}, above {threshold:.2g} in {share:.0%} of {epochs}, {wrong}")


def _told(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_se": estimate.error}


def _thirds(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Cut into thirds as :func:`drift` takes them; the middle one may be longer."""
    k = max(1, len(values) // 3)
    return values[:k], values[k:-k], values[-k:]


def _falls(change: Estimate, rank: float) -> bool:
    """Whether a logarithm falls: by enough, significantly, and steadily."""
    return change.value <= -FALL and change.value <= -SIGNIFICANT * change.error and rank <= FALL_RANK


def _moves_steadily(change: Estimate, rank: float, late: float) -> bool:
    """Whether a level goes one way all the time, however slowly; an equilibrium scatters."""
    least = max(STEADY_DRIFT, SIGNIFICANT * change.error)
    return abs(change.value) > least and abs(rank) >= -FALL_RANK and late >= LATE_SHARE


def _late_share(values: Floats) -> float:
    """Compute the share of the change from first to last third that comes after the middle one; NaN without one."""
    first, middle, last = (float(part.mean()) for part in _thirds(values))
    return (last - middle) / (last - first) if last != first else math.nan


def _level(run: Run, split: str) -> Estimate:
    """Average the loss of random directions; draws of one evaluation share the norms: evaluations are the sample."""
    series = [s.values for (kind, _, quantity), s in run.metrics.items() if (kind, quantity) == (split, "loss")]
    if not series:
        return UNKNOWN
    draws = np.stack(series)  # (directions, evaluations)
    return sample_mean(draws[:, 0] if draws.shape[1] == 1 else draws.mean(axis=0))


def _guesses(level: Estimate, error: Estimate, chance: float | None, constant: float | None) -> str:
    """Say why a run may be no better than a constant answer; empty where it is better, or nothing tells."""
    if chance is not None and not math.isnan(error.value):
        # of few images in two classes the error of guessing scatters by more than 5 %
        scatter = min(SIGNIFICANT * error.known_error, CHANCE_ACCURACY * (1 - chance))
        guessing = error.value >= chance - scatter or guesses(error.value, chance)
        return f"error {error.value:.0%} is chance" if guessing else ""
    if constant is None or level.value < constant - SIGNIFICANT * level.known_error:
        return ""
    unknown = "chance_error is not given" if chance is None else "the error was not measured"
    return f"{unknown} and loss {level.value:.3g} is not below that of a constant answer ({constant:.3g})"


def _missing(run: Run) -> str:
    """Say which of the two numbers that a verdict rests on a run does not have, and how to give it."""
    names = {
        "chance_error": "the error of the best constant answer, 1 - 1/C for C equally frequent classes",
        "constant_loss": "its loss, log C for cross-entropy",
    }
    missing = " and no ".join(f"{name} ({what})" for name, what in names.items() if getattr(run, name) is None)
    return (
        f"not judged: its config has no {missing}; give it to RunFolder where a Monitor measures the run, "
        'or add it to "config" in config.json'
    )


def correlated_from(memory: float) -> float:
    """Compute the cosine of consecutive iterates from which they are correlated by more than momentum.

    Without momentum :data:`CORRELATED`: that of a step of r = 3.2 times the radius, along no direction of before. Steps
    of that length whose directions have the cosine ``memory`` give (1 + r memory)/sqrt(1 + r^2 + 2 r memory).

    >>> round(correlated_from(0.0), 3), round(correlated_from(0.9), 3)
    (0.3, 0.941)
    """
    r = math.sqrt(1 / CORRELATED**2 - 1)
    return (1 + r * memory) / math.sqrt(1 + r**2 + 2 * r * memory)


def _at_chance(
    at_chance: str,
    level: Estimate,
    cosine: Estimate,
    most_cosine: float,
    random: Estimate,
    present: Estimate,
    limit: Estimate,
) -> tuple[int | None, str]:
    """Tell regime 3 from its onset, for a run no better than a constant answer; ``at_chance`` says so in words."""
    if math.isnan(cosine.value):
        return None, f"{at_chance}, but the cosine of consecutive iterates was not measured"
    if not abs(cosine.value) < most_cosine:
        return None, (
            f"{at_chance}, but consecutive iterates are correlated (cos {cosine.value:.2f}): "
            "onset of divergence, or a start that was never left"
        )
    if math.isnan(random.value):
        return None, f"{at_chance}, but the level of random directions was not measured"
    alike = "uncorrelated" if abs(cosine.value) < CORRELATED else "correlated by momentum alone"
    stated = f"{at_chance}, consecutive iterates are {alike} (cos {cosine.value:.2f}), loss {level.value:.3g}"
    directions = f"random directions ({random.value:.3g} +- {random.error:.1g})"
    if _vague(level, random):
        return None, f"{stated} +- {level.error:.1g}, but this and {directions} are too uncertain to compare"
    if not _below(level, random):
        return 3, f"{stated} is that of {directions} or worse"
    if not (math.isnan(present.value) or _vague(level, present) or _below(level, present)):
        return 3, (
            f"{stated} is that of random directions with the present norms ({present.value:.3g} +- {present.error:.1g})"
            f" or worse; at equal norms it would be {random.value:.3g}, but eps of the norm layers silences rows that "
            "became too small"
        )
    if not (math.isnan(limit.value) or _vague(level, limit) or _below(level, limit)):
        return 3, (
            f"{stated} is that of SGD in the limit of an infinite ELR ({limit.value:.3g} +- {limit.error:.1g}), whose "
            f"iterates, minus a gradient's direction, lie below {directions}"
        )
    return None, f"{stated} but is below the level of {directions}: onset of divergence"


def _errors(level: Estimate, reference: Estimate) -> float:
    """Compute the standard error of the difference; an unknown one counts as none."""
    return math.hypot(level.known_error, reference.known_error)


def _vague(level: Estimate, reference: Estimate) -> bool:
    """Whether the two are too uncertain to find one below the other."""
    return SIGNIFICANT * _errors(level, reference) > VAGUE * reference.value


def _below(level: Estimate, reference: Estimate) -> bool:
    """Whether a level is below a reference, significantly and by more than :data:`BELOW`."""
    return level.value < reference.value - max(SIGNIFICANT * _errors(level, reference), BELOW * reference.value)


Boundary = dict[str, Any]


def boundaries(points: Sequence[tuple[float, int, int | None]]) -> dict[str, Boundary]:
    """Find the boundaries between the regimes as intervals of the rate, from (rate, seed, regime).

    For one seed the interval 1/2 runs from the largest rate up to which every decided run is in regime 1 to the
    smallest rate from which on none is; 2/3 alike with regime 3. ``decided`` only if both sides were seen. Several
    seeds: the union of their intervals, decided if every seed's is.

    >>> boundaries([(1e-3, 0, 1), (1e-2, 0, 2), (1e-1, 0, 3)])["1/2"]
    {'low': 0.001, 'high': 0.01, 'decided': True}
    """
    decided = [
        sorted((rate, regime) for rate, s, regime in points if s == seed and regime is not None)
        for seed in sorted({seed for _, seed, _ in points})
    ]
    return {f"{below}/{below + 1}": _union([_boundary(runs, below) for runs in decided]) for below in (1, 2)}


def _boundary(runs: Sequence[tuple[float, int]], below: int) -> Boundary:
    """Find the boundary between the regimes ``below`` and ``below + 1`` of one seed."""
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
    lows, highs = ([b[end] for b in intervals if b[end] is not None] for end in ("low", "high"))
    return {
        "low": min(lows, default=None),
        "high": max(highs, default=None),
        "decided": bool(intervals) and all(b["decided"] for b in intervals),
    }


def describe(bounds: Mapping[str, Boundary]) -> str:
    """Say the map in one sentence."""
    parts = []
    for left in (1, 2):
        b = bounds[f"{left}/{left + 1}"]
        where = f"between {b['low']:.2g} and {b['high']:.2g}" if b["decided"] else "not decided on this grid"
        parts.append(f"{NAMES[left]} -> {NAMES[left + 1]} {where}")
    return "; ".join(parts)

"""Comparisons of the claims that go back to weights kept within periods; no claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleinv.analysis.periods import Periods, find_periods
from scaleinv.claims.periods_evidence import sign_test
from scaleinv.claims.registry import Sheet

if TYPE_CHECKING:  # they load torch
    from scaleinv.analysis.steps import Steps
    from scaleinv.landscape.agreement import Agreement


def late_in_b(run: Periods, epochs: Sequence[int], per_epoch: int, count: int) -> list[int]:
    """For the ``count`` longest phases B: the last epoch kept between 50 and 90 % of it. Later the break-down may have
    begun: its first steps are small.
    """
    found = []
    for period in sorted(run.periods, key=lambda p: p.b[0] - p.b[1]):
        begin, length = period.b[0], period.b[1] - period.b[0]
        inside = [epoch for epoch in epochs if 0.5 * length <= epoch * per_epoch - begin <= 0.9 * length]
        if inside:
            found.append(inside[-1])
    return found[:count]


def breaks_after(before: Steps, at: int, after: Steps) -> bool:
    """Does training break down once it goes on as ``after`` from step ``at`` of ``before``? By loss and effective
    gradient, with the definition for runs of fixed norm, whatever the norm does.
    """
    loss = np.concatenate([before.loss[:at], after.loss])
    eg = np.concatenate([before.eg[:at], after.eg])
    return any(event.step >= at for event in find_periods(loss=loss, eg=eg).destabilisations)


@dataclass(frozen=True)
class Pair:
    """From one checkpoint on the same batches: did the free run break down, did the one of fixed norm, and the mean
    loss of the last fifth of each.
    """

    free: bool
    fixed: bool
    free_loss: float
    fixed_loss: float


def break_downs(sheet: Sheet, pairs: Sequence[Pair]) -> None:
    """The free runs break down and the fixed ones do not: the sign test over the pairs that differ, at 5 %, undecided
    where it finds nothing either way; and the shares of runs, at least three quarters and at most one, with their
    binomial errors.
    """
    only_free = sum(pair.free and not pair.fixed for pair in pairs)
    only_fixed = sum(pair.fixed and not pair.free for pair in pairs)
    p, contrary = (sign_test(count, only_free + only_fixed) for count in (only_free, only_fixed))
    sheet.at_most("p of the sign test over pairs", p, 0.05, given=min(p, contrary) <= 0.05)
    for words, count, compare, bound in (
        ("free", sum(pair.free for pair in pairs), sheet.at_least, math.ceil(0.75 * len(pairs))),
        ("fixed", sum(pair.fixed for pair in pairs), sheet.at_most, math.floor(0.25 * len(pairs))),
    ):
        error = math.sqrt(count * (len(pairs) - count) / max(1, len(pairs)))  # binomial; draws that agree are sure
        compare(f"{words} runs that break down", count, bound, se=error)
    losses = [" ".join(f"{loss:.1g}" for loss in one) for one in zip(*((p.free_loss, p.fixed_loss) for p in pairs))]
    sheet.note(f"{len(pairs)} pairs; {only_free} break down only if free, {only_fixed} only if fixed")
    if losses:
        sheet.note(f"loss at the end, free: {losses[0]}; fixed: {losses[1]}")


def _log_error(values: Sequence[float], independent: int) -> float:
    """Standard error of the logarithm of the median of log-normal values, so many of them independent."""
    return math.sqrt(math.pi / 2 / independent) * float(np.std(np.log(values), ddof=1)) if len(values) > 1 else math.nan


def minima(run: Periods, loss: Mapping[int, float], epochs: Sequence[int], per_epoch: int) -> list[tuple[int, int]]:
    """For every period with two kept epochs in phase B: the one of lowest loss, and another of the same phase B as far
    from it as there is.
    """
    found = []
    for period in run.periods:
        inside = [e for e in epochs if period.b[0] <= e * per_epoch <= period.b[1] and e in loss]
        if len(inside) >= 2:
            best = min(inside, key=lambda e: loss[e])
            found.append((best, max(inside, key=lambda e: abs(e - best))))
    return found


def different_minima(sheet: Sheet, name: str, between: Agreement, within: Sequence[Agreement]) -> None:
    """Pairs of periods against pairs of epochs of one phase B: angle and equal predictions; then what pairs gain."""
    pairs = between.pairs
    angle, same = ([float(matrix[i, j]) for i, j in pairs] for matrix in (between.angle, between.equal))
    near_angle, near_same = (
        [float(matrix[0, 1]) for matrix in ms] for ms in zip(*((w.angle, w.equal) for w in within))
    )
    ratio = float(np.median(angle) / np.median(near_angle))
    # pairs share minima: as many are independent as there are minima
    error = math.hypot(_log_error(angle, len(between.error)), _log_error(near_angle, len(near_angle)))
    sheet.at_least(f"angle over that within a phase B, {name}", ratio, 2.0, log_se=error)
    less = float(np.mean(near_same) - np.mean(same))
    # pairs share test images and minima, so all of them together are worth one pair
    spread = math.sqrt(sum(np.mean(x) * (1 - np.mean(x)) for x in (same, near_same)) / between.images)
    sheet.at_least(f"equal predictions less than within a phase B by, {name}", less, 0.0, se=spread)
    gain, error = (float(np.mean([m[i, j] for i, j in pairs])) for m in (between.gain, between.gain_error))
    sheet.at_least(f"error of singles less that of pairs, {name}", gain, 0.0, se=error)
    sheet.note(
        f"{name}: {len(between.error)} minima, median angle {np.median(angle):.2f} rad (within a phase B "
        f"{np.median(near_angle):.2f}), {np.mean(same):.1%} equal predictions ({np.mean(near_same):.1%}), error "
        f"{between.error.mean():.2%} alone, {between.error.mean() - gain:.2%} in pairs (s.e. of the gain {error:.2%}), "
        f"{between.images} test images"
    )

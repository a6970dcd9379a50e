"""Comparisons that the claims about periods of networks share, from :class:`Periods` to a :class:`Sheet`; no claim.

All thresholds were set before the runs were made, with the definitions in ``analysis/periods``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scaleinv.analysis.periods import Periods, find_periods
from scaleinv.analysis.periods.interval import mean_interval
from scaleinv.analysis.statistics import mean
from scaleinv.errors import needs
from scaleinv.landscape.agreement import Agreement
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.draws import grid_error, median
from scaleinv.runfolder.steps import Steps
from scaleinv.studies.obtain import Request
from scaleinv.text import count as counted

with needs("lab"):
    from scipy.special import bdtrc


#: a mean interval times lr wd counts as constant within this factor (Lobacheva et al. 2021, Corollary 1)
CONSTANT = 1.6
FEWEST_EVENTS = 20


def periods_of(context: Context, requests: Sequence[Request]) -> list[Periods]:
    """Find or train the runs, and the periods of each."""
    return [find_periods(folder) for folder in context.folders(requests)]


def named_periods(context: Context, requests: Sequence[Request]) -> list[tuple[str, Request, Periods]]:
    """Find or train the runs: a name for each such as ``lr wd 0.001, seed 0``, its request and its periods."""
    names = [f"lr wd {product(request):.3g}, seed {request.seed}" for request in requests]
    return list(zip(names, requests, periods_of(context, requests)))


def by_product(context: Context, requests: Sequence[Request]) -> list[tuple[float, list[Periods]]]:
    """Find or train the runs, and the periods of each, by lr wd, ascending."""
    found: dict[float, list[Periods]] = {}
    for request, run in zip(requests, periods_of(context, requests)):
        found.setdefault(product(request), []).append(run)
    return sorted(found.items())


def product(request: Request) -> float:
    """Return lr wd of a run in the whole space."""
    assert request.lr is not None
    return request.lr * request.settings.weight_decay


@dataclass(frozen=True)
class Pooled:
    """Settled break-downs of one lr wd, all seeds together."""

    product: float
    events: int
    interval: float  # mean, in 1/(lr wd)
    error: float  # its standard error
    words: str
    half_rise: float  # half the mean log rise of rho^2
    share: float  # of 2 lr wd x steps that these rises carry
    elr: float  # median at the break-downs
    log_elr_error: float  # standard error of its logarithm

    @property
    def steps(self) -> float:
        """Return the mean interval in steps."""
        return self.interval / self.product


def pool(product: float, runs: Sequence[Periods]) -> Pooled:
    """Pool the intervals between neighbours of every run."""
    events = [[event for event in run.break_downs if event.settled] for run in runs]
    gaps = np.concatenate([np.diff([event.time for event in one]) for one in events])
    found, estimate = mean_interval(gaps.tolist()), mean(gaps)
    rises = np.array([event.log_rise for one in events for event in one])
    taken = sum(run.books.taken for run in runs)
    words = f"lr wd {product:.3g}: {found.mean:.3f} ({found.low:.2f}-{found.high:.2f})/(lr wd), CV {found.cv:.2f}"
    elrs = [event.elr for one in events for event in one]
    return Pooled(
        product=product,
        events=sum(map(len, events)),
        interval=found.mean,
        error=estimate.error,
        words=f"{words}, {sum(map(len, events))} events",
        half_rise=float(rises.mean()) / 2 if len(rises) else math.nan,
        share=float(rises.sum()) / taken if taken > 0 else math.nan,
        elr=float(np.median(elrs)) if elrs else math.nan,
        log_elr_error=median(np.log(elrs)).error,
    )


def constant_interval(sheet: Sheet, pooled: Sequence[Pooled]) -> None:
    """Judge that the interval times lr wd is constant, and the exponent of lr wd -1, both within a factor 1.6."""
    enough = True
    for one in pooled:
        enough &= sheet.needs(f"events at lr wd {one.product:.3g}", one.events, at_least=FEWEST_EVENTS)
        sheet.note(f"{one.words}, half the mean log rise {one.half_rise:.2f}, which carry {one.share:.0%} of the decay")
    known = [one for one in pooled if math.isfinite(one.error) and one.interval > 0]
    if len(known) < len(pooled):
        sheet.undecided("too few intervals at some lr wd")
        return
    high, low = max(known, key=lambda one: one.interval), min(known, key=lambda one: one.interval)
    ratio = high.interval / low.interval
    error = ratio * math.hypot(high.error / high.interval, low.error / low.interval)
    sheet.at_most("interval x lr wd, largest over least", ratio, CONSTANT, se=error, given=enough)
    x = np.log([one.product for one in known])
    y = np.log([one.interval for one in known])
    weights = (x - x.mean()) / float(((x - x.mean()) ** 2).sum())
    errors = np.array([one.error / one.interval for one in known])
    allowed = math.log(CONSTANT) / float(x.max() - x.min())
    slope, slope_error = float(weights @ y) - 1, float(np.sqrt(((weights * errors) ** 2).sum()))
    sheet.close("exponent of the interval in lr wd", slope, -1.0, abs=allowed, se=slope_error, given=enough)


def equal_intervals(sheet: Sheet, one: Pooled, other: Pooled, names: tuple[str, str]) -> None:
    """Judge that two settings of one lr wd have one interval (a factor 1.6) and break down at one ELR (a factor 2)."""
    enough = True
    for pooled, name in ((one, names[0]), (other, names[1])):
        enough &= sheet.needs(f"events, {name}", pooled.events, at_least=FEWEST_EVENTS)
        sheet.note(f"{name}: {pooled.words}")
    error = math.hypot(one.error / one.interval, other.error / other.interval)
    ratio = math.log(other.interval / one.interval)
    sheet.close("log ratio of the intervals", ratio, 0.0, abs=math.log(CONSTANT), se=error, given=enough)
    error, ratio = math.hypot(one.log_elr_error, other.log_elr_error), math.log(other.elr / one.elr)
    sheet.close("log ratio of the ELRs at break-down", ratio, 0.0, abs=math.log(2), se=error, given=enough)


def falling_steps(sheet: Sheet, pooled: Sequence[Pooled]) -> None:
    """Judge that every larger lr wd has a shorter mean interval in steps."""
    ordered = sorted(pooled, key=lambda one: one.product)
    for a, b in pairwise(ordered):
        error = math.hypot(a.error / a.interval, b.error / b.interval)
        name = f"log ratio of the interval in steps, lr wd {b.product:.3g} to {a.product:.3g}"
        sheet.at_most(name, math.log(b.steps / a.steps), 0.0, se=error)


def sign_test(positive: int, count: int) -> float:
    """Return the probability of at least ``positive`` heads in ``count`` throws of a fair coin.

    >>> sign_test(5, 5)
    0.03125
    """
    return float(bdtrc(positive - 1, count, 0.5)) if positive > 0 else 1.0


def leads(sheet: Sheet, runs: Sequence[Periods]) -> None:
    """Judge that the loss is half-way up (log) before the norm: sign test at 1 %, undecided where neither leads."""
    found = np.array([e.lead for run in runs for e in run.break_downs if e.complete and math.isfinite(e.lead)])
    decided = found[found != 0]
    if len(decided) < FEWEST_EVENTS:
        sheet.undecided(f"only {len(decided)} break-downs with a lead")
        return
    ahead = int((decided > 0).sum())
    quartiles = ", ".join(f"{q:g}" for q in np.percentile(found, (10, 25, 50, 75, 90)))
    behind = sign_test(len(decided) - ahead, len(decided))
    significant = sign_test(ahead, len(decided)) <= 0.01 or behind <= 0.01
    sheet.at_most("p of the sign test", sign_test(ahead, len(decided)), 0.01, given=significant)
    middle = median(found)
    sheet.at_least("median lead, steps", middle.value, 1.0, se=middle.error)
    sheet.note(f"the loss leads in {ahead} of {len(decided)}; lead at 10, 25, 50, 75, 90 %: {quartiles} steps")
    turned = [e.lead_minimum for run in runs for e in run.break_downs if math.isfinite(e.lead_minimum)]
    sheet.note(
        f"but the norm's minimum lies {-float(np.median(turned)):g} steps (median) before the loss is half-way up: one "
        "bad batch can turn the norm, half-way points are what is compared"
    )


def boundary_elr(sheet: Sheet, pooled: Sequence[Pooled], low: float, high: float, inside: int = 0) -> None:
    """Judge that the ELR at break-down is that of the boundary between regimes 1 and 2 on the sphere, within a factor
    2. Its error is that of the median and that of a boundary anywhere between two ELRs of the grid, or about the
    undecided ones between them (``inside``: their number).
    """
    middle = math.sqrt(low * high)
    sheet.note(f"boundary on the sphere between {low:g} and {high:g}")
    for one in pooled:
        name = f"log ELR at break-down over the boundary, lr wd {one.product:.3g}"
        error = math.hypot(one.log_elr_error, grid_error(low, high, inside))
        sheet.close(name, math.log(one.elr / middle), 0.0, abs=math.log(2), se=error)
        sheet.note(f"lr wd {one.product:.3g}: ELR {one.elr:.2g} (median of {one.events})")


def rates(run: Periods) -> tuple[float, float]:
    """Return lr and wd of a run in which they are constant."""
    assert run.log.lr is not None
    assert run.log.wd is not None
    return float(run.log.lr[0]), float(run.log.wd[0])


def trend(series: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the mean slope of the logarithms per item over the series, and its standard error between them."""
    slopes = [float(np.polyfit(np.arange(len(one)), np.log(one), 1)[0]) for one in series]
    return float(np.mean(slopes)), float(np.std(slopes, ddof=1) / math.sqrt(len(slopes)))


def warm_up(sheet: Sheet, runs: Sequence[Periods], count: int = 4, fewest: int = 5) -> None:
    """Judge that over the first ``count`` break-downs the critical ELR rises and the lowest loss falls: mean slopes of
    their logarithms over the seeds, against 0 at 2 s.e.
    """
    first = [run.break_downs[:count] for run in runs if len(run.break_downs) >= count]
    if len(first) < fewest:
        sheet.undecided(f"only {len(first)} of {len(runs)} runs have {count} break-downs")
        return
    elrs, lows = [[e.elr for e in one] for one in first], [[e.min_loss for e in one] for one in first]
    slope, error = trend(elrs)
    sheet.at_least("slope of log ELR at break-down per period", slope, 0.0, se=error)
    slope, error = trend(lows)
    sheet.at_most("slope of the log of the lowest loss per period", slope, 0.0, se=error)
    for name, values in (("ELR at break-down", elrs), ("lowest loss before it", lows)):
        means = np.exp(np.mean(np.log(values), axis=0))
        sheet.note(f"{name} of periods 1 to {count}: {', '.join(f'{v:.2g}' for v in means)} ({len(first)} seeds)")


def periodic(sheet: Sheet, *runs: Periods) -> None:
    """Judge that every run (seed) is periodic, and note what was seen; one too short for a break-down decides nothing.

    One run that is in equilibrium is one draw, and undecided: with weight normalization the same run was periodic on
    one CPU, with 57 % of the rises of the norm in break-downs, and in equilibrium on another. Two such runs fail.
    """
    names = ["verdict", *(f"verdict, seed {k}" for k in range(1, len(runs)))]
    for name, run in zip(names, runs):
        sheet.answer(name, run.verdict, "periodic", open=("undecided", "not yet"))
        sheet.note(run.reason)
        events = run.break_downs
        if events:
            factors = np.median([e.loss_factor for e in events]), np.median([e.eg_factor for e in events])
            sheet.note(
                f"{run.answer}; at {counted(len(events), 'break-down')} the loss rises {factors[0]:.3g}-fold, the "
                f"effective gradient {factors[1]:.3g}-fold (medians)"
            )
    sheet.draws(names)


def late_in_b(run: Periods, epochs: Sequence[int], per_epoch: int, count: int) -> list[int]:
    """Return the last epoch kept in 50 to 90 % of the ``count`` longest phases B: later a break-down may have begun."""
    found = []
    for period in sorted(run.periods, key=lambda p: p.b[0] - p.b[1]):
        begin, length = period.b[0], period.b[1] - period.b[0]
        inside = [epoch for epoch in epochs if 0.5 * length <= epoch * per_epoch - begin <= 0.9 * length]
        if inside:
            found.append(inside[-1])
    return found[:count]


def breaks_after(before: Steps, at: int, after: Steps) -> bool:
    """Say whether training breaks down once it continues as ``after`` from step ``at`` of ``before``, by loss and
    effective gradient, with the definition for runs of fixed norm, whatever the norm does.
    """
    loss = np.concatenate([before.loss[:at], after.loss])
    eg = np.concatenate([before.eg[:at], after.eg])
    return any(event.step >= at for event in find_periods(loss=loss, eg=eg).break_downs)


@dataclass(frozen=True)
class Pair:
    """What came of a checkpoint on the same batches, norm free and fixed: a break-down, mean loss of the last fifth."""

    free: bool
    fixed: bool
    free_loss: float
    fixed_loss: float


def break_downs(sheet: Sheet, pairs: Sequence[Pair]) -> None:
    """Judge that the free runs break down and the fixed ones do not: the sign test over the pairs that differ, at 5 %,
    undecided where it finds nothing either way; shares of at least 3/4 and at most 1/4, with binomial errors.
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
    """Return the standard error of the logarithm of the median of log-normal values, so many of them independent."""
    return math.sqrt(math.pi / 2 / independent) * float(np.std(np.log(values), ddof=1)) if len(values) > 1 else math.nan


def minima(run: Periods, loss: Mapping[int, float], epochs: Sequence[int], per_epoch: int) -> list[tuple[int, int]]:
    """Return, of every period with two kept epochs in phase B, that of lowest loss and the farthest from it there."""
    found = []
    for period in run.periods:
        inside = [e for e in epochs if period.b[0] <= e * per_epoch <= period.b[1] and e in loss]
        if len(inside) >= 2:
            best = min(inside, key=lambda e: loss[e])
            found.append((best, max(inside, key=lambda e: abs(e - best))))
    return found


def different_minima(sheet: Sheet, name: str, between: Agreement, within: Sequence[Agreement]) -> None:
    """Compare pairs of periods with pairs of epochs of one phase B: angle and equal predictions; what pairs gain."""
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

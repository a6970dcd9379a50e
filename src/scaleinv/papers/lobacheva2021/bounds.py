"""Claims of Lobacheva, Kodryan et al. 2021 on networks: norms in equilibrium, jumps and their times."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scaleinv.analysis.periods import Periods, bounds_of, envelope, time_to_jump
from scaleinv.analysis.periods.bounds import earlier
from scaleinv.analysis.statistics import Floats, mean
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.lobacheva2021 import runs
from scaleinv.papers.lobacheva2021.evidence import named_periods, periods_of, rates
from scaleinv.theory import lobacheva2021


def norm_interval_net(sheet: Sheet, context: Context) -> None:
    """Check ``norm-interval``."""
    for name, request, run in named_periods(context, [*runs.rates(context.scale), *runs.resting(context.scale)]):
        norm_interval(sheet, f"{request.settings.model}, {name}", run)


def equilibrium_net(sheet: Sheet, context: Context) -> None:
    """Check ``norm-at-equilibrium``."""
    for name, request, run in named_periods(context, [*runs.resting(context.scale), *runs.large(context.scale)]):
        balance(sheet, f"{request.settings.model}, {name}", run)
    (young,) = periods_of(context, [runs.small(context.scale)])
    off = abs(float(level_ratio(young, 0).mean()) - 1)
    sheet.at_least("departure of the mean in a run that is too young", off, 0.05, se=level_error(young, 0))
    for _, request, run in named_periods(context, runs.kept(context.scale)):
        ratio = level_ratio(run, int(np.searchsorted(run.log.step, run.settled_from)))
        name = f"rho^4 off its level by a factor with periods, seed {request.seed}"
        sheet.at_least(name, spread(ratio), NEAR_LEVEL, log_se=spread_error(ratio))
        sheet.note(f"with periods, seed {request.seed}, the mean alone is {ratio.mean():.3f} of the level")


def envelope_net(sheet: Sheet, context: Context) -> None:
    """Check ``jump-envelope``."""
    for name, _, run in named_periods(context, runs.rates(context.scale)):
        envelope_coverage(sheet, name, run)


def times_net(sheet: Sheet, context: Context) -> None:
    """Check ``jump-times``."""
    for name, _, run in named_periods(context, runs.rates(context.scale)):
        jump_times(sheet, name, run)


#: of the theorem's level: an equilibrium keeps rho^4 within it at 98 % of the steps
NEAR_LEVEL = 2.0


def norm_interval(sheet: Sheet, name: str, run: Periods) -> None:
    """Judge kappa l <= rho^2 <= kappa L in the second half of the settled part, l and L (percentiles 1 and 99) of its
    first half; a note says whether the theorem's condition holds.
    """
    log = run.log
    first = int(np.searchsorted(log.step, run.settled_from))
    half = (first + len(log)) // 2
    assert log.rho_sq is not None
    lr, wd = rates(run)
    bounds = bounds_of(log, first, half)
    low, high = (float(lobacheva2021.resting_rho_sq(end, lr, wd)) for end in (bounds.low, bounds.high))
    rho_sq = log.rho_sq[half:]
    outside = mean(((rho_sq < low) | (rho_sq > high)).astype(np.float64))
    sheet.at_most(f"share of steps outside, {name}", outside.value, 0.0, se=outside.error)
    holds = bool(lobacheva2021.decay_is_slow(bounds.low, bounds.high, lr, wd))
    extreme = bool(lobacheva2021.decay_is_slow(bounds.least, bounds.largest, lr, wd))
    band = float(np.ptp(np.log(rho_sq))) / math.log(high / low)
    words = "holds" if extreme else "holds with the percentiles, not with the extremes" if holds else "fails"
    sheet.note(f"{name}: condition 2 lr wd L <= l {words}; rho^2 fills {band:.0%} of the interval (log)")


def level_ratio(run: Periods, first: int) -> Floats:
    """Return rho^4 / (lr mean(eg^2) / (2 wd)) from row ``first`` on, shape (n,)."""
    log = run.log
    assert log.rho_sq is not None
    assert log.eg is not None
    lr, wd = rates(run)
    level = float(lobacheva2021.resting_rho_sq(1.0, lr, wd)) ** 2 * float(np.mean(log.eg[first:] ** 2))
    return np.asarray(log.rho_sq[first:] ** 2 / level)


def level_error(run: Periods, first: int) -> float:
    """Return the s.e. of the mean of :func:`level_ratio`, from how it wanders against eg^2, whose mean is its level."""
    assert run.log.eg is not None
    eg_sq = run.log.eg[first:] ** 2
    return mean(level_ratio(run, first) - eg_sq / float(np.mean(eg_sq))).error


def balance(sheet: Sheet, name: str, run: Periods) -> None:
    """Judge that the mean of rho^4 is lr mean(eg^2) / (2 wd) to 5 %, and that rho^4 stays within a factor 2 of it."""
    first = int(np.searchsorted(run.log.step, run.settled_from))
    ratio = level_ratio(run, first)
    orders, drift = exact_balance(run, first)
    sheet.note(f"{name}: all orders in lr wd give {orders:.3f} of the level, the change since the burn-in {drift:+.3f}")
    sheet.close(f"mean rho^4 over its level, {name}", float(ratio.mean()), 1.0, rel=0.05, se=level_error(run, first))
    error = spread_error(ratio)
    sheet.at_most(
        f"rho^4 off its level by a factor (98 % of the steps), {name}", spread(ratio), NEAR_LEVEL, log_se=error
    )


def exact_balance(run: Periods, first: int) -> tuple[float, float]:
    """Return what the mean of rho^4 must be over its level, by the recursion: if stationary, and what the change
    between the first and the last of n rows adds.

    rho'^2 = c rho^2 + lr^2 eg^2 / rho^2, c = (1 - lr wd)^2, squared and averaged, is
    (1 - c^2) mean(rho^4) = 2 c lr^2 mean(eg^2) + lr^4 mean(eg^4 / rho^4) + (rho_first^4 - rho_last^4) / n.
    """
    log = run.log
    assert log.rho_sq is not None
    assert log.eg is not None
    lr, wd = rates(run)
    c = (1 - lr * wd) ** 2
    eg_sq, rho_sq = log.eg[first:] ** 2, log.rho_sq[first:]
    balanced = 2 * c * lr**2 * np.mean(eg_sq) + lr**4 * np.mean((eg_sq / log.rho_sq[first:]) ** 2)
    level = float(lobacheva2021.resting_rho_sq(1.0, lr, wd)) ** 2 * np.mean(eg_sq)
    change = (rho_sq[0] ** 2 - rho_sq[-1] ** 2) / len(rho_sq)
    return float(balanced / (1 - c**2) / level), float(change / (1 - c**2) / level)


def spread(ratio: Floats) -> float:
    """Return the factor within which 98 % of the ratios lie around 1."""
    low, high = np.percentile(ratio, (1, 99))
    return float(max(high, 1 / low))


def spread_error(ratio: Floats) -> float:
    """Return the standard error of the logarithm of :func:`spread`, from the scatter of the four quarters of the
    series; NaN for fewer than two values a quarter.
    """
    if len(ratio) < 8:
        return math.nan
    return float(np.std([math.log(spread(part)) for part in np.array_split(ratio, 4)], ddof=1)) / 2


def envelope_coverage(sheet: Sheet, name: str, run: Periods) -> None:
    """Judge that 95 % of 1 - cos in phase B is within what l and L (percentiles 1, 99) of the period before allow."""
    deeper: dict[bool, list[int]] = {True: [0, 0], False: [0, 0]}  # inside, steps
    above = inside_start = 0
    shares: list[tuple[float, int]] = []  # of every phase B: inside, steps
    for k in range(1, len(run.periods)):
        before, period = run.periods[k - 1 : k + 1]
        known = [earlier(run.log, run.periods, k, since) for since in ("before", "start")]
        last, all_before = (None if one is None else envelope(run.log, *period.b, one) for one in known)
        if last is None or all_before is None or not len(last.step):
            continue
        inside = (last.distance >= last.low) & (last.distance <= last.high)
        counts = deeper[period.min_loss < before.min_loss]
        counts[0] += int(inside.sum())
        counts[1] += len(last.step)
        shares.append((float(inside.mean()), len(last.step)))
        above += int((last.distance > last.high).sum())
        inside_start += round(all_before.inside * len(last.step))
    inside_all, count = (sum(column) for column in zip(*deeper.values()))
    if not count:
        sheet.undecided(f"{name} has no two periods in a row")
        return
    sheet.at_least(f"share within the envelope, {name}", inside_all / count, 0.95, se=clustered_error(shares))
    split = [f"{a / n:.1%}" if n else "no step" for a, n in (deeper[True], deeper[False])]
    sheet.note(
        f"{name}: {1 - (inside_all + above) / count:.1%} below the lower end, {above / count:.1%} above the upper; "
        f"inside {split[0]} in periods that reach a lower loss than the one before, {split[1]} in the others; with l "
        f"and L of all periods before {inside_start / count:.1%}"
    )


def clustered_error(shares: Sequence[tuple[float, float]]) -> float:
    """Return the standard error of a share of steps, from (share, steps) of every phase B: the steps of one hang
    together, so that phases are what was drawn. NaN for fewer than two.
    """
    if len(shares) < 2:
        return math.nan
    share, steps = np.array(shares).T
    off = steps * (share - np.average(share, weights=steps))
    return float(np.sqrt(len(shares) / (len(shares) - 1) * np.sum(off**2)) / steps.sum())


def jump_times(sheet: Sheet, name: str, run: Periods) -> None:
    """Judge that no jump comes before t_min (where it is above 0: none comes before that) and one by t_max in 95 % of
    the steps of phase B, l and L of the period before.
    """
    known = [p for p in run.predictions if math.isfinite(p.holds_min)]
    if not known:
        sheet.undecided(f"{name}: no prediction can be made")
        return
    weights = [len(p.step) for p in known]
    held = float(np.average([p.holds_min for p in known], weights=weights))
    empty = float(np.average([p.empty for p in known], weights=weights))
    if empty < 1:
        share = (held - empty) / (1 - empty)
        # of every phase B: the share that holds of the steps at which t_min is above 0, and how many these are
        said = [(p.holds_min - p.empty, (1 - p.empty) * n) for p, n in zip(known, weights)]
        error = clustered_error([(holds * n / of, of) for (holds, of), n in zip(said, weights) if of > 0])
        sheet.at_least(f"t_min holds where it is above 0, {name}", share, 0.95, se=error)
    else:
        sheet.undecided(f"{name}: t_min is 0 at every step, so it is not tested")
    late = [p for p in known if math.isfinite(p.holds_max)]
    if not late:
        sheet.undecided(f"{name}: t_max's conditions hold nowhere, so it is not tested")
    else:
        by_phase = [(p.holds_max, len(p.step)) for p in late]
        held = float(np.average([share for share, _ in by_phase], weights=[n for _, n in by_phase]))
        sheet.at_least(f"t_max holds, {name}", held, 0.95, se=clustered_error(by_phase))
    sheet.note(f"{name}: t_min is 0 and says nothing in {empty:.0%} of the steps{with_extremes(run)}")


def with_extremes(run: Periods) -> str:
    """Say how t_min fares with the extremes of eg in place of the percentiles."""
    held = empty = count = 0
    for one in run.predictions:
        widest = replace(one.bounds, low=one.bounds.least, high=one.bounds.largest)
        first, last = int(one.step[0]), int(one.step[-1]) + 1
        t_min, _, observed = time_to_jump(run.log, first, last, widest, one.delta)
        known = np.isfinite(t_min) & np.isfinite(observed)
        held += int((t_min[known] - 1 <= observed[known]).sum())
        empty += int((t_min[known] == 0).sum())
        count += int(known.sum())
    if not count:
        return ""
    return f"; with the extremes of eg t_min holds in {held / count:.1%} and is 0 in {empty / count:.0%}"

"""Conventional training seen through the regimes (Kodryan et al. 2022)."""

from collections.abc import Mapping, Sequence

from scaleinv.analysis.regimes import classify
from scaleinv.analysis.schedules import compare_schedules, errors_by_seed
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import runs_conventional as conventional
from scaleinv.studies.obtain import Request

#: points of test error that count as "almost no" cost
ALMOST = 1.0
#: how far above the boundary 1/2 a start may be and still be "near" it
NEAR = 4.0
SEEDS = (0, 1, 2, 3, 4, 5)
#: errors of 360 test images come in steps of 0.28 points, so the price needs more seeds
PAIR_SEEDS = tuple(range(8))


def frozen_head(sheet: Sheet, context: Context) -> None:
    """Check ``frozen-head``."""
    judge_pair(sheet, errors(context, conventional.pair(context.scale, PAIR_SEEDS)))


def errors(context: Context, requests: Mapping[str, Sequence[Request]]) -> dict[str, dict[int, float]]:
    """Return the final test errors by name and seed; train what is missing."""
    return errors_by_seed({name: context.runs(of) for name, of in requests.items()})


def judge_pair(sheet: Sheet, table: Mapping[str, Mapping[int, float]]) -> None:
    """Demand at most :data:`ALMOST` points more test error, with the t interval over seeds (half of it stands for 2
    s.e.), each network at the rate that is best for it.
    """
    found = compare_schedules(table)
    pair = found.pair(*best_rates(table))
    half = 100 * (pair.interval.high - pair.interval.low) / 2
    sheet.at_most("test error, scale-invariant - standard, points", 100 * pair.difference.value, ALMOST, se=half / 2)
    means = ", ".join(f"{place.name} {100 * place.error.value:.2f} %" for place in found.ranking)
    sheet.note(
        f"{means}; 95 % interval of the difference {100 * pair.interval.low:+.2f} to {100 * pair.interval.high:+.2f} "
        f"points over {pair.seeds} seeds"
    )


def best_rates(table: Mapping[str, Mapping[int, float]]) -> tuple[str, str]:
    """Return the names of the scale-invariant network and of the standard one with the lowest mean error."""

    def best(variant: str) -> str:
        names = [name for name in table if name.startswith(variant)]
        return min(names, key=lambda name: sum(table[name].values()) / len(table[name]))

    return best("si"), best("standard")


def schedules(sheet: Sheet, context: Context) -> None:
    """Check ``schedules``."""
    requests = conventional.schedules(context.scale, SEEDS)
    table = errors(context, requests)
    regimes = {}
    for name, of in requests.items():
        if name.startswith("constant"):
            regimes[start(name)] = classify(context.runs(of[:1])[0]).regime
    judge_schedules(sheet, table, regimes)


def judge_schedules(
    sheet: Sheet, table: Mapping[str, Mapping[int, float]], regimes: Mapping[float, int | None]
) -> None:
    """Judge the schedules. ``table``: errors by schedule and seed; ``regimes``: of the constant ELRs.

    Holds: the best schedule is of the kind claimed, and every constant one is beaten by one of that kind. Fails: one of
    another kind beats all of them. Else undecided.
    """
    found = compare_schedules(table)
    first = max((elr for elr, regime in regimes.items() if regime != 2 and elr < min_two(regimes)), default=None)
    near = {elr for elr, regime in regimes.items() if regime == 2 and elr <= NEAR * (first or min_two(regimes))}
    claimed = [name for name in table if start(name) in near and not name.startswith("constant")]
    others = [name for name in table if name not in claimed]
    best = found.ranking[0]
    sheet.note(
        "regime of the constant ELRs "
        + ", ".join(f"{elr:g}: {regime or 'undecided'}" for elr, regime in regimes.items())
        + "; test error "
        + ", ".join(f"{p.name} {100 * p.error.value:.2f}" for p in found.ranking)
        + " %"
    )
    if not claimed:
        sheet.undecided("no start lies in regime 2 near the boundary")
        return
    beaten = {other: [name for name in claimed if found.pair(name, other).better == name] for other in others}
    conquered = [o for o in others if all(found.pair(name, o).better == o for name in claimed)]
    sheet.true("schedules of another kind that beat every one of the kind claimed", conquered, [])
    stays = [o for o in others if o.startswith("constant")]
    open_ = [o for o in stays if not beaten[o]]
    if best.name not in claimed:
        sheet.undecided(f"the best is {best.name}, not to be told from {', '.join(best.not_distinguishable) or 'none'}")
    elif open_:
        sheet.undecided(f"{best.name} is best, but not to be told from {', '.join(open_)}")


def start(name: str) -> float:
    """Read the ELR from a name such as ``cosine from 0.004``."""
    return float(name.rpartition(" ")[2])


def min_two(regimes: Mapping[float, int | None]) -> float:
    """Return the smallest ELR of regime 2; infinity where there is none."""
    return min((elr for elr, regime in regimes.items() if regime == 2), default=float("inf"))

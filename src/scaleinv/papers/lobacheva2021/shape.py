"""Claims of Lobacheva, Kodryan et al. 2021 about what a period looks like: its phases, how regular, under schedules.

Definitions are those of ``analysis/periods``. What was changed after a first look is told in ``catalogue.ini``.
"""

import math
from dataclasses import replace

import numpy as np

from scaleinv.analysis.periods import Period, Periods
from scaleinv.analysis.periods.bounds import cosine_distance
from scaleinv.analysis.statistics import Estimate, Floats
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.draws import median, share_error
from scaleinv.papers.lobacheva2021 import evidence, runs
from scaleinv.studies.obtain import Request

#: share of the periods in which what the paper says of a phase has to be seen
MOST = 0.75
#: rows of a phase B below which its end says nothing, and fewest periods at one lr wd
LONG, FEWEST = 30, 10


def scatter_of_intervals(gaps: Floats) -> Estimate:
    """Estimate the coefficient of variation of intervals, with its jackknife error; 1 is that of events by chance.

    >>> scatter_of_intervals(np.array([2.0, 2.0, 2.0, 2.0]))
    Estimate(value=0.0, error=0.0)
    """
    n = len(gaps)
    if n < 3:
        return Estimate(math.nan, math.nan)

    def cv(x: Floats) -> float:
        return float(x.std(ddof=1) / x.mean())

    without = np.array([cv(np.delete(gaps, i)) for i in range(n)])
    return Estimate(cv(gaps), math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum())))


def regular(sheet: Sheet, context: Context) -> None:
    """Check ``regular-periods``."""
    found: list[Estimate] = []
    for product, several in evidence.by_product(context, runs.rates(context.scale)):
        times = [[event.time for event in run.break_downs if event.settled] for run in several]
        gaps = np.concatenate([np.diff(one) for one in times])
        one = scatter_of_intervals(gaps)
        if math.isfinite(one.error):
            found.append(one)
        sheet.note(f"lr wd {product:.3g}: CV {one.value:.2f} (s.e. {one.error:.2f}) of {len(gaps)} intervals")
    enough = sheet.needs("values of lr wd with intervals", len(found), at_least=3)
    mean = float(np.mean([one.value for one in found])) if found else math.nan
    error = math.sqrt(sum(one.error**2 for one in found)) / len(found) if found else math.nan
    sheet.at_most("CV of the intervals, mean over lr wd", mean, 1.0, se=error, given=enough)


#: what the paper says of the phases, and of which period each is true
STATEMENTS = (
    "A: the loss falls",
    "B: its loss is below that of A",
    "B: its gradients are below those of A",
    "C: the gradients jump above all of B",
    "after C: the loss is below that of C again, at an ELR below that of the break-down",
)


def statements(run: Periods, period: Period) -> tuple[bool, ...] | None:
    """Say which of :data:`STATEMENTS` a period shows; None where a phase has too few rows to tell."""
    log = run.log
    assert log.eg is not None
    assert log.rho_sq is not None
    a, b, c = (slice(*np.searchsorted(log.step, span).tolist()) for span in (period.a, period.b, period.c))
    if min(one.stop - one.start for one in (a, b)) < 5 or c.stop <= c.start:
        return None
    fifth = max(1, (a.stop - a.start) // 5)
    first, last = (
        float(np.median(log.loss[one])) for one in (slice(a.start, a.start + fifth), slice(a.stop - fifth, a.stop))
    )
    after = slice(c.stop, min(c.stop + b.stop - b.start, len(log.step)))  # as long as the B before
    if after.stop - after.start < 5:
        return None
    return (
        last < first,
        float(np.median(log.loss[b])) < float(np.median(log.loss[a])),
        float(np.median(log.eg[b])) < float(np.median(log.eg[a])),
        float(log.eg[c].max()) > float(np.percentile(log.eg[b], 99)),
        float(np.median(log.loss[after])) < float(np.median(log.loss[c]))
        and float(np.median(log.rho_sq[after])) > float(log.rho_sq[b][-1]),
    )


def phases(sheet: Sheet, context: Context) -> None:
    """Check ``phases-of-a-period``."""
    for k, (product, several) in enumerate(evidence.by_product(context, runs.rates(context.scale))):
        seen = [
            one
            for run in several
            for period in run.periods
            if period.settled and (one := statements(run, period)) is not None
        ]
        counts = [sum(shown) for shown in zip(*seen)]
        told = "; ".join(f"{name} in {count}" for name, count in zip(STATEMENTS, counts))
        sheet.note(f"lr wd {product:.3g}, {len(seen)} periods: {told or 'none is long enough'}")
        if k == 0:  # the nearest to the paper's; at larger ones a phase has a few steps
            enough = sheet.needs(f"periods at lr wd {product:.3g}", len(seen), at_least=FEWEST)
            for name, count in zip(STATEMENTS, counts):
                error = share_error(count, len(seen))
                sheet.at_least(f"{name}, share of the periods", count / len(seen), MOST, se=error, given=enough)


def growth_of_turns(run: Periods, period: Period) -> float | None:
    """Measure log of the median 1 - cos over the last tenth of phase B less that over its middle; None: B is short."""
    distance = cosine_distance(run.log)
    assert distance is not None
    first, last = np.searchsorted(run.log.step, period.b).tolist()
    length = last - first
    if length < LONG:
        return None
    end, middle = distance[last - length // 10 : last], distance[first + 2 * length // 5 : first + 3 * length // 5]
    return float(np.log(np.median(end) / np.median(middle)))


def growth_in_b(sheet: Sheet, context: Context) -> None:
    """Check ``growth-in-phase-b``."""
    every: list[float] = []
    for product, several in evidence.by_product(context, runs.rates(context.scale)):
        found = [
            growth
            for run in several
            for period in run.periods
            if period.settled and (growth := growth_of_turns(run, period)) is not None
        ]
        every += found
        middle = median(np.array(found))
        grew = sum(one > 0 for one in found)
        typical = f"x{math.exp(middle.value):.2g} in the median (s.e. of the log {middle.error:.2g})"
        sheet.note(f"lr wd {product:.3g}: {typical}, grows in {grew} of {len(found)} periods")
    grew = sum(one > 0 for one in every)
    enough = sheet.needs("periods with a long phase B", len(every), at_least=4 * FEWEST)
    share = grew / len(every) if every else math.nan
    sheet.at_least(
        "share of the periods in which 1 - cos grows", share, 0.5, se=share_error(grew, len(every)), given=enough
    )


#: schedules of the learning rate: after the drop periods have to go on, or may not
GENTLE, AGGRESSIVE = "step:0.5@0.5", "step:0.1@0.15,0.3"


def scheduled(context: Context, schedule: str) -> list[Request]:
    """Request the backbone's middle rate, each seed, with a schedule and three times its length."""
    plain = [runs.rate_request(context.scale, runs.MIDDLE, seed) for seed in runs.SEEDS]
    return [
        replace(one, settings=replace(one.settings, schedule=schedule, steps=3 * (one.settings.steps or 0)))
        for one in plain
    ]


def under_schedules(sheet: Sheet, context: Context) -> None:
    """Check ``periods-under-schedules``."""
    for words, schedule, drop, wanted in (("gentle", GENTLE, 0.5, True), ("aggressive", AGGRESSIVE, 0.3, False)):
        requests, after = scheduled(context, schedule), []
        for request, run in zip(requests, evidence.periods_of(context, requests)):
            at = drop * (request.settings.steps or 0)
            events = [event.step for event in run.break_downs]
            after.append(sum(step > at for step in events))
            sheet.note(f"{schedule}, seed {request.seed}: {len(events)} break-downs, {after[-1]} after the last drop")
        meaning = "at least 2 break-downs after the drop" if wanted else "none after the last drop"
        sheet.every(f"{words}: {meaning}", [count >= 2 if wanted else count == 0 for count in after])

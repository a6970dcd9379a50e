"""Claims of Lobacheva, Kodryan et al. 2021 on networks: how often training breaks down, and when it does not."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.analysis.periods import Periods
from scaleinv.papers.claim import Context, Result, Sheet, claim
from scaleinv.papers.lobacheva2021 import runs as runs
from scaleinv.papers.lobacheva2021.evidence import (
    Pooled,
    constant_interval,
    equal_intervals,
    falling_steps,
    periods_of,
    pool,
    product,
)
from scaleinv.studies.obtain import Request

PAPER = "Lobacheva et al. 2021"


def backbone(context: Context) -> list[Pooled]:
    """The runs over a factor 8 of lr wd, seeds together, ascending."""

    return pooled(context, runs.rates(context.scale))


def pooled(context: Context, requests: Sequence[Request]) -> list[Pooled]:
    """One entry for each lr wd among the requests, ascending."""
    found = periods_of(context, requests)
    products = [product(request) for request in requests]
    return [
        pool(one, [run for run, its in zip(found, products) if its == one]) for one in sorted(dict.fromkeys(products))
    ]


@claim(
    "11-interval",
    paper=PAPER,
    place="Corollary 1, Fig. 3",
    statement="On a net the mean interval between break-downs times lr wd is constant.",
    scales={"digits": 150.0, "mnist": 7600.0, "cifar-small": 13000.0},
)
def interval(context: Context) -> Result:
    """lr over a factor 8 at one weight decay, two seeds, at least 20 settled break-downs each: within a factor 1.6, the
    exponent too; 2 s.e. have to stay inside. Beside it what bookkeeping alone says.
    """
    sheet = Sheet()
    constant_interval(sheet, backbone(context))
    return sheet.result()


@claim(
    "11-equal-product",
    paper=PAPER,
    place="Corollary 1",
    statement="Equal lr wd with lr ten times apart: equal intervals, and break-downs at one effective learning rate.",
    scales={"digits": 2.0, "mnist": 1000.0, "cifar-small": 1000.0},
)
def equal_product(context: Context) -> Result:
    """Two seeds each; the mean intervals within a factor 1.6 (2 s.e. inside), the median ELRs within 2."""

    sheet = Sheet()
    there, other = runs.same_product(context.scale)
    (one,), (two,) = pooled(context, there), pooled(context, other)
    equal_intervals(sheet, one, two, (f"lr {there[0].lr:g}", f"lr {other[0].lr:g}"))
    return sheet.result()


@claim(
    "11-no-periods",
    paper=PAPER,
    place="Section 5 (ablation), Fig. 3",
    statement="No break-downs where the norm is fixed, none at a large lr wd: both are in equilibrium.",
    scales={"digits": 20.0, "mnist": 700.0, "cifar-small": 700.0},
)
def no_periods(context: Context) -> Result:
    """Fixed norms in regime 2 and in regime 1, judged by the loss; two seeds of a lr wd a hundred times the least."""

    sheet = Sheet()
    for request, run in zip(*_found(context, runs.fixed_norm(context.scale))):
        name = "as initialised" if request.settings.norm is None else f"{request.settings.norm:g}"
        words, count = f"break-downs of the loss, norm fixed {name}", len(run.destabilisations)
        # one or two are not yet periods, nor are they none
        sheet.true(words, count, 0, given=run.verdict in ("periodic", "equilibrium"))
    names = []
    for request, run in zip(*_found(context, runs.large(context.scale))):
        names.append(f"verdict at lr wd {product(request):.3g}, seed {request.seed}")
        sheet.answer(names[-1], run.verdict, "equilibrium", open=("undecided", "not yet"))
        sheet.note(f"lr wd {product(request):.3g}: {run.reason}")
    sheet.draws(names)
    return sheet.result()


@claim(
    "periods-to-equilibrium",
    paper=PAPER,
    place="Fig. 3",
    statement="Larger lr wd, shorter periods, and beyond a point equilibrium; a small lr has not broken down yet.",
    scales={"digits": 12.0, "mnist": 200.0, "cifar-small": 200.0},
)
def to_equilibrium(context: Context) -> Result:
    """Every doubling of lr wd shortens the mean interval in steps (2 s.e.); one lr far above, one far below."""

    sheet = Sheet()
    falling_steps(sheet, backbone(context))
    names = []
    for request, run in zip(*_found(context, runs.large(context.scale))):
        names.append(f"verdict at lr {request.lr:g}, seed {request.seed}")
        sheet.answer(names[-1], run.verdict, "equilibrium", open=("undecided", "not yet"))
    sheet.draws(names)
    small = runs.small(context.scale)
    (run,) = periods_of(context, [small])
    name = f"verdict at lr {small.lr:g}"
    sheet.answer(name, run.verdict, "not yet")
    sheet.draws([name])
    return sheet.result()


def _found(context: Context, requests: list[Request]) -> tuple[list[Request], list[Periods]]:
    return requests, periods_of(context, requests)

"""Claims of Lobacheva, Kodryan et al. 2021 on networks: how often training breaks down, and when it does not."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.analysis.periods import Periods
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
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


def interval(sheet: Sheet, context: Context) -> None:
    """Check ``constant-interval``."""
    constant_interval(sheet, backbone(context))


def equal_product(sheet: Sheet, context: Context) -> None:
    """Check ``equal-product``."""
    there, other = runs.same_product(context.scale)
    (one,), (two,) = pooled(context, there), pooled(context, other)
    equal_intervals(sheet, one, two, (f"lr {there[0].lr:g}", f"lr {other[0].lr:g}"))


def no_periods(sheet: Sheet, context: Context) -> None:
    """Check ``no-periods-at-fixed-norm``."""
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


def to_equilibrium(sheet: Sheet, context: Context) -> None:
    """Check ``periods-to-equilibrium``."""
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


def _found(context: Context, requests: list[Request]) -> tuple[list[Request], list[Periods]]:
    return requests, periods_of(context, requests)

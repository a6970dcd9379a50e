"""Claims of Lobacheva, Kodryan et al. 2021 on networks: norms in equilibrium, jumps and their times."""

from __future__ import annotations

import numpy as np

from scaleinv.claims.bounds_evidence import (
    NEAR_LEVEL,
    balance,
    envelope_coverage,
    jump_times,
    level_error,
    level_ratio,
    norm_interval,
    spread,
    spread_error,
)
from scaleinv.claims.periods_evidence import periods_of, product
from scaleinv.claims.registry import Context, Result, Sheet, claim

PAPER = "Lobacheva et al. 2021"


@claim(
    "12-norm-interval-net",
    paper=PAPER,
    place="Theorem 1",
    statement="On nets kappa l <= rho^2 <= kappa L after burn-in, with periods as in equilibrium.",
    scales={"digits": 19.0, "mnist": 200.0, "cifar-small": 200.0},
)
def norm_interval_net(context: Context) -> Result:
    """l and L (percentiles 1 and 99) of the first half of the settled part bound rho^2 in its second half, no step
    outside; and whether the theorem's condition holds on each run.
    """
    from scaleinv.lab.experiments import periods as runs

    sheet = Sheet()
    requests = [*runs.rates(context.scale), *runs.resting(context.scale)]
    for request, run in zip(requests, periods_of(context, requests)):
        network = request.settings.model
        norm_interval(sheet, f"{network}, lr wd {product(request):.3g}, seed {request.seed}", run)
    return sheet.result()


@claim(
    "12-equilibrium-net",
    paper=PAPER,
    place="Theorem 1, edge case of constant eg",
    statement="In equilibrium rho^4 = lr mean(eg^2) / (2 wd) at every time, not before it and not within periods.",
    scales={"digits": 6.0, "mnist": 20.0, "cifar-small": 20.0},
)
def equilibrium_net(context: Context) -> Result:
    """Two networks in equilibrium, two seeds: the mean to 5 %, every time within a factor 2. A run too young for it
    fails the first, a periodic one the second.
    """
    from scaleinv.lab.experiments import periods as runs

    sheet = Sheet()
    requests = [*runs.resting(context.scale), *runs.large(context.scale)]
    for request, run in zip(requests, periods_of(context, requests)):
        balance(sheet, f"{request.settings.model}, lr wd {product(request):.3g}, seed {request.seed}", run)
    (young,) = periods_of(context, [runs.small(context.scale)])
    off = abs(float(level_ratio(young, 0).mean()) - 1)
    sheet.at_least("departure of the mean in a run that is too young", off, 0.05, se=level_error(young, 0))
    for request, run in zip(runs.kept(context.scale), periods_of(context, runs.kept(context.scale))):
        ratio = level_ratio(run, int(np.searchsorted(run.log.step, run.settled_from)))
        name = f"rho^4 off its level by a factor with periods, seed {request.seed}"
        sheet.at_least(name, spread(ratio), NEAR_LEVEL, log_se=spread_error(ratio))
        sheet.note(f"with periods, seed {request.seed}, the mean alone is {ratio.mean():.3f} of the level")
    return sheet.result()


@claim(
    "13-envelope-net",
    paper=PAPER,
    place="Proposition 1, Fig. 4",
    statement="On nets 1 - cos stays in the envelope of l and L of the period before.",
    scales={"digits": 6.0, "mnist": 20.0, "cifar-small": 20.0},
)
def envelope_net(context: Context) -> Result:
    """Percentiles 1 and 99 of eg over the whole period before; at least 95 % of the steps of every phase B that
    follows, run by run.
    """
    from scaleinv.lab.experiments import periods as runs

    sheet = Sheet()
    requests = runs.rates(context.scale)
    for request, run in zip(requests, periods_of(context, requests)):
        envelope_coverage(sheet, f"lr wd {product(request):.3g}, seed {request.seed}", run)
    return sheet.result()


@claim(
    "13-times-net",
    paper=PAPER,
    place="Proposition 2",
    statement="On nets no break-down comes before t_min, and one has come by t_max.",
    scales={"digits": 8.0, "mnist": 20.0, "cifar-small": 20.0},
)
def times_net(context: Context) -> Result:
    """A jump is a turn of four equilibrium rotations; from every step of phase B with l and L of the period before,
    95 % of the predictions. Where t_min is 0 it says nothing, which is counted too.
    """
    from scaleinv.lab.experiments import periods as runs

    sheet = Sheet()
    requests = runs.rates(context.scale)
    for request, run in zip(requests, periods_of(context, requests)):
        jump_times(sheet, f"lr wd {product(request):.3g}, seed {request.seed}", run)
    return sheet.result()

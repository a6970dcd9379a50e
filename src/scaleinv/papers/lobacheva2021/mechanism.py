"""Claims of Lobacheva, Kodryan et al. 2021 on networks: why training breaks down."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.regimes import boundaries
from scaleinv.lab.weights import kept_epochs
from scaleinv.papers.claim import Context, Result, Sheet, claim
from scaleinv.papers.lobacheva2021 import runs as runs
from scaleinv.papers.lobacheva2021.evidence import (
    Pair,
    boundary_elr,
    break_downs,
    breaks_after,
    late_in_b,
    leads,
    periods_of,
)
from scaleinv.papers.lobacheva2021.frequency import backbone
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import Request, obtain_many
from scaleinv.studies.regime_map import verdict_of

PAPER = "Lobacheva et al. 2021"
#: pairs of runs from each run whose weights are kept, and their length in mean intervals
PAIRS, LENGTH = 3, 2.0


@claim(
    "phase-c-lead",
    paper=PAPER,
    place="Fig. 4, phase C",
    statement="In a break-down the loss rises before the norm does.",
    scales={"digits": 6.0, "mnist": 20.0, "cifar-small": 20.0},
)
def lead(context: Context) -> Result:
    """All break-downs over a factor 8 of lr wd: steps from where the loss is half-way up (log) to where rho^2 is; sign
    test against 0 at 1 %.
    """

    sheet = Sheet()
    leads(sheet, periods_of(context, runs.rates(context.scale)))
    return sheet.result()


@claim(
    "19-critical-elr",
    paper="Lobacheva et al. 2021, Kodryan et al. 2022",
    place="ours: it joins the two papers",
    statement="The ELR at break-down is that of the boundary between regimes 1 and 2 of the same net on the sphere.",
    scales={"digits": 28.0, "mnist": 2000.0, "cifar-small": 2000.0},
)
def critical_elr(context: Context) -> Result:
    """The median over the settled break-downs of each lr wd against the middle of the interval in which a sweep on the
    sphere has the boundary: a factor 2.
    """

    sheet = Sheet()
    requests = runs.spheres(context.scale)
    points = []
    for request, folder in zip(requests, obtain_many(context.runs, requests)):
        _, verdict = verdict_of(folder)
        assert request.elr is not None
        points.append((request.elr, request.seed, verdict.regime))
        sheet.note(f"ELR {request.elr:g}: regime {verdict.regime or 'undecided'}")
    edge = boundaries(points)["1/2"]
    if edge["low"] is None or edge["high"] is None:
        sheet.undecided("the sweep on the sphere does not bracket the boundary")
        return sheet.result()
    inside = sum(edge["low"] < elr < edge["high"] for elr, _, _ in points)
    boundary_elr(sheet, backbone(context), edge["low"], edge["high"], inside)
    return sheet.result()


@claim(
    "fixed-norm-late",
    paper=PAPER,
    place="Section 5 (ablation of the norm); checkpoints of ours",
    statement="From late in phase B, on the same batches, the free run breaks down, the one of fixed norm does not.",
    scales={"digits": 26.0, "mnist": 1500.0, "cifar-small": 1500.0},
)
def fixed_norm_late(context: Context) -> Result:
    """Three checkpoints in each of two runs, the last kept within 90 % of the longest phases B; two mean intervals
    long; break-downs by loss and effective gradient for both. Sign test over the pairs at 5 %.
    """

    return _free_against_fixed(context, runs.kept(context.scale))


@claim(
    "fixed-norm-late-full-batch",
    paper=PAPER,
    place="Section 5 (ablation of the norm); checkpoints of ours",
    statement="The same with full-batch gradient descent: no noise throws a run of fixed norm out.",
    scales={"digits": 18.0},
)
def fixed_norm_late_full_batch(context: Context) -> Result:
    """An MLP on 256 images; checkpoints every fifth step, chosen and judged as in ``fixed-norm-late``."""

    return _free_against_fixed(context, runs.kept_full_batch(context.scale))


def _free_against_fixed(context: Context, requests: Sequence[Request]) -> Result:
    """From late in the phases B of these runs, whose weights are kept."""

    sheet = Sheet()
    found = []
    for request, folder in zip(requests, obtain_many(context.runs, requests)):
        run, before = find_periods(folder), load_steps(folder)
        result = load_run(folder).result
        per_epoch = int(result["steps_per_epoch"]) if result else 0
        if not run.mean_interval > 0:
            sheet.undecided(f"seed {request.seed} has no periods")
            continue
        length = round(LENGTH * run.mean_interval / per_epoch) * per_epoch
        for i, epoch in enumerate(late_in_b(run, kept_epochs(folder), per_epoch, PAIRS)):
            # batches of another seed than the run's own: those it has seen would come again
            seed = 100 + PAIRS * request.seed + i
            ways = [runs.continued(request, folder, epoch, steps=length, fix=fix, seed=seed) for fix in (False, True)]
            free, fixed = (load_steps(one) for one in obtain_many(context.runs, ways))
            at = epoch * per_epoch
            broke = [breaks_after(before, at, after) for after in (free, fixed)]
            ends = [float(after.loss[-(length // 5) :].mean()) for after in (free, fixed)]
            found.append(Pair(*broke, *ends))
    if len(found) < 2 * PAIRS:
        sheet.undecided(f"only {len(found)} checkpoints in phases B")
        return sheet.result()
    break_downs(sheet, found)
    return sheet.result()

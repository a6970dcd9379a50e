"""Claims of Lobacheva, Kodryan et al. 2021 on networks: why training breaks down."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.regimes import boundaries
from scaleinv.lab.weights import kept_epochs
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
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
from scaleinv.studies.obtain import Request
from scaleinv.studies.regime_map import verdict_of

#: pairs of runs from each run whose weights are kept, and their length in mean intervals
PAIRS, LENGTH = 3, 2.0


def lead(sheet: Sheet, context: Context) -> None:
    """Check ``phase-c-lead``."""
    leads(sheet, periods_of(context, runs.rates(context.scale)))


def critical_elr(sheet: Sheet, context: Context) -> None:
    """Check ``critical-elr``."""
    requests = runs.spheres(context.scale)
    points = []
    for request, folder in zip(requests, context.folders(requests)):
        _, verdict = verdict_of(folder)
        assert request.elr is not None
        points.append((request.elr, request.seed, verdict.regime))
        sheet.note(f"ELR {request.elr:g}: regime {verdict.regime or 'undecided'}")
    edge = boundaries(points)["1/2"]
    if edge["low"] is None or edge["high"] is None:
        sheet.undecided("the sweep on the sphere does not bracket the boundary")
        return
    inside = sum(edge["low"] < elr < edge["high"] for elr, _, _ in points)
    boundary_elr(sheet, backbone(context), edge["low"], edge["high"], inside)


def fixed_norm_late(sheet: Sheet, context: Context) -> None:
    """Check ``fixed-norm-late``."""
    _free_against_fixed(sheet, context, runs.kept(context.scale))


def fixed_norm_late_full_batch(sheet: Sheet, context: Context) -> None:
    """Check ``fixed-norm-late-full-batch``."""
    _free_against_fixed(sheet, context, runs.kept_full_batch(context.scale))


def _free_against_fixed(sheet: Sheet, context: Context, requests: Sequence[Request]) -> None:
    """From late in the phases B of these runs, whose weights are kept."""
    found = []
    for request, folder in zip(requests, context.folders(requests)):
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
            free, fixed = (load_steps(one) for one in context.folders(ways))
            at = epoch * per_epoch
            broke = [breaks_after(before, at, after) for after in (free, fixed)]
            ends = [float(after.loss[-(length // 5) :].mean()) for after in (free, fixed)]
            found.append(Pair(*broke, *ends))
    if len(found) < 2 * PAIRS:
        sheet.undecided(f"only {len(found)} checkpoints in phases B")
        return
    break_downs(sheet, found)

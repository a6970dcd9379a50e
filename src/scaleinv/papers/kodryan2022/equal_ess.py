"""Effective step sizes of the groups (Kodryan et al. 2022, eqs. 7-9): equal in regime 2, not in regime 1."""

from __future__ import annotations

from collections.abc import Sequence

from scaleinv.analysis.ess import GroupEss, equalisation, from_steps, residuals
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import runs_groups as groups
from scaleinv.runfolder.steps import load_steps

#: largest mean of log(1 + ESS_i^2) over smallest
MOST = 1.05
#: the first part of a run, left out: many times 1/ESS^2 in regime 2
BURN_IN = 0.25
#: a run of fewer times 1/ESS^2 says nothing of where the step sizes go
FEWEST = 10.0


def judge(sheet: Sheet, name: str, groups: GroupEss, regime: int) -> None:
    """One run: equal (regime 2) or not (regime 1) after the burn-in; the relations between the groups at every step."""
    first = int(BURN_IN * len(groups.ess))
    late = equalisation(groups, first, tolerance=MOST)
    if regime == 2:
        if late.clock < FEWEST:
            sheet.undecided(f"{name}: the window is {late.clock:.2g} times 1/ESS^2, {FEWEST:g} are needed")
        else:
            sheet.at_most(f"{name}: largest over smallest", late.ratio.value, MOST, se=late.ratio.error)
        early = equalisation(groups, 0, max(2, int(late.time_scale)), tolerance=MOST)
        sheet.note(
            f"{name}: 1/ESS^2 is {late.time_scale:.3g} steps; ratio {early.ratio.value:.3g} over the first so many, "
            f"{late.ratio.value:.4g} over {late.clock:.3g} times as many"
        )
    else:
        # within one unit of the clock nothing is stationary: the means are those of this window, without an error
        error = late.ratio.error if late.clock >= 1 else 0.0
        sheet.at_least(f"{name}: largest over smallest", late.ratio.value, MOST, se=error)
        sheet.note(f"{name}: the run lasts {late.clock:.1g} times 1/ESS^2")
    found = residuals(groups)
    for relation, bound in (("sum_rule", 1e-5), ("feedback", 1e-4)):
        sheet.at_most(f"{name}: {relation}, largest residual", getattr(found, relation)[0], bound)
    sheet.at_most(f"{name}: convex, mean residual", found.convex[1], 1e-2)


def records(context: Context, model: str, elrs: Sequence[float]) -> list[GroupEss]:
    """The per-step records of the runs."""
    folders = context.folders(groups.runs(context.scale, model, elrs))
    return [from_steps(load_steps(folder)) for folder in folders]


def equal_ess(sheet: Sheet, context: Context) -> None:
    """Check ``equal-ess``."""
    for model in ("mlp", "convnet"):
        low, *high = groups.elrs(context.scale, model)
        first, *rest = records(context, model, (low, *high))
        judge(sheet, f"{model}, ELR {low:g}", first, 1)
        for elr, record in zip(high, rest):
            judge(sheet, f"{model}, ELR {elr:g}", record, 2)

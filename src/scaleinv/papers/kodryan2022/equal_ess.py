"""Effective step sizes of the groups (Kodryan et al. 2022, eqs. 7-9): equal in regime 2, not in regime 1."""

from collections.abc import Sequence

from scaleinv.analysis.ess import GroupEss, equalisation, from_steps, residuals
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.scales import pick, settings
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import Request

#: of the ConvNet, one ELR of regime 1, one of regime 2 (MNIST at batch 128: 0.01 converges, 0.02 stays at a loss of 3)
_ELRS = {"digits": (1e-3, 1e-2), "mnist": (2e-4, 2e-2), "cifar-small": (1e-4, 5e-3), "paper": (5e-4, 5e-3)}
#: of the MLP, the higher one of regime 2
_MLP = {"digits": 1e-2, "mnist": 1e-2, "cifar-small": 5e-3, "paper": 5e-3}


def elrs(scale: str, model: str) -> tuple[float, ...]:
    """Return one ELR of regime 1, then those of regime 2 (from smaller ELRs on for an MLP on digits)."""
    low, high = pick(_ELRS, scale, "runs with groups")
    return (2e-4, _MLP[scale] / 2, _MLP[scale]) if model == "mlp" else (low, high)


def runs(scale: str, model: str, chosen: Sequence[float]) -> list[Request]:
    """Request a run for each ELR, with cross-entropy and every step recorded."""
    epochs = {"mnist": 60, "cifar-small": 40, "paper": 300}.get(scale, 60 if model == "mlp" else 30)
    wide = {"width": 64} if model == "mlp" and scale in ("mnist", "cifar-small") else {}
    one = settings(scale, model=model, evaluation="online", record_steps=True, epochs=epochs, eval_every=epochs, **wide)
    return [Request(settings=one, elr=elr) for elr in chosen]


#: largest mean of log(1 + ESS_i^2) over smallest
MOST = 1.05
#: the first part of a run, left out: many times 1/ESS^2 in regime 2
BURN_IN = 0.25
#: a run of fewer times 1/ESS^2 says nothing of where the step sizes go
FEWEST = 10.0


def judge(sheet: Sheet, name: str, groups: GroupEss, regime: int) -> None:
    """Judge a run after its burn-in: equal step sizes in regime 2, not in 1; the relations hold at every step."""
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


def equal_ess(sheet: Sheet, context: Context) -> None:
    """Check ``equal-ess``."""
    for model in ("mlp", "convnet"):
        chosen = elrs(context.scale, model)
        for k, (elr, folder) in enumerate(zip(chosen, context.folders(runs(context.scale, model, chosen)))):
            judge(sheet, f"{model}, ELR {elr:g}", from_steps(load_steps(folder)), 2 if k else 1)

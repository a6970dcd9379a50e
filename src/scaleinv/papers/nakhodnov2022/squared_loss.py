"""Squared loss (Nakhodnov et al. 2022): what converges, and what the cosines between epochs say where nothing does."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from scaleinv.analysis.blocks import in_blocks
from scaleinv.analysis.regimes import FEWEST_EPOCHS, THRESHOLD, classify
from scaleinv.analysis.similarity import LEAST, CosineGap, cosine_gap, cosine_level
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022.regime_evidence import WITHIN
from scaleinv.papers.nakhodnov2022 import runs as squared
from scaleinv.runfolder.read import Run
from scaleinv.studies.obtain import Request

#: standard deviation of the logarithm of the final loss of single runs, over seeds and CPUs; measured, see "How draws
#: scatter" in docs/results/regimes.md
FINAL_SCATTER = 0.3
LOWEST = "lowest final loss over 1 % of the constant answer's"


def ends(runs: Sequence[Run]) -> tuple[list[tuple[float, int | None]], float]:
    """Return (ELR, regime) of every run, and the lowest train loss of a last tenth over the threshold of regime 1."""
    found, least = [], np.inf
    for run in runs:
        loss = run.series("online", "total", "loss")[1]
        found.append((run.elr, classify(run).regime))
        assert run.constant_loss is not None  # the lab's own runs have it
        least = min(least, float(loss[-max(1, len(loss) // 10) :].mean()) / (THRESHOLD * run.constant_loss))
    return found, least


def judge(
    sheet: Sheet,
    full: Sequence[Run],
    small: Sequence[Run],
    full_head: Sequence[Run] = (),
    small_head: Sequence[Run] = (),
) -> None:
    """Judge that no run on the full set converges, and that the small one shows three regimes.

    ``full_head``, ``small_head``: of a small network with head norm 10, which leaves it no regime 1 on either set; none
    where 10 is the head norm of the other runs, as in the paper, whose small set shows three regimes with it.
    """
    for name, runs in (("full set", full), ("full set, head norm 10", full_head)):
        if not runs:
            continue
        regimes, least = ends(runs)
        sheet.at_least(f"{name}: {LOWEST}", least, 1.0, log_se=FINAL_SCATTER)
        seen(sheet, name, regimes, 3, 2)
        sheet.note(f"{name}: {words(regimes)}")
    regimes, least = ends(small)
    sheet.at_most(f"small set: {LOWEST}", least, 1.0, log_se=FINAL_SCATTER)
    seen(sheet, "small set", regimes, 1, 2, 3)
    sheet.note(f"small set: {words(regimes)}")
    if small_head:
        regimes, least = ends(small_head)
        found = 1 in {r for _, r in regimes}
        # a run that is judged to converge, but whose loss has not come down clearly, is one draw
        clear = least * math.exp(2 * FINAL_SCATTER) < 1
        sheet.true("small set, head norm 10: regime 1 seen", found, False, given=clear or not found)
        sheet.note(f"small set, head norm 10: {words(regimes)}, lowest final loss {least:.3g} of the threshold")


def seen(sheet: Sheet, name: str, regimes: Sequence[tuple[float, int | None]], *wanted: int) -> None:
    """Demand that each of the wanted regimes is seen. One that is not may be that of a run which is undecided, may lie
    beyond the ends of the sweep (regimes 1 and 3), or between two ELRs more than a factor 3 apart (regime 2):
    undecided. A sweep without room for regime 2 fails.
    """
    found = {r for _, r in regimes}
    for regime in wanted:
        no_room = regime == 2 and any(
            (r, s) == (1, 3) and high <= WITHIN * low * (1 + 1e-9)
            for (low, r), (high, s) in itertools.pairwise(sorted(regimes, key=lambda one: one[0]))
        )
        there = regime in found
        sheet.true(f"{name}: regime {regime} seen", there, True, given=there or (no_room and None not in found))


def words(regimes: Sequence[tuple[float, int | None]]) -> str:
    """Write the regimes: ``ELR 0.001 2, 0.1 undecided``."""
    return "regime by ELR " + ", ".join(f"{elr:g}: {regime or 'undecided'}" for elr, regime in regimes)


def load(context: Context, requests: Sequence[Request]) -> list[Run]:
    """Read the runs, train what is missing; runs of few epochs, on large sets, in blocks of steps."""
    return [in_blocks(run.folder) if run.last_epoch < FEWEST_EPOCHS else run for run in context.runs(requests)]


def squared_loss(sheet: Sheet, context: Context) -> None:
    """Check ``squared-loss-regimes``."""
    judge(sheet, *(load(context, requests) for requests in requested(context.scale)))


def requested(scale: str) -> list[list[Request]]:
    """Request the runs of ``squared-loss-regimes``: full set, small set, and both once more with the paper's head norm.

    Unless they have it already.
    """
    sets = [squared.full(scale), squared.small(scale)]
    if all(request.settings.head_norm == squared.PAPER_HEAD for runs in sets for request in runs):
        return sets
    return [*sets, *(squared.with_head([runs[0], runs[-1]], squared.PAPER_HEAD) for runs in sets)]


def squared_cosines(sheet: Sheet, context: Context) -> None:
    """Check ``squared-cosines``."""
    judge_cosines(sheet, load(context, squared.runs(context.scale)))


def judge_cosines(sheet: Sheet, runs: Sequence[Run]) -> None:
    """Judge a gap in the cosines, of runs none of which converges: else the claim is about nothing."""
    regimes, least = ends(runs)
    apart = sheet.needs(LOWEST, least, at_least=1.0)
    gap: CosineGap = cosine_gap([cosine_level(run) for run in runs])
    if gap.verdict == "undecided":
        sheet.undecided(gap.reason)
    else:
        sheet.at_least("gap in 1 - cos, lower end of its interval", gap.interval.low, LEAST, given=apart)
        sheet.note(gap.reason)
    by_elr = ", ".join(f"{elr:g}: {np.exp(level.value):.2g}" for elr, level in zip(gap.elrs, gap.levels))
    sheet.note(f"1 - cos by ELR {by_elr}; {words(regimes)}")

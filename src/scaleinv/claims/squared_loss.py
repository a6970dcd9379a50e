"""Squared loss (Nakhodnov et al. 2022): what converges, and what the cosines between epochs say where nothing does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaleinv.claims.registry import Context, Result, Sheet, claim

if TYPE_CHECKING:
    from scaleinv.analysis.runs import Run
    from scaleinv.analysis.similarity import CosineGap


def ends(runs: Sequence[Run]) -> tuple[list[tuple[float, int | None]], float]:
    """(ELR, regime) of every run, and the lowest train loss of a last tenth, in units of the threshold of regime 1."""
    from scaleinv.analysis.regimes import THRESHOLD, classify

    found, least = [], np.inf
    for run in runs:
        loss = run.series("online", "total", "loss")[1]
        found.append((run.elr, classify(run).regime))
        assert run.constant_loss is not None  # the lab's own runs have it
        least = min(least, float(loss[-max(1, len(loss) // 10) :].mean()) / (THRESHOLD * run.constant_loss))
    return found, least


def judge(full: Sequence[Run], small: Sequence[Run], full_head: Sequence[Run], small_head: Sequence[Run]) -> Sheet:
    """No convergence on the full set, three regimes on the small one; with the paper's head no regime 1 on either."""
    sheet = Sheet()
    for name, runs in (("full set", full), ("full set, head norm 10", full_head)):
        regimes, least = ends(runs)
        sheet.at_least(f"{name}: lowest final loss over 1 % of the constant answer's", least, 1.0)
        seen(sheet, name, regimes, 3, 2)
        sheet.note(f"{name}: {words(regimes)}")
    regimes, least = ends(small)
    sheet.at_most("small set: lowest final loss over 1 % of the constant answer's", least, 1.0)
    seen(sheet, "small set", regimes, 1, 2, 3)
    sheet.note(f"small set: {words(regimes)}")
    regimes, least = ends(small_head)
    sheet.true("small set, head norm 10: regime 1 seen", 1 in {r for _, r in regimes}, False)
    sheet.note(f"small set, head norm 10: {words(regimes)}, lowest final loss {least:.3g} of the threshold")
    return sheet


def seen(sheet: Sheet, name: str, regimes: Sequence[tuple[float, int | None]], *wanted: int) -> None:
    """Each of the wanted regimes is seen; undecided where it is not, but a run that is undecided may be in it."""
    found = {r for _, r in regimes}
    for regime in wanted:
        if regime not in found and None in found:
            sheet.undecided(f"{name}: regime {regime} is not seen, and {words(regimes)}")
        else:
            sheet.true(f"{name}: regime {regime} seen", regime in found, True)


def words(regimes: Sequence[tuple[float, int | None]]) -> str:
    """``ELR 0.001 2, 0.1 undecided``."""
    return "regime by ELR " + ", ".join(f"{elr:g}: {regime or 'undecided'}" for elr, regime in regimes)


def load(context: Context, requests: Sequence[object]) -> list[Run]:
    """Train what is missing and read it; runs of few epochs, on large sets, in blocks of steps."""
    from scaleinv.analysis.blocks import in_blocks
    from scaleinv.analysis.regimes import FEWEST_EPOCHS
    from scaleinv.analysis.runs import load_run
    from scaleinv.lab.runs import obtain_many

    folders: list[Path] = obtain_many(context.runs, requests)  # type: ignore[arg-type]
    runs = [load_run(folder) for folder in folders]
    return [in_blocks(run.folder) if run.last_epoch < FEWEST_EPOCHS else run for run in runs]


@claim(
    "20-squared-loss",
    paper="Nakhodnov et al. 2022",
    place="full set against 5000 objects",
    statement="Squared loss: on the full set no ELR converges within the budget, on a small subset all regimes appear.",
    scales={"digits": 62, "mnist": 300, "cifar-small": 1000, "paper": 8e6},
)
def squared_loss(context: Context) -> Result:
    """One network, head norm 1.5, on the full set and on a small part of it, as many steps; then the
    smallest and the largest ELR with head norm 10.
    """
    from scaleinv.lab.experiments import squared

    full, small = squared.full(context.scale), squared.small(context.scale)
    heads = [squared.with_head([runs[0], runs[-1]], squared.PAPER_HEAD) for runs in (full, small)]
    loaded = [load(context, requests) for requests in (full, small, *heads)]
    return judge(*loaded).result()


@claim(
    "21-squared-cosines",
    paper="Nakhodnov et al. 2022",
    place="cosines between iterates",
    statement="Squared loss: cosines between epochs separate an analogue of regime 1 though no ELR converges.",
    scales={"digits": 36, "mnist": 300, "cifar-small": 700, "paper": 5e6},
)
def squared_cosines(context: Context) -> Result:
    """A gap in 1 - cos of successive epochs over the ELR beyond its slope among smaller ELRs, with its interval."""
    from scaleinv.lab.experiments import cosine

    return judge_cosines(load(context, cosine.runs(context.scale))).result()


def judge_cosines(runs: Sequence[Run]) -> Sheet:
    """No convergence, and a gap."""
    from scaleinv.analysis.similarity import LEAST, cosine_gap, cosine_level

    sheet = Sheet()
    regimes, least = ends(runs)
    sheet.at_least("lowest final loss over 1 % of the constant answer's", least, 1.0)
    gap: CosineGap = cosine_gap([cosine_level(run) for run in runs])
    if gap.verdict == "undecided":
        sheet.undecided(gap.reason)
    else:
        sheet.at_least("gap in 1 - cos, lower end of its interval", gap.interval.low, LEAST)
        sheet.note(gap.reason)
    by_elr = ", ".join(f"{elr:g}: {np.exp(level.value):.2g}" for elr, level in zip(gap.elrs, gap.levels))
    sheet.note(f"1 - cos by ELR {by_elr}; {words(regimes)}")
    return sheet

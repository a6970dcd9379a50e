"""Claims of Lobacheva, Kodryan et al. 2021 on networks: the first periods, and the minima of different ones."""

from __future__ import annotations

from scaleinv.analysis.periods import find_periods
from scaleinv.lab.weights import kept_epochs, read_weights, rebuild
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.surface import Surface
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.lobacheva2021 import runs as runs
from scaleinv.papers.lobacheva2021.evidence import different_minima, minima, periods_of, warm_up
from scaleinv.runfolder.read import load_run

#: minima compared in each run
MINIMA = 8


def warm_up_stage(sheet: Sheet, context: Context) -> None:
    """Check ``warm-up-stage``."""
    requests = runs.warm_up(context.scale)
    warm_up(sheet, periods_of(context, requests))


def minima_of_periods(sheet: Sheet, context: Context) -> None:
    """Check ``minima-of-periods``."""
    requests = runs.kept(context.scale)
    for request, folder in zip(requests, context.folders(requests)):
        run = load_run(folder)
        loss = run.table("online", "total", "loss")
        per_epoch = int(run.result["steps_per_epoch"]) if run.result else 0
        places = minima(
            find_periods(folder), dict(zip(loss.epochs.tolist(), loss.values.tolist())), kept_epochs(folder), per_epoch
        )[:MINIMA]
        name = f"seed {request.seed}"
        if len(places) < 3:
            sheet.undecided(f"{name} has {len(places)} minima with weights")
            continue
        surface = Surface.of_setup(rebuild(folder), request.settings.batch_size or run.config["batch_size"])
        between = agreement(surface, [read_weights(folder, here) for here, _ in places])
        within = [agreement(surface, [read_weights(folder, e) for e in pair]) for pair in places if pair[0] != pair[1]]
        different_minima(sheet, name, between, within)

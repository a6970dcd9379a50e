"""Claims of Lobacheva, Kodryan et al. 2021 on networks: the first periods, and the minima of different ones."""

from __future__ import annotations

from scaleinv.analysis.periods import find_periods
from scaleinv.lab.weights import kept_epochs, read_weights, rebuild
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.surface import Surface
from scaleinv.papers.claim import Context, Result, Sheet, claim
from scaleinv.papers.lobacheva2021 import runs as runs
from scaleinv.papers.lobacheva2021.evidence import different_minima, minima, periods_of, warm_up
from scaleinv.runfolder.read import load_run
from scaleinv.studies.obtain import obtain_many

PAPER = "Lobacheva et al. 2021"
#: minima compared in each run
MINIMA = 8


@claim(
    "warm-up-stage",
    paper=PAPER,
    place="warm-up stage, Fig. 3",
    statement="Over the first periods the ELR at break-down rises and each period ends at a lower loss.",
    scales={"digits": 41.0, "mnist": 1500.0, "cifar-small": 1500.0},
)
def warm_up_stage(context: Context) -> Result:
    """Eight seeds that start far below the critical ELR; mean slopes of the logarithms over the first four
    break-downs, against 0 at 2 s.e. between seeds.
    """

    sheet = Sheet()
    requests = runs.warm_up(context.scale)
    warm_up(sheet, periods_of(context, requests))
    return sheet.result()


@claim(
    "minima-of-periods",
    paper=PAPER,
    place="minima of different periods; the measures are PAPERS 2.5",
    statement="Minima of different periods are different functions, and averaging two of them does not hurt.",
    scales={"digits": 10.0, "mnist": 100.0, "cifar-small": 100.0},
)
def minima_of_periods(context: Context) -> Result:
    """Weights at the lowest epoch loss of the first eight periods, two seeds: pairs of periods turn further apart and
    agree on fewer test images than two epochs of one phase B; the pair ensemble's error is not above the mean of the
    two.
    """

    sheet = Sheet()
    requests = runs.kept(context.scale)
    for request, folder in zip(requests, obtain_many(context.runs, requests)):
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
    return sheet.result()

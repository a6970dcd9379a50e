"""Claims of Lobacheva, Kodryan et al. 2021 on networks: break-downs, what causes and alters them, minima of periods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.regimes import boundaries
from scaleinv.lab.weights import kept_epochs, read_weights, rebuild
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.surface import Surface
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.lobacheva2021 import evidence, runs
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import Request
from scaleinv.studies.regime_map import verdict_of


def backbone(context: Context) -> list[evidence.Pooled]:
    """Pool the runs over a factor 8 of lr wd, seeds together, ascending."""
    return pooled(context, runs.rates(context.scale))


def pooled(context: Context, requests: Sequence[Request]) -> list[evidence.Pooled]:
    """Pool the runs of each lr wd among the requests, ascending."""
    return [evidence.pool(product, several) for product, several in evidence.by_product(context, requests)]


def interval(sheet: Sheet, context: Context) -> None:
    """Check ``constant-interval``."""
    evidence.constant_interval(sheet, backbone(context))


def equal_product(sheet: Sheet, context: Context) -> None:
    """Check ``equal-product``."""
    there, other = runs.same_product(context.scale)
    (one,), (two,) = pooled(context, there), pooled(context, other)
    evidence.equal_intervals(sheet, one, two, (f"lr {there[0].lr:g}", f"lr {other[0].lr:g}"))


def no_periods(sheet: Sheet, context: Context) -> None:
    """Check ``no-periods-at-fixed-norm``."""
    edge = _boundary(sheet, context)
    if edge is not None:
        for elr, requests in runs.fixed_norm(context.scale, edge.low, edge.high).items():
            found = evidence.periods_of(context, requests)
            # one or two break-downs are not yet periods, nor are they none
            calm = [not run.break_downs or (None if run.verdict != "periodic" else False) for run in found]
            where = "below" if elr < edge.low else "above"
            sheet.every(f"no break-down of the loss, norm fixed at ELR {elr:.3g}, {where} the boundary", calm)
            counts = ", ".join(str(len(run.break_downs)) for run in found)
            lasts = ", ".join(f"{float(run.log.loss[-len(run.log) // 5 :].mean()):.2g}" for run in found)
            sheet.note(f"ELR {elr:.3g}: break-downs of each seed: {counts}; mean loss of the last fifth: {lasts}")
    names = []
    for name, request, run in evidence.named_periods(context, runs.large(context.scale)):
        names.append(f"verdict at {name}")
        sheet.answer(names[-1], run.verdict, "equilibrium", open=("undecided", "not yet"))
        sheet.note(f"lr wd {evidence.product(request):.3g}: {run.reason}")
    sheet.draws(names)


def to_equilibrium(sheet: Sheet, context: Context) -> None:
    """Check ``periods-to-equilibrium``."""
    evidence.falling_steps(sheet, backbone(context))
    names = []
    for _, request, run in evidence.named_periods(context, runs.large(context.scale)):
        names.append(f"verdict at lr {request.lr:g}, seed {request.seed}")
        sheet.answer(names[-1], run.verdict, "equilibrium", open=("undecided", "not yet"))
    sheet.draws(names)
    small = runs.small(context.scale)
    (run,) = evidence.periods_of(context, [small])
    name = f"verdict at lr {small.lr:g}"
    sheet.answer(name, run.verdict, "not yet")
    sheet.draws([name])


#: pairs of runs from each run whose weights are kept, and their length in mean intervals
PAIRS, LENGTH = 3, 2.0


def lead(sheet: Sheet, context: Context) -> None:
    """Check ``phase-c-lead``."""
    evidence.leads(sheet, evidence.periods_of(context, runs.rates(context.scale)))


@dataclass(frozen=True)
class Edge:
    """The boundary between regimes 1 and 2 on the sphere: ELRs that bracket it, and how many undecided lie between."""

    low: float
    high: float
    inside: int


def _boundary(sheet: Sheet, context: Context) -> Edge | None:
    """Find the boundary by a sweep on the sphere; where it has none, say so on the sheet."""
    requests = runs.spheres(context.scale)
    points = []
    for request, folder in zip(requests, context.folders(requests)):
        _, verdict = verdict_of(folder)
        assert request.elr is not None
        points.append((request.elr, request.seed, verdict.regime))
        sheet.note(f"ELR {request.elr:g}: regime {verdict.regime or 'undecided'}")
    edge = boundaries(points)["1/2"]
    low, high = edge["low"], edge["high"]
    if low is None or high is None:
        sheet.undecided("the sweep on the sphere does not bracket the boundary")
        return None
    return Edge(low, high, sum(low < elr < high for elr, _, _ in points))


def critical_elr(sheet: Sheet, context: Context) -> None:
    """Check ``critical-elr``."""
    edge = _boundary(sheet, context)
    if edge is not None:
        evidence.boundary_elr(sheet, backbone(context), edge.low, edge.high, edge.inside)


def fixed_norm_late(sheet: Sheet, context: Context) -> None:
    """Check ``fixed-norm-late``."""
    _free_against_fixed(sheet, context, runs.kept(context.scale))


def fixed_norm_late_full_batch(sheet: Sheet, context: Context) -> None:
    """Check ``fixed-norm-late-full-batch``."""
    _free_against_fixed(sheet, context, runs.kept_full_batch(context.scale))


def _free_against_fixed(sheet: Sheet, context: Context, requests: Sequence[Request]) -> None:
    """Compare free runs with runs of fixed norm from late in the phases B of these runs, whose weights are kept."""
    found = []
    for request, folder in zip(requests, context.folders(requests)):
        run, before = find_periods(folder), load_steps(folder)
        result = load_run(folder).result
        per_epoch = int(result["steps_per_epoch"]) if result else 0
        if not run.mean_interval > 0:
            sheet.undecided(f"seed {request.seed} has no periods")
            continue
        length = round(LENGTH * run.mean_interval / per_epoch) * per_epoch
        for i, epoch in enumerate(evidence.late_in_b(run, kept_epochs(folder), per_epoch, PAIRS)):
            # batches of another seed than the run's own: those it has seen would come again
            seed = 100 + PAIRS * request.seed + i
            ways = [runs.continued(request, folder, epoch, steps=length, fix=fix, seed=seed) for fix in (False, True)]
            free, fixed = (load_steps(one) for one in context.folders(ways))
            at = epoch * per_epoch
            broke = [evidence.breaks_after(before, at, after) for after in (free, fixed)]
            ends = [float(after.loss[-(length // 5) :].mean()) for after in (free, fixed)]
            found.append(evidence.Pair(*broke, *ends))
    if len(found) < 2 * PAIRS:
        sheet.undecided(f"only {len(found)} checkpoints in phases B")
        return
    evidence.break_downs(sheet, found)


#: minima compared in each run
MINIMA = 8


def warm_up_stage(sheet: Sheet, context: Context) -> None:
    """Check ``warm-up-stage``."""
    evidence.warm_up(sheet, evidence.periods_of(context, runs.warm_up(context.scale)))


def minima_of_periods(sheet: Sheet, context: Context) -> None:
    """Check ``minima-of-periods``."""
    requests = runs.kept(context.scale)
    for request, folder in zip(requests, context.folders(requests)):
        run = load_run(folder)
        loss = run.table("online", "total", "loss")
        per_epoch = int(run.result["steps_per_epoch"]) if run.result else 0
        places = evidence.minima(
            find_periods(folder), dict(zip(loss.epochs.tolist(), loss.values.tolist())), kept_epochs(folder), per_epoch
        )[:MINIMA]
        name = f"seed {request.seed}"
        if len(places) < 3:
            sheet.undecided(f"{name} has {len(places)} minima with weights")
            continue
        surface = Surface.of_setup(rebuild(folder), request.settings.batch_size or run.config["batch_size"])
        between = agreement(surface, [read_weights(folder, here) for here, _ in places])
        within = [agreement(surface, [read_weights(folder, e) for e in pair]) for pair in places if pair[0] != pair[1]]
        evidence.different_minima(sheet, name, between, within)


def _variation(name: str) -> Callable[[Sheet, Context], None]:
    def check(sheet: Sheet, context: Context) -> None:
        (run,) = evidence.periods_of(context, [runs.variations(context.scale)[name]])
        evidence.periodic(sheet, run)

    return check


momentum = _variation("momentum 0.9")
augmentation = _variation("augmentation")
standard = _variation("trainable affine norms and head")
layer_norm = _variation("layer normalization")
group_norm = _variation("group normalization")
weight_norm = _variation("weight normalization")
full_batch = _variation("full-batch gradient descent")
adam_l2 = _variation("Adam with L2")
adamw = _variation("AdamW")

"""Claims of Kodryan, Lobacheva et al. 2022 about regime 1 and its upper boundary."""

import itertools
import math
from pathlib import Path

import numpy as np

from scaleinv.analysis.trajectories import Trajectory, compare, trajectory
from scaleinv.analysis.trajectories import spectrum as compare_at_loss
from scaleinv.analysis.transition import first_passage, fit_divergence, growth
from scaleinv.lab.weights import kept_epochs, read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import surface_of
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import evidence
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.runfolder.read import load_run

#: factor between ELRs from which on their minima must not be connected
APART = 4.0
#: a loss that rises by this factor has left its minimum
LEFT = 5.0


def _folders(context: Context, net: regimes.Net, seed: int) -> dict[float, Path]:
    """Return the converging runs of a seed by ELR."""
    return dict(zip(net.convergence, context.folders(regimes.minima(net, seed))))


def spectrum(sheet: Sheet, context: Context) -> None:
    """Check ``spectrum-of-minima``."""
    net = regimes.find(context.scale)
    rows, errors = [], []
    for seed in net.seeds:
        runs = context.runs(regimes.minima(net, seed))
        found = compare_at_loss([trajectory(run) for run in runs], evidence.LEVELS[context.scale])
        rows.append(found.mean)
        errors.append([float(run.series("test", "total", "error_recomputed_bn")[1][-1]) for run in runs])
        sheet.note(f"seed {seed}: eg/loss " + ", ".join(f"{math.exp(m.value):.3g}" for m in found.mean))
        sheet.note(f"seed {seed}: compared at losses " + ", ".join(f"{loss:g}" for loss in found.used))
    evidence.spectrum_of_minima(sheet, "mean over seeds", net.convergence, rows)
    test = np.mean(errors, axis=0)
    ranks = np.corrcoef(np.argsort(np.argsort(-test)), np.arange(len(test)))[0, 1]
    shown = ", ".join(f"{100 * e:.1f}" for e in test)
    sheet.note(f"test error by rising ELR, %: {shown} (rank correlation of falling with ELR {ranks:.2f}, not decisive)")


def retraining(sheet: Sheet, context: Context) -> None:
    """Check ``retraining``."""
    net = regimes.find(context.scale)
    kept, moved, other = [], [], []
    for seed in net.seeds:
        folders = _folders(context, net, seed)
        paths = {elr: trajectory(load_run(folder)) for elr, folder in folders.items()}

        def again(
            start: float, elr: float, epoch: int | None, folders: dict[float, Path] = folders, seed: int = seed
        ) -> Trajectory:
            request = regimes.retrained(net, folders[start], [elr], seed=seed + 100, epoch=epoch)
            return trajectory(context.runs(request)[0])

        ways = regimes.retrainings(context.scale)
        for start, elr, epoch in ways["lower"]:
            run = again(start, elr, epoch)
            found = compare(run, paths[start])
            kept.append(found.offset)
            if math.isnan(found.offset.value):
                sheet.note(f"seed {seed}, {start:g} to {elr:g}: not compared with its start, {found.reason}")
            other.append(compare(run, paths[elr]).offset)
        for start, elr, epoch in ways["higher"]:
            whole = again(start, elr, epoch)
            before = float(paths[start].loss[-1])
            highest = float(whole.loss.max()) / before
            run = whole.since(int(whole.epochs[whole.loss.argmax()]))
            found = compare(run, paths[elr], losses=(0.0, before))
            moved.append(found.offset)
            left = "left its basin" if highest > LEFT else "stayed in its basin"
            ratio = math.exp(found.offset.value)
            then = f"not compared, {found.reason}" if math.isnan(ratio) else f"eg/loss x{ratio:.3g}"
            sheet.note(f"seed {seed}, {start:g} to {elr:g}: {left} (loss up x{highest:.3g}), then {then}")
    evidence.ratio_is_one(sheet, "lower ELR: eg/loss over that of its start", kept, 0.1)
    evidence.ratio_is_one(sheet, "higher ELR: eg/loss over that of a run of this ELR from scratch", moved, 0.1)
    known = [offset for offset in other if math.isfinite(offset.value)]
    if known:
        mean = math.exp(evidence.combine(known).value)
        sheet.note(f"lower ELR, over the eg/loss of the new ELR from scratch: x{mean:.3g}")


def unconnected(sheet: Sheet, context: Context) -> None:
    """Check ``unconnected-minima``."""
    net = regimes.for_paths(context.scale)
    heights: dict[tuple[float, float], list[float]] = {}
    for seed in net.seeds:
        folders = _folders(context, net, seed)
        surface = surface_of(folders[net.convergence[0]])
        ends = {elr: read_weights(folder) for elr, folder in folders.items()}
        for low, high in itertools.combinations(net.convergence, 2):
            if high < APART * low:
                continue
            path = linear_path(surface, ends[low], ends[high])
            heights.setdefault((low, high), []).append(100 * path.barrier("train_error").height)
            told = f"seed {seed}, {low:.3g} to {high:.3g}"
            sheet.note(f"{told}: angle {path.angle:.2f}, loss barrier {path.barrier().height:.3g}")
        last = net.convergence[-2]  # the last one not at the boundary, where a run may be thrown out on its way
        kept = kept_epochs(folders[last])
        own = linear_path(surface, read_weights(folders[last], kept[len(kept) // 2]), ends[last])
        height = 100 * own.barrier("train_error").height
        within = f"seed {seed}: barrier within the run of {last:.3g}, points"
        sheet.at_most(within, height, evidence.CONNECTED, se=evidence.barrier_error(height, len(surface.train[1])))
    evidence.unconnected_pairs(sheet, net.seeds, heights, len(surface.train[1]))


def time_to_convergence(sheet: Sheet, context: Context) -> None:
    """Check ``time-to-convergence``."""
    passages = [first_passage(run) for run in context.runs(regimes.passages(context.scale))]
    found = growth(passages)
    if not found.by_seed:
        sheet.undecided(found.reason)
        return
    enough = sheet.needs("seeds that reach the boundary", len(found.by_seed), at_least=3)
    # times scatter by factors from seed to seed: the mean over seeds and its error are those of the logarithm
    error = found.ratio.error / found.ratio.value
    grown = math.log(found.ratio.value)
    sheet.at_least("log of the time over the last 40 % of ELR", grown, math.log(2.0), se=error, given=enough)
    for seed, elr, ratio in found.by_seed:
        sheet.note(f"seed {seed}: x{ratio:.3g} up to {elr:.3g}")
    sheet.note(fit_divergence(passages).reason)

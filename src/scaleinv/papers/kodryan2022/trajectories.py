"""Claims of Kodryan, Lobacheva et al. 2022 about the trajectories of regime 1 and the peak of the gradient above it.

What was changed after a first look is told in ``catalogue.ini``.
"""

import itertools
import math

import numpy as np

from scaleinv.analysis.double_descent import run_double_descent
from scaleinv.analysis.regimes import boundaries, classify
from scaleinv.analysis.statistics import Estimate, sample_mean
from scaleinv.analysis.trajectories import Trajectory, compare, trajectory
from scaleinv.analysis.transition import first_passage, gradient_peak, transition_peak
from scaleinv.lab.resolve import load_data
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.draws import share_error
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022.evidence import LEVELS, combine

#: lines in the logarithms are parallel within this difference of their slopes
PARALLEL = 0.2
#: points below the highest loss at which trajectories are lines
FEWEST_POINTS = 6


def speed(sheet: Sheet, context: Context) -> None:
    """Check ``speed-of-regime-1``."""
    net = regimes.find(context.scale)
    threshold = LEVELS[context.scale][0]
    slopes = []
    for seed in net.seeds:
        # the last one is at the boundary, where convergence is slow for another reason
        runs = context.runs(regimes.minima(net, seed, net.convergence[:-1]))
        found = [first_passage(run, threshold) for run in runs]
        reached = [one for one in found if one.epoch is not None and one.time > 0]
        told = ", ".join(f"{one.time:.3g} at {one.elr:.3g}" for one in reached)
        sheet.note(f"seed {seed}: epochs to a loss of {threshold:g}: {told or 'none gets there'}")
        if len(reached) < 3:
            sheet.undecided(f"seed {seed}: {len(reached)} ELRs reach a loss of {threshold:g}, at least 3 are needed")
            continue
        x, y = np.log([one.elr for one in reached]), np.log([one.time for one in reached])
        (slope, _), covariance = np.polyfit(x, y, 1, cov="unscaled")
        rest = y - np.polyval((slope, _), x)
        error = math.sqrt(float(covariance[0, 0]) * float(rest @ rest) / max(1, len(x) - 2))
        slopes.append(Estimate(float(slope), error))
    if slopes:
        mean = combine(slopes)
        sheet.at_most("exponent of the time in the ELR", mean.value, 0.0, se=mean.error)
        sheet.note(f"time ~ ELR^{mean.value:.2f} (s.e. {mean.error:.2g}); -1 where only the speed differs")


def line(path: Trajectory, highest: float) -> Estimate:
    """Fit the slope of log eg against log loss below a loss; NaN where there are too few points or no range."""
    keep = path.loss < highest
    x, y = np.log(path.loss[keep]), np.log(path.eg[keep])
    if len(x) < FEWEST_POINTS or np.ptp(x) < math.log(2):
        return Estimate(math.nan, math.nan)
    (slope, level), covariance = np.polyfit(x, y, 1, cov="unscaled")
    rest = y - (slope * x + level)
    return Estimate(float(slope), math.sqrt(float(covariance[0, 0]) * float(rest @ rest) / (len(x) - 2)))


def trajectories(sheet: Sheet, context: Context) -> None:
    """Check ``trajectories-of-regime-1``."""
    net = regimes.find(context.scale)
    lowest, same, slopes = net.convergence[:2], [], dict[float, list[Estimate]]()
    for seed in net.seeds:
        paths = [trajectory(run) for run in context.runs(regimes.minima(net, seed))]
        found = compare(paths[0], paths[1])
        same.append(found.offset)
        sheet.note(f"seed {seed}: {lowest[0]:.3g} and {lowest[1]:.3g}: {found.verdict}, {found.reason}")
        far = compare(paths[0], paths[-1])
        sheet.note(f"seed {seed}: {lowest[0]:.3g} and {net.convergence[-1]:.3g}: {far.verdict}, {far.reason}")
        for elr, path in zip(net.convergence, paths):
            one = line(path, LEVELS[context.scale][0])
            if math.isfinite(one.value):
                slopes.setdefault(elr, []).append(one)
    offset = combine(same)
    sheet.close(
        "the two lowest ELRs: log ratio of eg at equal loss", offset.value, 0.0, abs=math.log(1.1), se=offset.error
    )
    means = {elr: combine(several) for elr, several in slopes.items()}
    enough = sheet.needs("ELRs with a line at low losses", len(means), at_least=3)
    for elr, mean in means.items():
        sheet.note(f"ELR {elr:.3g}: eg ~ loss^{mean.value:.2f} (s.e. {mean.error:.2g})")
    for (low, one), (high, other) in itertools.pairwise(means.items()):
        name, error = f"slopes at ELR {low:.3g} and {high:.3g}, difference", math.hypot(one.error, other.error)
        sheet.close(name, other.value - one.value, 0.0, abs=PARALLEL, se=error, given=enough)


def test_error(sheet: Sheet, context: Context) -> None:
    """Check ``test-error-of-regime-1``."""
    net = regimes.find(context.scale)
    rows = [[float(run.test_error()[1][-1]) for run in context.runs(regimes.minima(net, seed))] for seed in net.seeds]
    table = 100 * np.array(rows)
    gain = sample_mean(table[:, 0] - table[:, -1])
    # images are drawn as well as seeds, and all seeds have the same
    count = len(load_data(net.settings).test_labels)
    drawn = [100 * share_error(float(share) * count / 100, count) for share in table.mean(0)[[0, -1]]]
    error = math.hypot(gain.known_error, *drawn)
    sheet.at_least("test error at the lowest ELR less that at the highest, points", gain.value, 0.0, se=error)
    shown = ", ".join(f"{value:.1f} at {elr:.3g}" for elr, value in zip(net.convergence, table.mean(0)))
    sheet.note(f"test error, %, mean over {len(rows)} seeds: {shown}")


def peak(sheet: Sheet, context: Context) -> None:
    """Check ``gradient-peak``."""
    net = regimes.find(context.scale)
    for seed in net.seeds:
        runs = context.runs(regimes.sweep(net, [seed]))
        verdicts = [classify(run).regime for run in runs]
        edge = boundaries([(run.elr, seed, regime) for run, regime in zip(runs, verdicts)])["1/2"]
        name = f"seed {seed}"
        if edge["low"] is None or edge["high"] is None:
            sheet.undecided(f"{name}: the sweep does not bracket the boundary 1/2")
            continue
        found = transition_peak([gradient_peak(run) for run, regime in zip(runs, verdicts) if regime != 3])
        told = ", ".join(f"{eg.value:.3g} at {elr:.3g}" for elr, eg in found.eg)
        sheet.note(f"{name}: eg late in the run {told}; boundary {edge['low']:.3g} to {edge['high']:.3g}")
        at = edge["low"] <= found.elr <= edge["high"]
        clear = sheet.needs(
            f"{name}: the largest gradient stands out by 2 s.e.", float(found.decided or not at), at_least=1
        )
        sheet.true(f"{name}: the ELR of the largest gradient is at the boundary", at, True, given=clear)


def with_double_descent(sheet: Sheet, context: Context) -> None:
    """Check ``double-descent``."""
    requests = regimes.much_label_noise(context.scale)
    seen: list[bool | None] = []
    apart = []
    for request, run in zip(requests, context.runs(requests)):
        found = run_double_descent(run)
        seen.append(None if found.verdict == "undecided" else found.verdict == "double descent")
        constant = run.config.get("constant_loss")
        top = gradient_peak(run, below=math.inf if constant is None else float(constant))
        sheet.note(f"seed {request.seed}: {found.verdict}, {found.reason}; the gradient peaks at epoch {top.epoch}")
        if found.verdict == "double descent" and top.epoch > 0 and found.turns[1] > 0:
            apart.append(math.log(top.epoch / found.turns[1]))
    sheet.every("seeds with double descent of the test error", seen)
    enough = sheet.needs("seeds with both peaks", len(apart), at_least=3)
    mean = sample_mean(np.array(apart)) if apart else Estimate(math.nan, math.nan)
    name = "log ratio of the epochs of the two peaks, gradient over test error"
    sheet.close(name, mean.value, 0.0, abs=math.log(2), se=mean.error, given=enough)

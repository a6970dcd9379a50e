"""Claims of Kodryan, Lobacheva et al. 2022 about the trajectories of regime 1 and the peak of the gradient above it.

What was changed after a first look is told in ``catalogue.ini``.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np

from scaleinv.analysis.double_descent import run_double_descent
from scaleinv.analysis.regimes import boundaries, classify
from scaleinv.analysis.statistics import UNKNOWN, Estimate, Floats, sample_mean
from scaleinv.analysis.trajectories import Trajectory, compare, trajectory
from scaleinv.analysis.transition import first_passage, gradient_peak
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
        slopes.append(slope(x, y))
    if slopes:
        mean = combine(slopes)
        sheet.at_most("exponent of the time in the ELR", mean.value, 0.0, se=mean.error)
        sheet.note(f"time ~ ELR^{mean.value:.2f} (s.e. {mean.error:.2g}); -1 where only the speed differs")


def slope(x: Floats, y: Floats) -> Estimate:
    """Fit a straight line to at least three points by least squares: its slope, with the error of independent scatter.

    >>> slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
    Estimate(value=2.0, error=0.0)
    """
    x = x - x.mean()
    found = float(x @ y) / float(x @ x)
    rest = y - y.mean() - found * x
    return Estimate(found, math.sqrt(float(rest @ rest) / float(x @ x) / (len(x) - 2)))


def line(path: Trajectory, highest: float) -> Estimate:
    """Fit the slope of log eg against log loss below a loss; NaN where there are too few points or no range."""
    keep = path.loss < highest
    x, y = np.log(path.loss[keep]), np.log(path.eg[keep])
    if len(x) < FEWEST_POINTS or np.ptp(x) < math.log(2):
        return Estimate(math.nan, math.nan)
    return slope(x, y)


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
        late = {run.elr: gradient_peak(run).final_eg for run, regime in zip(runs, verdicts) if regime != 3}
        told = ", ".join(f"{eg.value:.3g} at {elr:.3g}" for elr, eg in late.items())
        sheet.note(f"{name}: eg late in the run {told}; boundary {edge['low']:.3g} to {edge['high']:.3g}")
        stands_out(sheet, name, late, edge["low"], edge["high"])


def stands_out(sheet: Sheet, name: str, late: Mapping[float, Estimate], low: float, high: float) -> None:
    """Judge that the largest gradient late in a run among ELRs in [low, high] is above the largest elsewhere."""
    inside, outside = (
        max((eg for elr, eg in late.items() if (low <= elr <= high) is at), key=lambda eg: eg.value, default=UNKNOWN)
        for at in (True, False)
    )
    ratio, error = inside.value / outside.value, math.hypot(inside.error / inside.value, outside.error / outside.value)
    sheet.at_least(f"{name}: largest eg at the boundary over the largest elsewhere", ratio, 1.0, log_se=error)


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

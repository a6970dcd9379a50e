"""Claims of Kodryan, Lobacheva et al. 2022 about regime 2: its level, its region, and where it leads."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from scaleinv.analysis.stationarity import Stationarity, loss_level
from scaleinv.analysis.statistics import Estimate
from scaleinv.analysis.trajectories import spectrum, trajectory
from scaleinv.lab.weights import kept_epochs, read_weights
from scaleinv.landscape.averages import convexity
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import points_of, surface_of
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import evidence
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.runfolder.read import load_run

SEEDS = (0, 1, 2, 3)
#: levels of regime 2 wander by 10 % from window to window: with three seeds the error is as large as what may pass
LEVEL_SEEDS = (0, 1, 2, 3, 4)


def _seeds(context: Context, wanted: Sequence[int]) -> Sequence[int]:
    """Return ``wanted`` on digits, else the network's own seeds: there a run takes minutes."""
    return wanted if context.scale == "digits" else regimes.find(context.scale).seeds


def _folders(context: Context, net: regimes.Net, seed: int) -> dict[float, Path]:
    """Return the lowest and the highest run in regime 2 of a seed by ELR."""
    ends = (net.equilibrium[0], net.equilibrium[-1])
    return dict(zip(ends, context.folders(regimes.sweep(net, [seed], ends))))


def level(sheet: Sheet, context: Context) -> None:
    """Check ``level-of-regime-2``."""
    net = regimes.find(context.scale)
    below, middle, above = net.equilibrium[:3]
    ratios: dict[str, list[Estimate]] = {"below": [], "above": []}
    early: dict[str, list[Estimate]] = {"below": [], "above": []}
    starts: list[Estimate] = []
    drifting = 0

    def log_ratio(a: Stationarity, b: Stationarity) -> Estimate:
        value = math.log(a.level.value / b.level.value)
        return Estimate(value, math.hypot(a.level.error / a.level.value, b.level.error / b.level.value))

    for seed in _seeds(context, LEVEL_SEEDS):
        runs = dict(zip((below, middle, above), context.runs(regimes.sweep(net, [seed], (below, middle, above)))))
        fresh = {elr: loss_level(run) for elr, run in runs.items()}
        starts.append(log_ratio(fresh[above], fresh[below]))
        for words, start in (("below", below), ("above", above)):
            request = regimes.relaxed(net, runs[start].folder, middle, seed=seed + 100)
            (run,) = context.runs([request])
            found = loss_level(run)
            early[words].append(log_ratio(loss_level(run, 6, run.last_epoch // 4), fresh[middle]))
            ratios[words].append(log_ratio(found, fresh[middle]))
            drifting += found.verdict == "drifting"
            sheet.note(f"seed {seed} from {words}: {found.level.value:.3g}, fresh {fresh[middle].level.value:.3g}")
    # else the test would be empty: levels apart by less than the tolerance, or not reached
    apart = math.exp(min(e.value for e in starts))
    enough = sheet.needs("levels of the two starts, least ratio over seeds", apart, at_least=1.5)
    enough &= sheet.needs("continued runs that drift", drifting, at_most=0)
    for words, logs in ratios.items():
        evidence.ratio_is_one(sheet, f"level reached from {words} over that from scratch", logs, 0.15, given=enough)
        first = evidence.combine(early[words])
        sheet.note(f"from {words}, in epochs 6 to a quarter: x{math.exp(first.value):.3g} (s.e. {first.error:.2g})")


def leaving_regime_2(sheet: Sheet, context: Context) -> None:
    """Check ``from-regime-2-to-1``."""
    net = regimes.find(context.scale)
    landings: dict[str, list[evidence.Landing]] = {"low": [], "high": []}
    for words, start, seed, ended in _landed(context, net, _seeds(context, SEEDS)):
        found = spectrum([trajectory(load_run(folder)) for folder in ended.values()], evidence.LEVELS[context.scale])
        landings[words].append(evidence.Landing(dict(zip(ended, found.mean)), {}))
        curvature = ", ".join(f"{math.exp(m.value):.3g}" for m in found.mean)
        sheet.note(f"seed {seed}, {words} start {start:.3g}: eg/loss {curvature} at new ELRs {tuple(ended)}")
    evidence.one_curvature(sheet, landings["low"], landings["high"])


def connected_after_regime_2(sheet: Sheet, context: Context) -> None:
    """Check ``connected-after-regime-2``."""
    net = regimes.for_paths(context.scale)
    landings: dict[str, list[evidence.Landing]] = {"low": [], "high": []}
    for words, _, seed, ended in _landed(context, net, net.seeds):
        surface = surface_of(next(iter(ended.values())))
        ends = {elr: read_weights(folder) for elr, folder in ended.items()}
        paths = {(a, b): linear_path(surface, ends[a], ends[b]) for a, b in itertools.combinations(ends, 2)}
        barriers = {pair: 100 * path.barrier("train_error").height for pair, path in paths.items()}
        landings[words].append(evidence.Landing({}, barriers))
        rise = max(path.barrier().height for path in paths.values())
        angle = max(path.angle for path in paths.values())
        sheet.note(f"seed {seed}, {words} start: highest barrier of the train loss {rise:.3g}, angle {angle:.2f} rad")
    evidence.connected(sheet, landings["low"], landings["high"], len(surface.train[1]))


def _landed(
    context: Context, net: regimes.Net, seeds: Sequence[int]
) -> Iterator[tuple[str, float, int, dict[float, Path]]]:
    """Yield (low or high, ELR of the start, seed, runs by new ELR) of both starts and every seed."""
    new = regimes.new_elrs(net)
    for seed in seeds:
        folders = _folders(context, net, seed)
        for words, start in zip(("low", "high"), folders):
            ended = context.folders(regimes.retrained(net, folders[start], new, seed=seed + 100))
            yield words, start, seed, dict(zip(new, ended))


def convexity_of_the_region(sheet: Sheet, context: Context) -> None:
    """Check ``convexity-of-regime-2``."""
    regions: dict[str, list[evidence.Region]] = {"low": [], "high": []}
    net = regimes.find(context.scale)
    for seed in SEEDS:
        for words, folder in zip(("low", "high"), _folders(context, net, seed).values()):
            epochs = kept_epochs(folder)
            late = [epoch for epoch in epochs if epoch > epochs[-1] / 2]
            found = convexity(surface_of(folder), [weights for _, weights in points_of(folder, late)])
            regions[words].append(evidence.Region(found.average.excess, found.share_above))
    evidence.local_convexity(sheet, regions["low"], regions["high"])

"""Claims of Kodryan, Lobacheva et al. 2022: which regimes there are, and that regime 3 is little more than a walk."""

import math
from collections.abc import Sequence

import numpy as np

from scaleinv.analysis.statistics import sample_mean
from scaleinv.lab.build import build
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.landscape.surface import Surface
from scaleinv.landscape.walks import WalkComparison, compare, random_directions
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.draws import scatter
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022.regime_evidence import Point, point, three_regimes, visible
from scaleinv.papers.scales import settings
from scaleinv.studies.obtain import Request


def points(context: Context, requests: Sequence[Request]) -> list[Point]:
    """Read the runs asked for; train those that are missing."""
    return [point(run, r.elr or r.lr or 0.0) for run, r in zip(context.runs(requests), requests)]


def on_the_sphere(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes``."""
    three_regimes(sheet, "convnet", points(context, regimes.sweep(regimes.find(context.scale))))


def of_an_mlp(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes-mlp``."""
    three_regimes(sheet, "mlp", points(context, regimes.sweep(regimes.find("digits", "mlp"))))


def of_a_resnet(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes-resnet``."""
    resnet, elrs = regimes.resnet()
    three_regimes(sheet, "resnet18", points(context, [Request(settings=resnet, elr=elr) for elr in elrs]))


def of_the_squared_loss(sheet: Sheet, context: Context) -> None:
    """Check ``three-regimes-squared-loss``."""
    mlp, elrs = regimes.squared_loss()
    wanted = [Request(settings=mlp, elr=elr, seed=seed) for seed in (0, 1, 2) for elr in elrs]
    three_regimes(sheet, "mlp, squared loss", points(context, wanted))


def whole_space(sheet: Sheet, context: Context) -> None:
    """Check ``regimes-in-whole-space``."""
    net = regimes.find(context.scale)
    for kind in ("weight-decay", "conventional"):
        visible(sheet, kind, points(context, regimes.whole_space(net, kind)))


#: deep in regime 3: a step turns the weights by almost a right angle
WALK_ELR = 0.3
WALK_SEEDS = (0, 1, 2, 3, 4)
WALK_STEPS = 300
#: draws of 8 random directions a network: the mean loss of 40 is known to about 2 %
DRAWS = 5


def compare_heads(
    scale: str, elr: float, seeds: Sequence[int], steps: int, draws: int = DRAWS
) -> tuple[list[WalkComparison], list[float], float]:
    """Run SGD, random walk and gradient ascent from one start, for several networks, each with a head of its own;
    return also the mean loss of random directions with that head and the error of the best constant answer.
    """
    # eps as small as float32 allows: huge steps make some rows tiny, and eps would silence them
    chosen = settings(scale, model="convnet", norm_eps=1e-12)
    data_set = load_data(chosen)
    found, levels = [], []
    chance = math.nan
    for seed in seeds:
        config = resolve(chosen, data_set, elr=elr, lr=None, seed=seed, threads=1)
        assert config.chance_error is not None
        chance = config.chance_error
        surface = Surface.of_setup(build(config, data_set), config.batch_size)
        found.append(compare(surface, elr, steps, seeds=(seed,)))
        others = [random_directions(surface, seed=1000 * k + seed).loss for k in range(1, draws)]
        levels.append(float(np.mean([found[-1].random.loss, *others])))
    return found, levels, chance


def judge_walks(sheet: Sheet, found: Sequence[WalkComparison], levels: Sequence[float], chance: float) -> None:
    """Judge the order of the losses, the level of the walk, cosines and errors, with their scatter over networks."""
    level = {kind: np.array([c.loss[kind].mean() for c in found]) for kind in ("walk", "sgd", "ascent")}
    random = np.array(levels)
    for kind in level:
        cosines = [abs(float(c.cosine[kind].mean())) for c in found]
        sheet.at_most(f"cosine of neighbours, {kind}", max(cosines), 0.02, se=scatter(cosines))
        error = sample_mean(np.array([c.error[kind].mean() for c in found]))
        sheet.close(f"error, {kind}", error.value, chance, rel=0.05, se=error.error)
    for lower, upper in (("walk", "sgd"), ("sgd", "ascent")):
        step = sample_mean(level[upper] - level[lower])
        sheet.at_least(f"loss {upper} - {lower}, in s.e.", step.value / step.error if step.error else np.nan, -2.0)
        sheet.note(f"loss {upper} - {lower}: {step.value:+.3f} (s.e. {step.error:.3f})")
    ratio = sample_mean(level["walk"] / random)
    sheet.close("loss of the walk over that of random directions", ratio.value, 1.0, rel=0.03, se=ratio.error)
    sheet.note(
        f"{len(found)} networks: walk {level['walk'].mean():.2f}, SGD {level['sgd'].mean():.2f}, "
        f"ascent {level['ascent'].mean():.2f}, random directions {random.min():.2f} to {random.max():.2f} by head"
    )


def regime_3(sheet: Sheet, context: Context) -> None:
    """Check ``regime-3``."""
    seeds = [context.seed(seed) for seed in WALK_SEEDS]
    judge_walks(sheet, *compare_heads(context.scale, WALK_ELR, seeds, WALK_STEPS))

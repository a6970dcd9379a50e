"""Regime 3 (Kodryan et al. 2022): training at a large ELR is little more than a random walk."""

from __future__ import annotations

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
from scaleinv.papers.scales import settings

#: deep in regime 3: a step turns the weights by almost a right angle
ELR = 0.3
SEEDS = (0, 1, 2, 3, 4)
STEPS = 300
#: draws of 8 random directions a network: the mean loss of 40 is known to about 2 %
DRAWS = 5


def compare_heads(
    scale: str, elr: float, seeds: Sequence[int], steps: int, draws: int = DRAWS
) -> tuple[list[WalkComparison], list[float], float]:
    """SGD, random walk and gradient ascent from one start, for several networks, each with a head of its own; the mean
    loss of random directions with that head; and the error of the best constant answer.
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


def judge(sheet: Sheet, found: Sequence[WalkComparison], levels: Sequence[float], chance: float) -> None:
    """The order of the losses, the level of the walk, the cosines and the errors, with their scatter over networks."""
    level = {kind: np.array([c.loss[kind].mean() for c in found]) for kind in ("walk", "sgd", "ascent")}
    random = np.array(levels)
    for kind in level:
        cosines = [abs(float(c.cosine[kind].mean())) for c in found]
        sheet.at_most(f"cosine of neighbours, {kind}", max(cosines), 0.02, se=scatter(cosines))
        error = sample_mean(np.array([c.error[kind].mean() for c in found]))
        sheet.close(f"error, {kind}", error.value, chance, rel=0.05, se=error.error)
    for lower, upper in (("walk", "sgd"), ("sgd", "ascent")):
        step = level[upper] - level[lower]
        se = float(step.std(ddof=1) / np.sqrt(len(step)))
        sheet.at_least(f"loss {upper} - {lower}, in s.e.", float(step.mean()) / se if se else np.nan, -2.0)
        sheet.note(f"loss {upper} - {lower}: {step.mean():+.3f} (s.e. {se:.3f})")
    ratio = level["walk"] / random
    se = float(ratio.std(ddof=1) / np.sqrt(len(ratio)))
    sheet.close("loss of the walk over that of random directions", float(ratio.mean()), 1.0, rel=0.03, se=se)
    sheet.note(
        f"{len(found)} networks: walk {level['walk'].mean():.2f}, SGD {level['sgd'].mean():.2f}, "
        f"ascent {level['ascent'].mean():.2f}, random directions {random.min():.2f} to {random.max():.2f} by head"
    )


def regime_3(sheet: Sheet, context: Context) -> None:
    """Check ``regime-3``."""
    judge(sheet, *compare_heads(context.scale, ELR, SEEDS, STEPS))

"""Runs in the whole space with weight decay (Lobacheva et al. 2021), for claims and figures alike.

One weight decay and rates lr, 2 lr, 4 lr, 8 lr are the backbone (a factor 8 of lr wd, as in the paper's Fig. 3 lr is
what varies), with one much larger rate (equilibrium) and one much smaller (no period yet) beside them. Lengths are in
units of 1/(lr wd), chosen before any result: a burn-in of two, then 20 break-downs at half a unit each over the seeds.

>>> [request.lr for request in rates("digits", seeds=(0,))]
[0.075, 0.15, 0.3, 0.6]
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaleinv.lab.config import Settings
from scaleinv.papers.scales import pick, settings
from scaleinv.studies.obtain import Request

#: two seeds for everything that is measured
SEEDS = (0, 1)


#: what a scale changes; on 5000 images of CIFAR-10 batches of 32, since a period is a number of steps, and a step costs
#: as many images as it sees; width 8 has too few weights to fit them, and rests in equilibrium at lr 0.01
_CHANGES: dict[str, dict[str, Any]] = {
    "digits": {"weight_decay": 4e-3},  # batch 16: 90 steps an epoch, about 2 ms each
    "mnist": {"weight_decay": 1e-2},  # batch 128: 40 steps an epoch, about 25 ms each
    # minutes: so few images are fitted within a period of 1/(lr wd) = 1000 steps
    "cifar-tiny": {"width": 8, "batch_size": 16, "weight_decay": 1e-2, "eval_every": 100},
    # 157 steps an epoch, about 40 ms each; a test of 10 000 images costs as much as 30 of them
    "cifar-small": {"width": 16, "batch_size": 32, "weight_decay": 1e-2, "eval_every": 10},
    "paper": {"weight_decay": 1e-3},  # 391 steps an epoch: long
}
#: twice the norm that the network has as initialised, where the ELR is a quarter
TWICE_NORM = {"digits": 12.6, "mnist": 12.6, "cifar-tiny": 12.6, "cifar-small": 18.1, "paper": 25.3}


def base(scale: str) -> Settings:
    """Return data set, network and weight decay of the scale, without a length."""
    changes = pick(_CHANGES, scale, "runs with periods")
    return settings(scale, model="convnet", evaluation="online", **{"eval_every": 1, **changes})


@dataclass(frozen=True)
class PeriodPlan:
    """The backbone of a scale and what stands beside it; rates ascend by factors of 2."""

    rates: tuple[float, ...]  # of SGD
    steps: tuple[int, ...]  # of each
    keep_every: int  # epochs between the weights kept of the rate ``KEPT``
    large: tuple[float, int]  # rate and steps of the equilibrium
    small: tuple[float, int]  # rate and steps that are too short for a period
    other: float  # another lr with the lr wd of the rate ``MIDDLE``; far below it, so that the first ELRs are low
    spheres: tuple[float, ...]  # ELRs around the 1/2 boundary, factors of 2
    sphere_steps: int


KEPT, MIDDLE = 1, 2
_PLANS = {
    "digits": PeriodPlan(
        (0.075, 0.15, 0.3, 0.6), (26_000, 11_000, 5000, 4000), keep_every=1,
        large=(7.5, 2000), small=(7.5e-3, 4000), other=0.03,
        spheres=(2e-3, 4e-3, 8e-3), sphere_steps=4500,
    ),
    "cifar-tiny": PeriodPlan(
        (0.025, 0.05, 0.1, 0.2), (40_000, 20_000, 12_000, 8000), keep_every=1,
        large=(3.0, 6000), small=(0.01, 6000), other=0.01,
        # at 6000 steps the losses of the three lowest had not settled
        spheres=(2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3), sphere_steps=20_000,
    ),
    "cifar-small": PeriodPlan(
        (0.005, 0.01, 0.02, 0.04), (160_000, 80_000, 40_000, 24_000), keep_every=1,
        large=(1.0, 8000), small=(1e-3, 20_000), other=0.002,
        spheres=(2e-4, 4e-4, 8e-4, 1.6e-3), sphere_steps=16_000,
    ),
    "mnist": PeriodPlan(
        (0.0125, 0.025, 0.05, 0.1), (80_000, 40_000, 20_000, 12_000), keep_every=1,
        large=(3.0, 4000), small=(1e-3, 8000), other=0.005,
        spheres=(1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3), sphere_steps=20_000,
    ),
    "paper": PeriodPlan(
        (0.01, 0.02, 0.04, 0.08), (1_955_000, 978_000, 489_000, 391_000), keep_every=5,
        large=(1.0, 391_000), small=(1e-3, 391_000), other=3e-3,
        spheres=(1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3), sphere_steps=391_000,
    ),
}  # fmt: skip


def _plan(scale: str) -> PeriodPlan:
    return pick(_PLANS, scale, "runs with periods")


def rate_request(scale: str, index: int, seed: int = 0) -> Request:
    """Request the backbone's run of rate ``index`` (0 the smallest, 3 the largest lr)."""
    plan = _plan(scale)
    keep_every = plan.keep_every if index == KEPT else base(scale).keep_every
    one = replace(base(scale), steps=plan.steps[index], keep_every=keep_every)
    return Request(settings=one, lr=plan.rates[index], seed=seed)


def rates(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """Request the backbone: lr wd over a factor 8, one weight decay, every seed; lr by lr."""
    return [rate_request(scale, i, seed) for i in range(len(_plan(scale).rates)) for seed in seeds]


def kept(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """Request the backbone's run whose weights are kept after every few epochs."""
    return [rate_request(scale, KEPT, seed) for seed in seeds]


def same_product(scale: str, seeds: Sequence[int] = SEEDS) -> tuple[list[Request], list[Request]]:
    """Request two lr with the same lr wd: the backbone's, and one far smaller with more weight decay."""
    plan = _plan(scale)
    there = [rate_request(scale, MIDDLE, seed) for seed in seeds]
    decay = float(f"{plan.rates[MIDDLE] * base(scale).weight_decay / plan.other:.12g}")
    one = replace(base(scale), weight_decay=decay, steps=plan.steps[MIDDLE])
    return there, [Request(settings=one, lr=plan.other, seed=seed) for seed in seeds]


def warm_up(scale: str, seeds: int = 8) -> list[Request]:
    """Request runs from far below the critical ELR: ``same_product`` at its small lr, and more seeds of half length."""
    plan = _plan(scale)
    _, long = same_product(scale)
    short = replace(long[0].settings, steps=plan.steps[MIDDLE] // 2)
    return [*long, *(Request(settings=short, lr=plan.other, seed=seed) for seed in range(len(long), seeds))]


def large(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """Request a rate beyond the periods: equilibrium."""
    lr, steps = _plan(scale).large
    return [Request(settings=replace(base(scale), steps=steps), lr=lr, seed=seed) for seed in seeds]


def small(scale: str) -> Request:
    """Request a rate so small that the run ends before its first break-down."""
    lr, steps = _plan(scale).small
    return Request(settings=replace(base(scale), steps=steps), lr=lr)


def fixed_norm(scale: str, low: float, high: float) -> dict[float, list[Request]]:
    """Request the backbone's middle rate with the norm fixed well off the boundary between regimes 1 and 2, which lies
    between the ELRs ``low`` and ``high``: by ELR, a quarter of the one and four times the other, every seed.

    Closer to it the boundary's own intermittent band would throw the loss up, whatever the norm does.
    """
    plan = _plan(scale)
    lr, one = plan.rates[MIDDLE], replace(base(scale), steps=plan.steps[MIDDLE] * 2 // 5, fix_norm=True)
    seeds = SEEDS if scale == "digits" else (0, 1, 2)
    return {
        elr: [Request(settings=replace(one, norm=float(f"{math.sqrt(lr / elr):.6g}")), lr=lr, seed=k) for k in seeds]
        for elr in (low / 4, 4 * high)
    }


def kept_full_batch(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """Request full-batch gradient descent with its periods, the weights kept after every fifth step."""
    one = variations(scale)["full-batch gradient descent"]
    return [replace(one, settings=replace(one.settings, keep_every=5), seed=seed) for seed in seeds]


def continued(request: Request, run: Path, epoch: int, *, steps: int, fix: bool, seed: int) -> Request:
    """Request a run that starts from weights that ``run``, the run of ``request``, kept, with the norm free or fixed
    where it is; ``seed`` decides the batches, the same for both.
    """
    one = replace(request.settings, steps=steps, fix_norm=fix, keep_every=None)
    return Request(settings=one, lr=request.lr, seed=seed, start=run, start_epoch=epoch)


def spheres(scale: str) -> list[Request]:
    """Request the same network on the sphere, ELRs around the boundary between regimes 1 and 2."""
    plan = _plan(scale)
    one = replace(base(scale), steps=plan.sphere_steps, weight_decay=0.0, record_steps=True)
    return [Request(settings=one, elr=elr) for elr in plan.spheres]


def resting(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """Request an MLP in equilibrium: cheap, and its loss stays well above 0."""
    width, steps = (64, 20_000) if scale == "digits" else (256, 40_000)
    one = replace(base(scale), model="mlp", width=width, weight_decay=1e-2, steps=steps)
    return [Request(settings=one, lr=0.1, seed=seed) for seed in seeds]


def variations(scale: str) -> dict[str, Request]:
    """Request runs with one thing changed at a time, as in the paper's ablations, at the backbone's rate ``MIDDLE``.

    Momentum m divides lr by 1 - m, so that lr / (1 - m) and with it decay per step stay the same.
    """
    plan = _plan(scale)
    lr = plan.rates[MIDDLE]
    longer = replace(base(scale), steps=plan.steps[MIDDLE])
    one = replace(longer, steps=plan.steps[MIDDLE] * 3 // 5)
    full = replace(one, model="mlp", width=64, subset=256, gradient="full", weight_decay=0.2, steps=1200)
    found = {
        "momentum 0.9": (replace(one, momentum=0.9), float(f"{lr * 0.1:.12g}")),
        # its loss and that of weight normalization stay higher: more time to tell an equilibrium
        "augmentation": (replace(longer, augment=True), lr),
        "trainable affine norms and head": (replace(one, variant="standard"), lr),
        "layer normalization": (replace(one, normalization="layer"), lr),
        "group normalization": (replace(one, normalization="group"), lr),
        "weight normalization": (replace(longer, normalization="weight"), lr),
        # Adam's steps do not shrink with the gradient: rates of their own
        "Adam with L2": (replace(longer, optimizer="adam", weight_decay=2e-3), 2e-3),
        # without noise the norm falls far below 1 before it breaks down, where eps would end the scale invariance
        "full-batch gradient descent": (replace(full, norm_eps=1e-10), 0.1),
        "AdamW": (replace(longer, optimizer="adamw", weight_decay=1.0), 1e-3),
    }
    return {name: Request(settings=changed, lr=rate) for name, (changed, rate) in found.items()}

"""Runs in the whole space with weight decay (Lobacheva et al. 2021), for claims and figures alike.

One weight decay and rates lr, 2 lr, 4 lr, 8 lr are the backbone (a factor 8 of lr wd, as in the paper's Fig. 3 lr is
what varies), with one much larger rate (equilibrium) and one much smaller (no period yet) beside them. Lengths are in
units of 1/(lr wd) and were chosen before any result was seen: 20 break-downs at half a unit each over the seeds, after
a burn-in of two units.

>>> [request.lr for request in rates("digits", seeds=(0,))]
[0.075, 0.15, 0.3, 0.6]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.studies.obtain import Request

#: two seeds for everything that is measured
SEEDS = (0, 1)


@dataclass(frozen=True)
class PeriodRuns:
    """The numbers of a scale; rates ascend by factors of 2."""

    settings: Settings  # with the weight decay, without a length
    rates: tuple[float, ...]  # of SGD
    steps: tuple[int, ...]  # of each
    kept: int  # index of the rate whose weights are kept, every ``keep_every`` epochs
    keep_every: int
    large: tuple[float, int]  # rate and steps of the equilibrium
    small: tuple[float, int]  # rate and steps that are too short for a period
    other: float  # another lr with the lr wd of the rate ``middle``; far below it, so that the first ELRs are low
    middle: int
    spheres: tuple[float, ...]  # ELRs around the 1/2 boundary, factors of 2
    sphere_steps: int


def _scale(name: str) -> PeriodRuns:
    online = Settings(evaluation="online", eval_every=1)
    if name == "digits":  # ConvNet of width 8, batch 16: 90 steps an epoch, about 2 ms each
        return PeriodRuns(
            replace(online, data="digits", model="convnet", weight_decay=4e-3),
            rates=(0.075, 0.15, 0.3, 0.6),
            steps=(26_000, 11_000, 5000, 4000),
            kept=1,
            keep_every=1,
            large=(7.5, 2000),
            small=(7.5e-3, 4000),
            other=0.03,
            middle=2,
            spheres=(2e-3, 4e-3, 8e-3),
            sphere_steps=4500,
        )
    if name == "cifar-small":  # 5000 images at batch 32: 157 steps an epoch, about 20 ms each; width 8 cannot fit them
        return PeriodRuns(
            replace(online, data="cifar10", subset=5000, model="convnet", width=16, batch_size=32, weight_decay=1e-2),
            rates=(0.005, 0.01, 0.02, 0.04),
            steps=(160_000, 80_000, 40_000, 24_000),
            kept=1,
            keep_every=1,
            large=(1.0, 8000),
            small=(1e-3, 20_000),
            other=0.002,
            middle=2,
            spheres=(2e-4, 4e-4, 8e-4, 1.6e-3),
            sphere_steps=16_000,
        )
    if name == "mnist":  # 5000 images at batch 128: 40 steps an epoch, about 25 ms each
        return PeriodRuns(
            replace(online, data="mnist", subset=5000, model="convnet", width=8, weight_decay=1e-2),
            rates=(0.0125, 0.025, 0.05, 0.1),
            steps=(80_000, 40_000, 20_000, 12_000),
            kept=1,
            keep_every=1,
            large=(3.0, 4000),
            small=(1e-3, 8000),
            other=0.005,
            middle=2,
            spheres=(1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3),
            sphere_steps=20_000,
        )
    if name == "paper":  # Lobacheva et al. 2021: ConvNet of width 32, 50000 images, 391 steps an epoch: long
        return PeriodRuns(
            replace(online, data="cifar10", model="convnet", width=32, weight_decay=1e-3),
            rates=(0.01, 0.02, 0.04, 0.08),
            steps=(1_955_000, 978_000, 489_000, 391_000),
            kept=1,
            keep_every=5,
            large=(1.0, 391_000),
            small=(1e-3, 391_000),
            other=3e-3,
            middle=2,
            spheres=(1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3),
            sphere_steps=391_000,
        )
    raise UserError(f"no runs with periods are defined at scale {name!r}; there are digits, mnist, cifar-small, paper")


def base(scale: str) -> Settings:
    """Data set, network and weight decay of the scale, without a length."""
    return _scale(scale).settings


def rate_request(scale: str, index: int, seed: int = 0) -> Request:
    """The backbone's run of rate ``index`` (0 the smallest, 3 the largest lr)."""
    chosen = _scale(scale)
    settings = replace(chosen.settings, steps=chosen.steps[index])
    if index == chosen.kept:
        settings = replace(settings, keep_every=chosen.keep_every)
    return Request(settings=settings, lr=chosen.rates[index], seed=seed)


def rates(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """The backbone: lr wd over a factor 8, one weight decay, every seed; lr by lr."""
    return [rate_request(scale, i, seed) for i in range(len(_scale(scale).rates)) for seed in seeds]


def kept(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """The backbone's run whose weights are kept after every few epochs."""
    return [rate_request(scale, _scale(scale).kept, seed) for seed in seeds]


def same_product(scale: str, seeds: Sequence[int] = SEEDS) -> tuple[list[Request], list[Request]]:
    """Two lr with the same lr wd: the backbone's, and one far smaller with more weight decay."""
    chosen = _scale(scale)
    there = [rate_request(scale, chosen.middle, seed) for seed in seeds]
    settings = replace(chosen.settings, weight_decay=_other_decay(chosen), steps=chosen.steps[chosen.middle])
    return there, [Request(settings=settings, lr=chosen.other, seed=seed) for seed in seeds]


def _other_decay(chosen: PeriodRuns) -> float:
    return float(f"{chosen.rates[chosen.middle] * chosen.settings.weight_decay / chosen.other:.12g}")


def warm_up(scale: str, seeds: int = 8) -> list[Request]:
    """Runs whose first ELR lies far below the critical one: those of the small lr of ``same_product``, and more seeds
    of half their length.
    """
    chosen = _scale(scale)
    _, long = same_product(scale)
    short = replace(long[0].settings, steps=chosen.steps[chosen.middle] // 2)
    return [*long, *(Request(settings=short, lr=chosen.other, seed=seed) for seed in range(len(long), seeds))]


def large(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """A rate beyond the periods: equilibrium."""
    chosen = _scale(scale)
    lr, steps = chosen.large
    return [Request(settings=replace(chosen.settings, steps=steps), lr=lr, seed=seed) for seed in seeds]


def small(scale: str) -> Request:
    """A rate so small that the run ends before its first break-down."""
    chosen = _scale(scale)
    lr, steps = chosen.small
    return Request(settings=replace(chosen.settings, steps=steps), lr=lr)


def fixed_norm(scale: str) -> list[Request]:
    """The backbone's second rate with the norm fixed: as initialised, and at twice that, in regime 1."""
    chosen = _scale(scale)
    settings = replace(chosen.settings, steps=chosen.steps[chosen.kept] // 3, fix_norm=True)
    lr = chosen.rates[chosen.kept]
    norm = {"digits": 12.6, "mnist": 12.6, "cifar-small": 18.1, "paper": 25.3}[scale]
    return [Request(settings=settings, lr=lr), Request(settings=replace(settings, norm=norm), lr=lr)]


def kept_full_batch(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """Full-batch gradient descent with its periods, the weights kept after every fifth step."""
    one = variations(scale)["full-batch gradient descent"]
    return [replace(one, settings=replace(one.settings, keep_every=5), seed=seed) for seed in seeds]


def continued(request: Request, run: Path, epoch: int, *, steps: int, fix: bool, seed: int) -> Request:
    """From weights that ``run``, the run of ``request``, kept: on with the norm free, or fixed where it is; ``seed``
    decides the batches, the same for both.
    """
    settings = replace(request.settings, steps=steps, fix_norm=fix, keep_every=None)
    return Request(settings=settings, lr=request.lr, seed=seed, start=run, start_epoch=epoch)


def spheres(scale: str) -> list[Request]:
    """The same network on the sphere, ELRs around the boundary between regimes 1 and 2."""
    chosen = _scale(scale)
    settings = replace(chosen.settings, steps=chosen.sphere_steps, weight_decay=0.0, record_steps=True)
    return [Request(settings=settings, elr=elr) for elr in chosen.spheres]


def resting(scale: str, seeds: Sequence[int] = SEEDS) -> list[Request]:
    """An MLP in equilibrium: cheap, and its loss stays well above 0."""
    chosen = _scale(scale)
    width, steps = (64, 20_000) if scale == "digits" else (256, 40_000)
    settings = replace(chosen.settings, model="mlp", width=width, weight_decay=1e-2, steps=steps)
    return [Request(settings=settings, lr=0.1, seed=seed) for seed in seeds]


def variations(scale: str) -> dict[str, Request]:
    """One thing changed at a time, at the backbone's ``middle`` rate: what the paper's ablations vary.

    Momentum m divides lr by 1 - m, so that lr / (1 - m) and with it decay per step stay the same.
    """
    chosen = _scale(scale)
    lr = chosen.rates[chosen.middle]
    longer = replace(chosen.settings, steps=chosen.steps[chosen.middle])
    one = replace(longer, steps=chosen.steps[chosen.middle] * 3 // 5)
    found = {
        "momentum 0.9": Request(settings=replace(one, momentum=0.9), lr=float(f"{lr * 0.1:.12g}")),
        # its loss and that of weight normalization stay higher: more time to tell an equilibrium
        "augmentation": Request(settings=replace(longer, augment=True), lr=lr),
        "trainable affine norms and head": Request(settings=replace(one, variant="standard"), lr=lr),
        "layer normalization": Request(settings=replace(one, normalization="layer"), lr=lr),
        "group normalization": Request(settings=replace(one, normalization="group"), lr=lr),
        "weight normalization": Request(settings=replace(longer, normalization="weight"), lr=lr),
    }
    # Adam's steps do not shrink with the gradient: rates of their own
    found["Adam with L2"] = Request(settings=replace(longer, optimizer="adam", weight_decay=2e-3), lr=2e-3)
    # without noise the norm falls far below 1 before it breaks down, where eps would end the scale invariance
    full = replace(one, model="mlp", width=64, subset=256, gradient="full", norm_eps=1e-10, weight_decay=0.2)
    found["full-batch gradient descent"] = Request(settings=replace(full, steps=1200), lr=0.1)
    found["AdamW"] = Request(settings=replace(longer, optimizer="adamw", weight_decay=1.0), lr=1e-3)
    return found

"""Compare SGD with a random walk and gradient ascent on one sphere, with one ELR: what regime 3 is like.

Kodryan et al. 2022 find that at large ELR the iterates of SGD are as uncorrelated as those of a random walk, whose loss
bounds SGD's from below while gradient ascent bounds it from above. Their code for it is not released; these steps
reproduce the order. All have the length of the same stochastic gradient g, and the projection on the sphere follows:

    sgd   x - lr g       ascent   x + lr g       walk   x + lr ||g|| d,  d a random tangent direction, ||d|| = 1

with lr = elr rho^2, so that each of them turns the weights by atan(elr eg).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.analysis.statistics import Floats, sample_mean
from scaleinv.errors import UserError
from scaleinv.lab.data import batches
from scaleinv.lab.levels import reference_rows
from scaleinv.lab.random import generator as stream
from scaleinv.landscape.surface import Surface, Weights

KINDS = ("sgd", "walk", "ascent")
#: purposes of random streams, far from those of the lab's set-up
_DIRECTIONS, _REFERENCE = 1001, 1002


@dataclass(frozen=True)
class Walk:
    """Every step of one walk; row t is step t, measured before it (cosine and angle: across it). NaN after a break."""

    kind: str  # sgd | walk | ascent
    elr: float
    seed: int
    rho: float
    loss: Floats = field(repr=False)  # (steps,) of the batch
    error: Floats = field(repr=False)
    eg: Floats = field(repr=False)  # effective norm of the stochastic gradient
    angle: Floats = field(repr=False)  # between x_t and x_t+1, radians, measured in float64
    weights: dict[str, Tensor] = field(repr=False, compare=False)  # at the end

    @property
    def cosine(self) -> Floats:
        """Of consecutive iterates; in theory :func:`scaleinv.theory.kodryan2022.cosine` of elr eg."""
        return np.cos(self.angle)

    @property
    def steps(self) -> int:
        """Steps made before the walk broke off or ended."""
        return int(np.isfinite(self.angle).sum())


def walk(
    surface: Surface,
    kind: str,
    elr: float,
    steps: int,
    *,
    weights: Weights | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> Walk:
    """Make ``steps`` steps from ``weights`` (``None``: the network's own), which set the radius.

    ``seed`` draws the batch order, as the lab's training does from its ``epoch`` on, and the directions of the walk; so
    ``sgd`` repeats a run of the lab. A gradient that is not finite ends the walk.
    """
    if kind not in KINDS:
        raise UserError(f"unknown walk {kind!r}; choose one of: {', '.join(KINDS)}")
    if not (math.isfinite(elr) and elr > 0):
        raise UserError(f"elr {elr} is not a positive number")
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    directions = stream(seed, _DIRECTIONS)
    columns = {name: np.full(steps, np.nan) for name in ("loss", "error", "eg", "angle")}
    images, labels = surface.train
    with surface.at(weights):
        x = surface.tensors
        rho = geometry.norm([t.detach() for t in x])
        lr = elr * float(rho) ** 2
        for t, batch in zip(range(steps), _orders(surface, seed, epoch)):
            with torch.enable_grad():
                logits = surface.model(images[batch])
                loss = surface.loss(logits, labels[batch])
                g = list(torch.autograd.grad(loss, x))
            norm = geometry.norm(g)
            columns["loss"][t] = float(loss.detach())
            columns["error"][t] = float((logits.detach().argmax(1) != labels[batch]).double().mean())
            columns["eg"][t] = float(norm) * float(rho)
            if not math.isfinite(columns["eg"][t]):
                break
            with torch.no_grad():
                before = [p.detach().clone() for p in x]
                if kind == "walk":
                    torch._foreach_add_(x, geometry.random_tangent(before, directions, lr * float(norm)))
                else:
                    torch._foreach_add_(x, g, alpha=-lr if kind == "sgd" else lr)
                geometry.retract_(x, rho)
                turn = float(geometry.angle([p.double() for p in before], [p.detach().double() for p in x]))
            if not math.isfinite(turn):
                break
            columns["angle"][t] = turn
        end = surface.weights()
    return Walk(kind=kind, elr=elr, seed=seed, rho=float(rho), weights=end, **columns)


def _orders(surface: Surface, seed: int, epoch: int) -> Iterator[Tensor]:
    n, size = len(surface.train[1]), surface.batch_size
    while True:
        yield from [torch.arange(n)] if size is None else batches(n, size, seed=seed, epoch=epoch)
        epoch += 1


@dataclass(frozen=True)
class RandomDirections:
    """Train-mode loss and error at uniformly random points of the sphere, with the same head."""

    losses: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def loss(self) -> float:
        """Mean loss."""
        return float(np.mean(self.losses))

    @property
    def loss_error(self) -> float:
        """Its standard error over the directions."""
        return sample_mean(np.array(self.losses)).error


def random_directions(surface: Surface, weights: Weights | None = None, *, seed: int = 0) -> RandomDirections:
    """Measure the lab's reference for regime 3 (:func:`scaleinv.lab.levels.reference_rows`), drawn from ``seed``."""
    with surface.at(weights):
        rows = reference_rows(surface, stream(seed, _REFERENCE))
    losses, errors = (tuple(r.value for r in rows if r.quantity == q) for q in ("loss", "error"))
    return RandomDirections(losses, errors)


@dataclass(frozen=True)
class WalkComparison:
    """SGD, random walk and gradient ascent over several seeds; means over the last part of every walk."""

    elr: float
    seeds: tuple[int, ...]
    steps: int
    window: int  # steps averaged, the last of each walk
    loss: dict[str, Floats]  # by kind (seeds,)
    error: dict[str, Floats]
    cosine: dict[str, Floats]
    random: RandomDirections  # of all seeds together
    walks: tuple[Walk, ...] = field(repr=False, compare=False)

    def mean_loss(self, kind: str) -> tuple[float, float]:
        """Mean over seeds and its standard error."""
        return astuple(sample_mean(self.loss[kind]))

    def step_up(self, lower: str, upper: str) -> tuple[float, float]:
        """Loss of ``upper`` minus loss of ``lower``, paired by seed, and its standard error."""
        return astuple(sample_mean(self.loss[upper] - self.loss[lower]))


def compare(
    surface: Surface,
    elr: float,
    steps: int,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    kinds: Sequence[str] = KINDS,
    weights: Weights | None = None,
    window: float = 0.5,
) -> WalkComparison:
    """Walk every kind from the same ``weights`` with every seed; the last ``window`` share of the steps is averaged.

    A walk that broke off counts as NaN. Cost: ``len(kinds) * len(seeds) * steps`` training steps.
    """
    kept = max(1, round(window * steps))
    walks = [walk(surface, kind, elr, steps, weights=weights, seed=seed) for kind in kinds for seed in seeds]

    def table(quantity: str) -> dict[str, Floats]:
        return {
            kind: np.array([float(getattr(w, quantity)[-kept:].mean()) for w in walks if w.kind == kind])
            for kind in kinds
        }

    found = [random_directions(surface, weights, seed=seed) for seed in seeds]
    random = RandomDirections(*(tuple(v for r in found for v in getattr(r, name)) for name in ("losses", "errors")))
    tables = {quantity: table(quantity) for quantity in ("loss", "error", "cosine")}
    return WalkComparison(elr, tuple(seeds), steps, kept, random=random, walks=tuple(walks), **tables)

"""Follow the edge of stability along a run: the ELR times the spherical sharpness, against 2 (Lyu, Li, Arora 2022)."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.landscape import operators
from scaleinv.landscape.spectrum import top_eigenpairs
from scaleinv.landscape.surface import Surface, Weights
from scaleinv.theory.amin2026 import phi


@dataclass(frozen=True)
class EdgePoint:
    """One kept point of a run."""

    step: int  # steps (or epochs) done, as the caller counts
    loss: float
    rho: float
    elr: float  # the step of the equivalent motion on the unit sphere: Amin, Chang, Khanna 2026's Phi
    sharpness: float  # lambda_1 of the spherical Hessian
    residual: float  # an eigenvalue lies within this distance of it
    products: int

    @property
    def product(self) -> float:
        """``elr * lambda_1``: 2 at the edge of stability."""
        return self.elr * self.sharpness


def edge_of_stability(
    surface: Surface,
    points: Iterable[tuple[int, Weights]],
    rate: float | Callable[[int, Weights], float],
    *,
    weight_decay: float = 0.0,
    images: int | None = None,
    generator: torch.Generator | None = None,
) -> list[EdgePoint]:
    """Measure ``elr * lambda_1`` at every (step, weights) of a run, each search started from the eigenvector before.

    ``rate``: the learning rate lr that acts (on the sphere: elr * rho^2, and no weight decay), or a function of step
    and weights that gives it. The surface must be the one the run descends: ``batch_size=None`` for full-batch gradient
    descent with full-batch BN statistics.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    found: list[EdgePoint] = []
    start: Tensor | None = None
    for step, weights in points:
        lr = rate(step, weights) if callable(rate) else rate
        with surface.at(weights):
            loss, top, residual, products = 0.0, math.nan, math.nan, 0
            with torch.no_grad():
                for x, y, share in surface.parts(images):
                    loss += share * float(surface.loss(surface.model(x), y))
            rho = float(geometry.norm([t.detach().double() for t in surface.tensors]))
            if math.isfinite(loss) and math.isfinite(rho):
                operator = operators.hessian(surface, images)
                # a short basis: products come in portions of its size, and a good start needs few
                pairs = top_eigenpairs(operator, 1, generator=generator, krylov=10, start=start)
                start = pairs.vectors[0] if len(pairs.vectors) else None
                top, residual, products = pairs.values[0], pairs.residuals[0], operator.products
        elr = math.nan if not rho > 0 else float(phi(rho**2, lr, weight_decay)) if lr else 0.0
        found.append(EdgePoint(step, loss, rho, elr, top, residual, products))
    return found

"""The stochastic gradients at one point, as a distribution over the fixed batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from scaleinv import geometry
from scaleinv.landscape.surface import Surface, Weights


@dataclass(frozen=True)
class Gradients:
    r"""Gradient norms at the unit sphere, ``rho ||grad L_b||`` ("effective"), and what they say.

    ``mean_norm`` is the papers' mean effective stochastic gradient norm (Kodryan et al. 2022, Fig. 5): the mean
    over batches of the norm, not the norm of the mean, which is ``full_norm``.
    """

    loss: float
    error: float
    rho: float
    mean_norm: float  # eg
    mean_norm_error: float  # standard error of the mean over the batches, NaN for one batch
    full_norm: float  # effective norm of the gradient of the whole loss
    noise: float  # sqrt(sum_b n_b/N ||g_b - g||^2), effective; NaN for one batch
    radial: float  # |<g, x>| / (||g|| ||x||): 0 for an exactly scale-invariant loss
    batches: int
    images: int

    @property
    def ratio(self) -> float:
        """``mean_norm / loss``: the proxy of curvature that tells minima of different ELR apart."""
        return self.mean_norm / self.loss if self.loss else math.nan

    @property
    def snr(self) -> float:
        """Signal to noise, ``full_norm / noise`` (arXiv 2505.23489)."""
        return self.full_norm / self.noise if self.noise else math.nan


def gradients(surface: Surface, weights: Weights | None = None, *, images: int | None = None) -> Gradients:
    """Measure them at ``weights`` (``None``: the network's own) with one forward-backward pass.

    One mean gradient is kept, in float64, never the gradients of all batches.
    """
    with surface.at(weights), torch.enable_grad():
        tensors = surface.tensors
        x = [t.detach().double() for t in tensors]
        mean = [torch.zeros_like(t) for t in x]
        loss, wrong, count, squares, norms = 0.0, 0, 0, 0.0, []
        for inputs, labels, share in surface.parts(images):
            logits = surface.model(inputs)
            objective = surface.loss(logits, labels)
            g = [part.double() for part in torch.autograd.grad(objective, tensors)]
            norms.append(float(geometry.norm(g)))
            squares += share * norms[-1] ** 2
            torch._foreach_add_(mean, g, alpha=share)
            loss += share * float(objective.detach())
            wrong += int((logits.detach().argmax(1) != labels).sum())
            count += len(labels)
        rho, full = float(geometry.norm(x)), float(geometry.norm(mean))
        radial = abs(float(geometry.dot(mean, x)))
    n = len(norms)
    average = math.fsum(norms) / n
    spread = math.fsum((v - average) ** 2 for v in norms)
    return Gradients(
        loss=loss,
        error=wrong / count,
        rho=rho,
        mean_norm=rho * average,
        mean_norm_error=rho * math.sqrt(spread / (n - 1) / n) if n > 1 else math.nan,
        full_norm=rho * full,
        noise=rho * math.sqrt(max(0.0, squares - full**2)) if n > 1 else math.nan,
        radial=radial / (rho * full) if full > 0 else math.nan,
        batches=n,
        images=count,
    )

"""Measure gradients and curvature of the loss at one point of the sphere, with what is needed to trust the numbers."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.landscape import operators
from scaleinv.landscape.spectrum import TraceEstimate, top_eigenpairs, trace
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
    """Measure the stochastic gradients at ``weights`` (``None``: the network's own) by one forward-backward pass.

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


@dataclass(frozen=True)
class Curvature:
    """Top eigenvalues and trace of one matrix on the tangent space of the unit sphere."""

    matrix: str  # hessian | empirical | gauss-newton
    eigenvalues: tuple[float, ...]  # (k,) descending
    residuals: tuple[float, ...]  # (k,) ||A v - lambda v||: an eigenvalue lies within this distance
    converged: bool
    trace: TraceEstimate | None  # None: no probes were asked for
    products: int  # passes paid
    vectors: Tensor = field(repr=False, compare=False)  # (k, P)

    @property
    def top(self) -> float:
        """lambda_1; of the Hessian: the spherical sharpness."""
        return self.eigenvalues[0]


@dataclass(frozen=True)
class Sharpness:
    """Gradients and curvatures at one point; all "effective", that is at the unit sphere, whatever rho is."""

    gradients: Gradients
    hessian: Curvature
    fisher: Curvature | None
    homogeneity: float  # ||H x + g|| / ||g||: 0 for an exactly scale-invariant loss

    def stability(self, elr: float) -> float:
        """``elr * lambda_1``: gradient descent on the sphere leaves a minimum where this exceeds 2."""
        return elr * self.hessian.top


def sharpness(
    surface: Surface,
    weights: Weights | None = None,
    *,
    top: int = 5,
    probes: int = 16,
    fisher: str | None = None,
    images: int | None = None,
    generator: torch.Generator | None = None,
) -> Sharpness:
    """Measure gradient norms, and top eigenvalues and trace of the spherical Hessian and, if named, of a Fisher matrix.

    ``fisher``: ``"empirical"`` or ``"gauss-newton"`` (see :mod:`scaleinv.landscape.operators`). ``probes`` 0: no trace.
    ``images``: on the first so many train images only. A product costs about three forward-backward passes; there are
    about 20 + 2 ``top`` + ``probes`` of them a matrix. ``generator`` (default: seed 0) draws start vectors and probes.

    >>> from scaleinv.lab.data import load_dataset
    >>> from scaleinv.lab.models import build_model
    >>> data = load_dataset("digits", subset=32)
    >>> draw = torch.Generator().manual_seed(0)
    >>> net = build_model("mlp", classes=data.classes, in_shape=data.in_shape, width=8, generator=draw)
    >>> groups = {name: [p] for name, p in net.named_parameters() if name.startswith("layers")}
    >>> train = (data.train_images, data.train_labels)
    >>> surface = Surface(net, groups, torch.nn.functional.cross_entropy, train, train)
    >>> found = sharpness(surface, top=1, probes=4)
    >>> found.hessian.converged and found.homogeneity < 0.01
    True
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    slopes = gradients(surface, weights, images=images)
    with surface.at(weights):
        hessian = _curvature("hessian", operators.hessian(surface, images), top, probes, generator)
        other = None
        if fisher is not None:
            other = _curvature(fisher, operators.fisher(surface, fisher, images), top, probes, generator)
        return Sharpness(slopes, hessian, other, homogeneity_defect(surface, images))


def homogeneity_defect(surface: Surface, images: int | None = None) -> float:
    """``||H x + g|| / ||g||`` at the present weights: how far the loss is from scale-invariant, to first order.

    From ``g(a x) = g(x)/a``, differentiated at a = 1. NaN where the gradient is zero.
    """
    tensors = surface.tensors
    g = [torch.zeros_like(t, dtype=torch.float64) for t in tensors]
    for x, y, share in surface.parts(images):
        part = torch.autograd.grad(surface.loss(surface.model(x), y), tensors)
        torch._foreach_add_(g, [p.double() for p in part], alpha=share)
    image = operators.hessian_product(surface, [t.detach() for t in tensors], images)
    size = float(geometry.norm(g))
    return float(geometry.norm([a + b for a, b in zip(image, g)])) / size if size > 0 else math.nan


def _curvature(
    matrix: str, operator: operators.Operator, top: int, probes: int, generator: torch.Generator
) -> Curvature:
    pairs = top_eigenpairs(operator, top, generator=generator)
    mean = trace(operator, probes, generator=generator, known=pairs) if probes else None
    found = (pairs.values, pairs.residuals, pairs.converged, mean, operator.products, pairs.vectors)
    return Curvature(matrix, *found)

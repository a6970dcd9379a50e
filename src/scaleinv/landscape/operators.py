r"""Curvature as linear maps on the tangent space of the unit sphere; nothing is ever stored but vectors.

With ``u = x/rho`` on the unit sphere, ``P = I - u u^T`` and F(u) = L(rho u) the loss on it,

- Hessian: ``rho^2 P H(x) P - <x, grad L(x)> P``, the Riemannian ("spherical") Hessian of F. For a scale-invariant L the
  last term is 0, and H(a x) = H(x)/a^2, so that ``rho^2 H(x) = H(u)``: the result does not depend on rho (identity 2b;
  Lyu, Li, Arora 2022 call its top eigenvalue spherical sharpness). The term is kept: the eps of norm layers breaks
  the invariance a little.
- Fisher, two kinds, both ``rho^2 P (1/N) sum_i J_i^T W_i J_i P`` with J_i the Jacobian of the logits of image i within
  its batch: *empirical*, ``W_i = r_i r_i^T`` with r_i the derivative of the loss at the true label, so the sum is over
  ``grad l_i grad l_i^T``; and *gauss-newton*, ``W_i`` the Hessian of the loss in the logits: for cross-entropy the
  Fisher information of the model's own label distribution.

Only scale-invariant tensors are differentiated: a frozen head is a constant.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.landscape.surface import Surface

FISHERS = ("empirical", "gauss-newton")


class Operator:
    """A symmetric map of float64 vectors (P,) on the CPU; valid within the ``surface.at(...)`` it was made in."""

    def __init__(self, surface: Surface, raw: Callable[[list[Tensor]], list[Tensor]], shift: float = 0.0) -> None:
        self._tensors = surface.tensors
        self._raw, self._shift = raw, shift
        self._unit = _flat(self._tensors)
        self.rho = float(torch.linalg.vector_norm(self._unit))
        self._unit /= self.rho
        self.size = len(self._unit)
        self.products = 0  # so many passes over the data were paid

    def project(self, v: Tensor) -> Tensor:
        """The tangent part of ``v``."""
        return v - (self._unit @ v) * self._unit

    def __call__(self, v: Tensor) -> Tensor:
        self.products += 1
        v = self.project(v)
        image = self.rho**2 * _flat(self._raw(_shaped(v, self._tensors)))
        return self.project(image) - self._shift * v


def hessian(surface: Surface, images: int | None = None) -> Operator:
    """The spherical Hessian at the network's present weights; two backward passes a product."""
    tensors = surface.tensors
    radial = 0.0
    for x, y, share in surface.parts(images):
        g = torch.autograd.grad(surface.loss(surface.model(x), y), tensors)
        radial += share * float(geometry.dot([part.double() for part in g], [t.detach().double() for t in tensors]))
    return Operator(surface, lambda v: hessian_product(surface, v, images), radial)


def hessian_product(surface: Surface, v: list[Tensor], images: int | None = None) -> list[Tensor]:
    """``H(x) v`` in the whole space, in float64: no projection, no rho^2."""
    tensors = surface.tensors
    total = [torch.zeros_like(t, dtype=torch.float64) for t in tensors]
    with torch.enable_grad():
        for x, y, share in surface.parts(images):
            loss = surface.loss(surface.model(x), y)
            g = torch.autograd.grad(loss, tensors, create_graph=True)
            found = torch.autograd.grad(g, tensors, v, allow_unused=True)
            _accumulate(total, found, share)
    return total


def fisher(surface: Surface, kind: str, images: int | None = None) -> Operator:
    """One of the two Fisher matrices at the network's present weights (see above)."""
    if kind not in FISHERS:
        raise UserError(f"unknown Fisher matrix {kind!r}; choose one of: {', '.join(FISHERS)}")
    return Operator(surface, lambda v: _fisher_product(surface, kind, v, images))


def _fisher_product(surface: Surface, kind: str, v: list[Tensor], images: int | None) -> list[Tensor]:
    tensors = surface.tensors
    total = [torch.zeros_like(t, dtype=torch.float64) for t in tensors]
    with torch.enable_grad():
        for x, y, share in surface.parts(images):
            logits = surface.model(x)
            # J v by two backward passes: u -> J^T u is linear, and v^T of its derivative in u is J v
            u = torch.zeros_like(logits, requires_grad=True)
            pulled = torch.autograd.grad(logits, tensors, u, create_graph=True)
            pushed = torch.autograd.grad(pulled, u, v)[0]
            weighted = _weigh(surface, kind, logits.detach(), y, pushed)
            _accumulate(total, torch.autograd.grad(logits, tensors, weighted), share)
    return total


def _weigh(surface: Surface, kind: str, logits: Tensor, labels: Tensor, pushed: Tensor) -> Tensor:
    """``W_i (J v)_i / n_b`` of every image of a batch of n_b."""
    logits = logits.requires_grad_()
    slope = torch.autograd.grad(surface.loss(logits, labels), logits, create_graph=kind == "gauss-newton")[0]
    if kind == "gauss-newton":
        return torch.autograd.grad(slope, logits, pushed)[0]
    # slope_i = r_i / n_b, because the loss is a mean over the batch
    return slope * (slope * pushed).sum(1, keepdim=True) * len(labels)


def _accumulate(total: list[Tensor], parts: tuple[Tensor | None, ...], share: float) -> None:
    for t, part in zip(total, parts):
        if part is not None:
            t.add_(part.double(), alpha=share)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().to("cpu", torch.float64).reshape(-1) for t in tensors])


def _shaped(v: Tensor, like: list[Tensor]) -> list[Tensor]:
    pieces = torch.split(v, [t.numel() for t in like])
    return [piece.reshape(t.shape).to(t) for piece, t in zip(pieces, like)]

"""The identities of scale invariance at every step of a network (Lobacheva et al. 2021, Kodryan et al. 2022)."""

import itertools
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.theory import kodryan2022, lobacheva2021, rates


def identities(sheet: Sheet, context: Context) -> None:
    """Check ``identities``."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            for name, worst in {**_whole_space(dtype), **_sphere(dtype)}.items():
                sheet.at_most(f"{name}, {str(dtype).removeprefix('torch.')}", worst, tolerance)
    finally:
        torch.set_num_threads(threads)


class _Net:
    """Linear -> batch norm -> ReLU, three times, and a frozen head; gradients of a batch in the weights' precision."""

    def __init__(self, dtype: Any) -> None:
        generator = torch.Generator().manual_seed(1)
        sizes = (12, 24, 24, 16)

        def draw(*shape: int) -> Any:
            return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu").to(dtype)

        self.weights = [(0.3 * draw(out, into)).requires_grad_() for into, out in itertools.pairwise(sizes)]
        self.head = draw(4, sizes[-1])
        self.x, self.y = draw(256, sizes[0]), torch.randint(4, (256,), generator=generator, device="cpu")

    def gradients(self, step: int) -> list[np.ndarray]:
        """Return the gradients on one mini-batch of 64, as float64 arrays."""
        batch = slice(64 * (step % 4), 64 * (step % 4) + 64)
        h = self.x[batch]
        for w in self.weights:
            h = functional.relu(functional.batch_norm(h @ w.T, None, None, training=True, eps=1e-30))
        loss = functional.cross_entropy(h @ self.head.T, self.y[batch])
        return [g.double().numpy() for g in torch.autograd.grad(loss, self.weights)]

    def arrays(self) -> list[np.ndarray]:
        """Return copies of the weights as float64 arrays."""
        return [w.detach().double().numpy().copy() for w in self.weights]

    def move(self, keep: float, lr: float, gradients: list[np.ndarray], scale: float = 1.0) -> None:
        """Step ``w <- (keep w - lr g) scale`` in the weights' own precision."""
        with torch.no_grad():
            for w, g in zip(self.weights, gradients):
                w.copy_((keep * w - lr * torch.from_numpy(g).to(w.dtype)) * scale)


def _norms(arrays: list[np.ndarray]) -> np.ndarray:
    return np.array([np.linalg.norm(a) for a in arrays])


def _whole_space(dtype: Any) -> dict[str, float]:
    """Measure norm (eq. 4) and angle of a step of all groups; orthogonality (2a), homogeneity (2b) of the gradient."""
    net, lr, wd = _Net(dtype), 0.5, 0.02
    worst = dict.fromkeys(("<grad, x> (2a)", "grad at 2x (2b)", "rho^2 (4)", "1 - cos"), 0.0)
    for step in range(60):
        x, g = net.arrays(), net.gradients(step)
        rho_sq, size = float((_norms(x) ** 2).sum()), float(np.linalg.norm(_norms(g)))
        inner = sum(float((a * b).sum()) for a, b in zip(x, g)) / (np.sqrt(rho_sq) * size)
        net.move(2.0, 0.0, g)
        doubled = net.gradients(step)
        net.move(0.5, 0.0, g)
        off = np.linalg.norm(_norms([2 * a - b for a, b in zip(doubled, g)])) / size
        net.move(1 - lr * wd, lr, g)
        new = net.arrays()
        new_sq = float((_norms(new) ** 2).sum())
        eg = np.sqrt(rho_sq) * size
        predicted = lobacheva2021.next_rho_sq(rho_sq, eg, lr, wd)
        # the distance of unit vectors gives 1 - cos without cancellation
        gap = sum(float(((a / np.sqrt(rho_sq) - b / np.sqrt(new_sq)) ** 2).sum()) for a, b in zip(x, new)) / 2
        distance = lobacheva2021.step_cosine_distance(rho_sq, eg, lr, wd)
        for name, value in zip(worst, (abs(inner), off, abs(new_sq / predicted - 1), abs(gap - distance))):
            worst[name] = max(worst[name], float(value))
    return worst


def _angle(x: list[np.ndarray], y: list[np.ndarray]) -> float:
    """Return the angle between two points given in parts, accurate where it is small."""
    a, b = (np.concatenate([part.ravel().astype(np.float64) for part in point]) for point in (x, y))
    return float(2 * np.arcsin(min(1.0, np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)) / 2)))


def _sphere(dtype: Any) -> dict[str, float]:
    """Check cosine and eqs. 7-9 of projected steps on the sphere of all groups together, at a small and a large ELR."""
    worst = dict.fromkeys(("sum rule (7)", "convex combination (8)", "feedback (9)", "cosine on the sphere"), 0.0)
    for elr in (0.01, 0.3):
        net = _Net(dtype)
        rho = float(np.linalg.norm(_norms(net.arrays())))
        lr = rates.lr(elr, rho)
        for step in range(60):
            x, g = net.arrays(), net.gradients(step)
            rhos, gs = _norms(x), _norms(g)
            elrs = rates.elr(lr, rhos)
            esses = rates.ess(elrs, rhos * gs)
            whole = float((rhos**2).sum())
            ess = rates.ess(rates.elr_of_square(lr, whole), np.sqrt(whole) * float(np.linalg.norm(gs)))
            hat = [a - lr * b for a, b in zip(x, g)]
            net.move(1.0, lr, g, rho / float(np.linalg.norm(_norms(hat))))
            new = net.arrays()
            new_rhos = _norms(new)
            # the projection returns the radius to rounding; compare at the radius it did return
            moved = rates.elr(lr, new_rhos) * (float((new_rhos**2).sum()) / whole)
            inner = sum(float((a * b).sum()) for a, b in zip(x, new))
            cosine = inner / np.sqrt(whole * float((new_rhos**2).sum()))
            errors = (
                abs(kodryan2022.total_elr(elrs) / elr - 1),  # the ELR asked for, at a radius kept by projection only
                abs(kodryan2022.total_ess(esses, elrs) / np.tan(_angle(x, new)) - 1),
                np.abs(moved / kodryan2022.next_elrs(elrs, esses) - 1).max(),
                abs(cosine - kodryan2022.cosine(ess)),
            )
            for name, value in zip(worst, errors):
                worst[name] = max(worst[name], float(value))
    return worst

r"""Simulate optimizers on random gradients: isotropic, orthogonal to the weight, of size 1/||x||, new at each step.

For these the equilibria of optimizers (Kosson et al. 2024, Wan et al. 2020) are derived; there is no loss. Update
rules as in torch: coupled decay for SGD and SGDM (``m = momentum m + grad + wd x``), decoupled for AdamW and Lion.
Adam's epsilon is 0: eg has no unit here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleinv.errors import UserError
from scaleinv.theory.kosson2024 import OptimizerLaw

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Rotation:
    """Hold what was measured: one number per replica, means over the steps after burn-in."""

    angle: Array  # (R,) root mean square angle per step, radians
    norm: Array  # (R,) fourth root of the mean of rho^4 for sgd and sgdm, root mean square otherwise
    eg: Array  # (R,) root mean square effective gradient norm
    rho_sq: Array  # (steps // every, R) squared norm on the way


def simulate(
    law: OptimizerLaw,
    lr: float,
    wd: float,
    *,
    dimension: int = 2000,
    steps: int = 10_000,
    burn_in: int = 5_000,
    replicas: int = 1,
    seed: int = 0,
    momentum: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.99,
    rho0: float = 1.0,
    eg: float = 1.0,
    every: int = 100,
) -> Rotation:
    """Run ``replicas`` weights of ``dimension`` numbers; each effective gradient has norm about ``eg``.

    >>> r = simulate("sgd", 0.1, 0.05, dimension=200, steps=2000, burn_in=1000)
    >>> bool(abs(r.angle[0] / (2 * 0.1 * 0.05) ** 0.5 - 1) < 0.01)
    True
    """
    if law not in ("sgd", "sgdm", "adamw", "lion"):
        raise UserError(f"optimizer law {law!r} has no simulator; choose one of: sgd, sgdm, adamw, lion")
    if not (0 < burn_in < steps and dimension >= 2 and replicas >= 1 and 0 < lr * wd < 1):
        raise UserError("random gradients: give 0 < burn_in < steps, dimension >= 2, replicas >= 1 and 0 < lr * wd < 1")
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((replicas, dimension))
    x *= rho0 / np.sqrt((x * x).sum(axis=1, keepdims=True))
    m, v = np.zeros_like(x), np.zeros_like(x)
    angle_sq, rho_power, eg_sq = (np.zeros(replicas) for _ in range(3))
    coupled = law in ("sgd", "sgdm")
    path = np.empty((steps // every, replicas))
    norm_sq = (x * x).sum(axis=1)
    for t in range(1, steps + 1):
        grad = rng.standard_normal((replicas, dimension)) * (eg / np.sqrt(dimension - 1))
        grad -= ((grad * x).sum(axis=1) / norm_sq)[:, None] * x
        grad /= np.sqrt(norm_sq)[:, None]
        measured_sq = (grad * grad).sum(axis=1) * norm_sq
        if coupled:
            m *= momentum if law == "sgdm" else 0.0
            m += grad + wd * x
            new = x - lr * m
        elif law == "adamw":
            m += (1 - beta1) * (grad - m)
            v += (1 - beta2) * (grad * grad - v)
            corrected = np.sqrt(v / (1 - beta2**t))
            new = (1 - lr * wd) * x - lr * (m / (1 - beta1**t)) / corrected
        else:
            update = np.sign(beta1 * m + (1 - beta1) * grad)
            m += (1 - beta2) * (grad - m)
            new = (1 - lr * wd) * x - lr * update
        new_sq = (new * new).sum(axis=1)
        if t > burn_in:
            # the angle between unit vectors: from their difference, not from a cosine near 1
            chord = new / np.sqrt(new_sq)[:, None] - x / np.sqrt(norm_sq)[:, None]
            angle_sq += (2 * np.arcsin(np.minimum(np.sqrt((chord * chord).sum(axis=1)) / 2, 1.0))) ** 2
            rho_power += new_sq**2 if coupled else new_sq
            eg_sq += measured_sq
        x, norm_sq = new, new_sq
        if t % every == 0:
            path[t // every - 1] = norm_sq
    count = steps - burn_in
    norm = (rho_power / count) ** (0.25 if coupled else 0.5)
    return Rotation(np.sqrt(angle_sq / count), norm, np.sqrt(eg_sq / count), path)

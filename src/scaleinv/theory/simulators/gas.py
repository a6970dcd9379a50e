r"""Simulate the ideal gas (2511.07308): ``f(x) = 1 + mu.x/|x|``, isotropic tangent noise in the effective gradient."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaleinv.errors import UserError

Protocol = Literal["elr", "lr", "sphere"]


@dataclass(frozen=True)
class Gas:
    """Hold means over replicas and time after burn-in, the loss with its standard error over replicas."""

    loss: float
    loss_se: float
    rho_sq: float  # mean squared radius; for the protocol lr the root of the mean of rho^4, which is what balances
    gradient_sq: float  # mean squared effective gradient without noise
    pressure: float  # decay that would undo the mean growth of the squared radius; on the sphere only, else NaN


def simulate(
    protocol: Protocol,
    rate: float,
    *,
    wd: float = 0.0,
    noise: float = 1.0,
    dimension: int = 3,
    replicas: int = 256,
    steps: int = 20_000,
    burn_in: int = 10_000,
    rho0: float = 1.0,
    seed: int = 0,
) -> Gas:
    """Simulate ``x' = (1 - lr wd) x - lr grad`` from norm ``rho0``, by one of three protocols.

    ``elr``: ``lr = rate ||x||^2`` at each step; ``lr``: ``lr = rate``; ``sphere``: ``lr = rate rho0^2``, no decay, and
    x is returned to the radius ``rho0`` after each step. ``noise``: standard deviation of each tangent coordinate.
    """
    if protocol not in ("elr", "lr", "sphere"):
        raise UserError(f"protocol {protocol!r} is not known; choose elr, lr or sphere")
    if not 0 < burn_in < steps or dimension < 2 or replicas < 2 or rate <= 0:
        raise UserError("ideal gas: give 0 < burn_in < steps, dimension >= 2, replicas >= 2 and rate > 0")
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((replicas, dimension))
    x *= rho0 / np.sqrt((x * x).sum(axis=1, keepdims=True))
    sums = np.zeros((4, replicas))  # loss, radius, gradient_sq, growth
    for t in range(steps):
        rho_sq = (x * x).sum(axis=1)
        rho = np.sqrt(rho_sq)
        u = x / rho[:, None]
        clean = -u[:, :1] * u
        clean[:, 0] += 1.0  # unit-sphere gradient of mu.u with mu the first axis
        push = noise * rng.standard_normal((replicas, dimension))
        push -= (push * u).sum(axis=1, keepdims=True) * u
        lr = rate if protocol == "lr" else rate * rho_sq
        shrink = 0.0 if protocol == "sphere" else lr * wd
        x = np.reshape(1 - shrink, (-1, 1)) * x - np.reshape(lr, (-1, 1)) * ((clean + push) / rho[:, None])
        if t >= burn_in:
            after = (x * x).sum(axis=1)
            sums[0] += 1 + u[:, 0]
            sums[1] += rho_sq**2 if protocol == "lr" else rho_sq
            sums[2] += 1 - u[:, 0] ** 2
            sums[3] += (after - rho_sq) / (2 * lr * rho_sq)
        if protocol == "sphere":
            x *= rho0 / np.sqrt((x * x).sum(axis=1, keepdims=True))
    loss, size, clean_sq, growth = sums / (steps - burn_in)
    return Gas(
        float(loss.mean()),
        float(loss.std(ddof=1) / np.sqrt(replicas)),
        float(np.sqrt(size.mean()) if protocol == "lr" else size.mean()),
        float(clean_sq.mean()),
        float(growth.mean()) if protocol == "sphere" else float("nan"),
    )

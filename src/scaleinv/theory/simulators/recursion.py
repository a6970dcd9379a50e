r"""Run the norm recursion ``rho'^2 = (1 - lr wd)^2 rho^2 + lr^2 eg^2/rho^2`` (Lobacheva et al. 2021, eq. 4)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scaleinv.errors import UserError

Array = np.ndarray[Any, np.dtype[np.float64]]
#: step number and present rho^2 -> effective gradient norms, one for each replica
GradientLaw = Callable[[int, Array], Any]


def constant(eg: Any) -> GradientLaw:
    """Give the same eg at every step."""
    return lambda _, rho_sq: np.broadcast_to(eg, rho_sq.shape)


def uniform(low: float, high: float, seed: int) -> GradientLaw:
    """Draw eg independently and uniformly from [low, high]."""
    rng = np.random.default_rng(seed)
    return lambda _, rho_sq: rng.uniform(low, high, rho_sq.shape)


def either(low: float, high: float, seed: int, share_high: float = 0.5) -> GradientLaw:
    """Draw either end independently, ``high`` with probability ``share_high``: longer excursions than by uniform."""
    rng = np.random.default_rng(seed)
    return lambda _, rho_sq: np.where(rng.random(rho_sq.shape) < share_high, high, low)


def adversary(low: float, high: float, trigger_rho_sq: float) -> GradientLaw:
    """Give the worst case for the upper end: eg = low until rho^2 is below ``trigger_rho_sq``, then one of ``high``."""
    return lambda _, rho_sq: np.where(rho_sq <= trigger_rho_sq, high, low)


def given(sequence: Any) -> GradientLaw:
    """Replay a recorded sequence, shape (steps, ...)."""
    recorded = np.asarray(sequence, dtype=np.float64)
    return lambda t, rho_sq: np.broadcast_to(recorded[t], rho_sq.shape)


def run(rho0_sq: Any, lr: Any, wd: Any, law: GradientLaw, steps: int, *, keep_eg: bool = False) -> Any:
    """Compute rho^2 at steps 0 to ``steps``, shape (steps + 1, replicas).

    ``rho0_sq``, ``lr``, ``wd`` are broadcast to the replicas. ``keep_eg``: also the eg used, shape (steps, replicas).

    >>> path = run(1.0, 0.1, 0.1, constant(2.0), 2000)
    >>> bool(abs(path[-1, 0] - 1.4177628) < 1e-6)  # kappa eg / sqrt(1 - lr wd/2)
    True
    """
    y, lr_, wd_ = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (rho0_sq, lr, wd)))
    if steps < 1 or not (np.all(y > 0) and np.all(lr_ > 0) and np.all(wd_ >= 0) and np.all(lr_ * wd_ < 1)):
        raise UserError("norm recursion: give steps >= 1, rho0_sq > 0, lr > 0, wd >= 0 and lr * wd < 1")
    path, used = np.empty((steps + 1, y.size)), np.empty((steps if keep_eg else 0, y.size))
    path[0] = y
    kept = (1 - lr_ * wd_) ** 2
    for t in range(steps):
        eg = law(t, path[t])
        if keep_eg:
            used[t] = eg
        path[t + 1] = kept * path[t] + (lr_ * eg) ** 2 / path[t]
    return (path, used) if keep_eg else path


def first_below(path: Array, rho_sq: Any) -> Array:
    """Find the first step at which each replica of ``path`` is below ``rho_sq``; NaN if never."""
    below = path < rho_sq
    return np.where(below.any(axis=0), below.argmax(axis=0).astype(np.float64), np.nan)

r"""When does scale-invariant optimisation become unstable? (Amin, Chang, Khanna 2026): the dynamics of Phi.

``phi = lr / ((1 - lr wd) rho^2)`` is the learning rate of the equivalent step on the unit sphere,
``u' = (u - phi gbar)/||.||`` with gbar the gradient at u. ``keep`` is ``a = 1 - lr wd``. ``nu`` is the homogeneity
class of the update: 1 for SGD and SGDM, 0 for Adam.
"""

from __future__ import annotations

import numpy as np

from scaleinv.errors import UserError
from scaleinv.theory._formula import Number, condition, formula


@formula()
def phi(rho_sq: Number, lr: Number, wd: Number) -> Number:
    """``lr / ((1 - lr wd) rho^2)``. Exact for SGD with coupled decay.

    >>> phi(4.0, 0.5, 0.0)
    0.125
    """
    return lr / ((1 - lr * wd) * rho_sq)


@formula()
def schedule_factor(lr: Number, wd: Number, next_lr: Number, next_wd: Number) -> Number:
    """``B = (lr'/lr) / ((1 - lr wd)(1 - lr' wd'))``: what schedule and decay do to phi in one step. Exact.

    >>> schedule_factor(1.0, 0.5, 1.0, 0.5)
    4.0
    """
    return next_lr / lr / ((1 - lr * wd) * (1 - next_lr * next_wd))


@formula()
def next_phi(phi: Number, eg: Number, factor: Number) -> Number:
    """``phi' = B phi / (1 + phi^2 eg^2)``, ``eg = ||gbar||``. Exact for SGD."""
    return factor * phi / (1 + (phi * eg) ** 2)


@formula()
def contracts(phi: Number, eg: Number, factor: Number) -> Number:
    """1.0 where phi does not grow in this step: always for B <= 1, for B > 1 iff ``phi eg >= sqrt(B - 1)``. Exact."""
    return np.where((factor <= 1) | ((phi * eg) ** 2 >= factor - 1), 1.0, 0.0)


@formula()
def lr_for_constant_factor(lr: Number, wd: Number, factor: Number) -> Number:
    """The next learning rate that makes ``schedule_factor`` equal to ``factor`` at constant decay:
    ``B lr (1 - wd lr) / (1 + wd B lr (1 - wd lr))``. Exact.

    >>> round(schedule_factor(0.3, 0.1, lr_for_constant_factor(0.3, 0.1, 1.02), 0.1), 12)
    1.02
    """
    grown = factor * lr * (1 - wd * lr)
    return grown / (1 + wd * grown)


@formula()
def mean_log_drift(phi: Number, eg: Number, factor: Number, nu: int = 1) -> Number:
    """``log B - E log(1 + phi^2 eg^2)``, the mean change of log phi per step (SGD); samples along the last axis. With
    ``nu = 0`` (updates of fixed norm, Adam) phi goes as 1/rho and the second term is half as large: weaker
    self-stabilisation.
    """
    if not np.all(np.isin(nu, (0, 1))):
        raise UserError(f"mean_log_drift: nu is {np.ravel(nu)[0]:g}; it has to be 1 (SGD) or 0 (updates of fixed norm)")
    damping = np.mean(np.log1p((phi * eg) ** 2), axis=-1)
    return np.log(factor) - damping * np.where(nu == 1, 1.0, 0.5)


@condition
def is_a_cosine(q: Number) -> Number:
    """|q| <= 1 (to rounding)."""
    return np.abs(q) <= 1 + 1e-12


@formula(is_a_cosine)
def tilt_step(q: Number, phi: Number, keep: Number) -> Number:
    """One step of SGD with decay on ``L = 1 - <beta, u>``, |beta| = 1: ``q = <beta, u>`` and phi, a pair. Exact.

    ``q' = (q + phi (1 - q^2)) / n``, ``phi' = phi / (a^2 n^2)``, ``n^2 = 1 + phi^2 (1 - q^2)``.
    """
    left = np.maximum(1 - q * q, 0.0)
    n_sq = 1 + phi * phi * left
    return (q + phi * left) / np.sqrt(n_sq), phi / (keep * keep * n_sq)


@condition
def decays(keep: Number) -> Number:
    """a = 1 - lr wd < 1."""
    return keep < 1


@formula(decays)
def tilt_fixed_point(keep: Number) -> Number:
    """Fixed point of :func:`tilt_step`, a pair: ``q* = sqrt((1 + a)/2)``, ``phi* = sqrt(2 (1 + a))/a``. In weight
    space it is a period-2 orbit: the component across beta changes sign. Exact. Condition: ``decays``.
    """
    return np.sqrt((1 + keep) / 2), np.sqrt(2 * (1 + keep)) / keep


@formula(decays)
def tilt_eigenvalue_modulus(keep: Number) -> Number:
    """Modulus of the eigenvalues of :func:`tilt_step` at the fixed point, ``sqrt(1 + a - a^2)`` > 1: an unstable
    spiral, hence no rest: training with weight decay is periodic even on this function. Exact. Condition: ``decays``.

    >>> round(tilt_eigenvalue_modulus(0.5), 6)
    1.118034
    """
    return np.sqrt(1 + keep - keep**2)

r"""When does scale-invariant optimisation become unstable? (Amin, Chang, Khanna 2026): the dynamics of Phi.

``phi = lr / ((1 - lr wd) rho^2)`` is the learning rate of the equivalent step on the unit sphere,
``u' = (u - phi gbar)/||.||`` with gbar the gradient at u. Every argument may be an array.
"""

import numpy as np

from scaleinv.theory._formula import Condition, Number, formula


@formula()
def phi(rho_sq: Number, lr: Number, wd: Number) -> Number:
    """Compute phi, the rate of the equivalent step on the unit sphere. Exact for SGD with coupled decay.

        phi = lr / ((1 - lr wd) rho^2)

    - ``rho_sq``: squared norm of the weights before the step, > 0.
    - ``lr``, ``wd``: learning rate > 0, coupled weight decay >= 0, lr wd < 1.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Amin, Chang, Khanna 2026, definition of Phi.

    >>> phi(4.0, 0.5, 0.0)
    0.125
    """
    return lr / ((1 - lr * wd) * rho_sq)


@formula()
def schedule_factor(lr: Number, wd: Number, next_lr: Number, next_wd: Number) -> Number:
    """Compute B, the factor by which schedule and decay change phi in one step. Exact.

        B = (lr'/lr) / ((1 - lr wd)(1 - lr' wd'))

    - ``lr``, ``wd``, ``next_lr``, ``next_wd``: of this step and of the next, ranges as for :func:`phi`.
    - Raises :class:`~scaleinv.UserError` for lr and wd outside. Source: Amin, Chang, Khanna 2026, update of Phi.

    >>> schedule_factor(1.0, 0.5, 1.0, 0.5)
    4.0
    """
    return next_lr / lr / ((1 - lr * wd) * (1 - next_lr * next_wd))


@formula()
def next_phi(phi: Number, eg: Number, factor: Number) -> Number:
    """Compute phi after a step. Exact for SGD.

        phi' = B phi / (1 + phi^2 eg^2)

    - ``phi``: as of :func:`phi`, > 0.
    - ``eg``: effective gradient norm ``||gbar||``, >= 0.
    - ``factor``: B of :func:`schedule_factor`, > 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Amin, Chang, Khanna 2026, update of Phi.

    >>> next_phi(0.5, 2.0, 1.0)
    0.25
    """
    return factor * phi / (1 + (phi * eg) ** 2)


@formula()
def contracts(phi: Number, eg: Number, factor: Number) -> Number:
    """Tell whether phi does not grow in this step: 1.0 or 0.0. Exact.

        B <= 1  or  phi eg >= sqrt(B - 1)

    Arguments, ranges and errors as for :func:`next_phi`. Source: Amin, Chang, Khanna 2026, condition of contraction.

    >>> contracts(0.5, 2.0, 1.5), contracts(0.5, 2.0, 2.5)
    (1.0, 0.0)
    """
    return np.where((factor <= 1) | ((phi * eg) ** 2 >= factor - 1), 1.0, 0.0)


@formula()
def lr_for_constant_factor(lr: Number, wd: Number, factor: Number) -> Number:
    """Compute the next learning rate that makes :func:`schedule_factor` equal to ``factor`` at constant decay. Exact.

        lr' = B lr (1 - wd lr) / (1 + wd B lr (1 - wd lr))

    - ``lr``, ``wd``: of this step, ranges as for :func:`phi`.
    - ``factor``: B, > 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Amin et al. 2026, schedules of constant B.

    >>> round(schedule_factor(0.3, 0.1, lr_for_constant_factor(0.3, 0.1, 1.02), 0.1), 12)
    1.02
    """
    grown = factor * lr * (1 - wd * lr)
    return grown / (1 + wd * grown)


is_a_cosine = Condition("is_a_cosine", "|q| <= 1 (to rounding)", lambda q: np.abs(q) <= 1 + 1e-12)


@formula(is_a_cosine)
def tilt_step(q: Number, phi: Number, keep: Number) -> Number:
    """Compute one step of SGD with decay on ``L = 1 - <beta, u>``, |beta| = 1: the pair (q', phi'). Exact.

        q' = (q + phi (1 - q^2)) / n,  phi' = phi / (a^2 n^2),  n^2 = 1 + phi^2 (1 - q^2)

    - ``q``: ``<beta, u>``, in [-1, 1].
    - ``phi``: as of :func:`phi`, > 0.
    - ``keep``: ``a = 1 - lr wd``, in (0, 1].
    - Raises :class:`~scaleinv.UserError` outside these ranges, :class:`~scaleinv.OutsideConditions` for q. Source:
      Amin, Chang, Khanna 2026, solvable model.

    >>> tilt_step(0.0, 1.0, 1.0)
    (0.7071067811865475, 0.5)
    """
    left = np.maximum(1 - q * q, 0.0)
    n_sq = 1 + phi * phi * left
    return (q + phi * left) / np.sqrt(n_sq), phi / (keep * keep * n_sq)


decays = Condition("decays", "a = 1 - lr wd < 1", lambda keep: keep < 1)


@formula(decays)
def tilt_fixed_point(keep: Number) -> Number:
    """Compute the fixed point of :func:`tilt_step`, a pair; in weight space an orbit of period two. Exact.

        q* = sqrt((1 + a)/2),  phi* = sqrt(2 (1 + a))/a

    - ``keep``: ``a = 1 - lr wd``, in (0, 1).
    - Raises :class:`~scaleinv.UserError` outside (0, 1], :class:`~scaleinv.OutsideConditions` at 1. Source: Amin,
      Chang, Khanna 2026, solvable model.

    >>> [round(x, 4) for x in tilt_fixed_point(0.5)]
    [0.866, 3.4641]
    """
    return np.sqrt((1 + keep) / 2), np.sqrt(2 * (1 + keep)) / keep


@formula(decays)
def tilt_eigenvalue_modulus(keep: Number) -> Number:
    """Compute the modulus of the eigenvalues of :func:`tilt_step` at its fixed point. Exact.

        sqrt(1 + a - a^2) > 1

    Argument, range and errors as for :func:`tilt_fixed_point`. The fixed point is an unstable spiral, hence no rest:
    training with weight decay is periodic even on this function. Source: Amin, Chang, Khanna 2026, solvable model.

    >>> round(tilt_eigenvalue_modulus(0.5), 6)
    1.118034
    """
    return np.sqrt(1 + keep - keep**2)

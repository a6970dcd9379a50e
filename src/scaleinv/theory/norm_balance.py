r"""Where other optimizers than those of Kosson et al. 2024 come to rest on a scale-invariant weight.

Weight decay takes a share of the norm in every step, steps at right angles to the weight add to it. Gradients are taken
for independent from step to step, as there; ``a = 1 - lr wd``, ``m`` is the momentum, ``eg`` the effective gradient
norm. All drop terms of relative order ``lr wd/(1 - m)``.
"""

import numpy as np

from scaleinv.theory._formula import Number, formula


@formula(positive=("wd",))
def sgdw_norm(eg: Number, lr: Number, wd: Number, momentum: Number) -> Number:
    """Compute the norm at equilibrium of SGD with momentum and decoupled decay.

        rho^4 = lr^2 eg^2 (1 + a m)/((1 - m^2)(1 - a m)(1 - a^2)),  a = 1 - lr wd

    - ``eg``: effective gradient norm, root mean square, >= 0.
    - ``lr``, ``wd``: learning rate, decoupled weight decay, both > 0, lr wd < 1.
    - ``momentum``: m, in [0, 1); the buffer is ``m b + g``, as torch has it.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours, from the norm of an AR(1) sum.

    >>> round(sgdw_norm(1.0, 0.1, 0.1, 0.0), 4)
    0.842
    """
    a = 1 - lr * wd
    return (lr**2 * eg**2 * (1 + a * momentum) / ((1 - momentum**2) * (1 - a * momentum) * (1 - a**2))) ** 0.25


@formula(positive=("wd",))
def projected_angle(lr: Number, wd: Number) -> Number:
    """Compute the angle of a step at equilibrium of an optimizer that takes the radial part off its update.

        tan(angle) = sqrt(1 - a^2)/a,  a = 1 - lr wd

    - ``lr``, ``wd``: learning rate, decay that acts (AdamP and SGDP multiply it by ``wd_ratio``), both > 0, lr wd < 1.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours; Heo et al. 2021 for the projection.

    >>> round(projected_angle(0.1, 0.005), 6)
    0.031624
    """
    a = 1 - lr * wd
    return np.arctan2(np.sqrt(1 - a**2), a)


@formula(positive=("wd",))
def projected_norm(lr: Number, wd: Number, update: Number) -> Number:
    """Compute the norm at equilibrium where every update is orthogonal to the weight.

        rho = lr U/sqrt(1 - a^2),  a = 1 - lr wd

    - ``lr``, ``wd``: as for :func:`projected_angle`.
    - ``update``: U, norm of the update in units of the learning rate, > 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours.

    >>> round(projected_norm(0.1, 0.5, 2.0), 4)
    0.6405
    """
    return lr * update / np.sqrt(1 - (1 - lr * wd) ** 2)


@formula(positive=("wd",))
def projected_sgd_norm(eg: Number, lr: Number, wd: Number, momentum: Number) -> Number:
    """Compute the norm at equilibrium of SGD with momentum whose updates are orthogonal to the weight (SGDP).

        rho^4 = lr^2 eg^2/((1 - m^2)(1 - a^2)),  a = 1 - lr wd

    Arguments, ranges and errors as for :func:`sgdw_norm`. Source: ours.

    >>> round(projected_sgd_norm(1.0, 0.1, 0.1, 0.0), 4)
    0.842
    """
    return (lr**2 * eg**2 / ((1 - momentum**2) * (1 - (1 - lr * wd) ** 2))) ** 0.25


@formula()
def relative_angle(lr: Number, momentum: Number) -> Number:
    """Compute the angle of a step of length ``lr rho`` along the gradient, passed through momentum (LARS).

        angle = lr/sqrt(1 - m^2)

    - ``lr``: learning rate times trust coefficient, > 0.
    - ``momentum``: m, in [0, 1); the buffer is ``m b + step``.

    It depends neither on decay nor on the norm. Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours.

    >>> round(relative_angle(0.01, 0.6), 4)
    0.0125
    """
    return np.arctan(lr / np.sqrt(1 - momentum**2))


@formula(positive=("wd",))
def lars_norm(eg: Number, lr: Number, wd: Number, momentum: Number) -> Number:
    """Compute the norm at equilibrium of LARS, whose step is ``lr rho (g + wd w)/(|g| + wd rho)``.

        rho^2 = lr eg/(2 wd (1 - m))

    - ``eg``: effective gradient norm, > 0.
    - ``lr``: learning rate times trust coefficient, > 0, small against 1 - m.
    - ``wd``, ``momentum``: as for :func:`sgdw_norm`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours: decay takes ``lr wd rho^2/eg`` of the
      norm, growth adds ``lr^2/(2 (1 - m))``, both times ``1/(1 - m)``.

    >>> lars_norm(4.0, 0.01, 0.02, 0.0)
    1.0
    """
    return np.sqrt(lr * eg / (2 * wd * (1 - momentum)))


@formula(positive=("wd",))
def lamb_norm(lr: Number, wd: Number, beta1: Number, update: Number) -> Number:
    """Compute the norm at equilibrium of LAMB, whose step is ``lr rho (u + wd w)/|u + wd w|`` with Adam's u.

        rho = lr U (1 + b)/(2 wd (1 - b))

    - ``lr``, ``wd``: learning rate, weight decay, both > 0.
    - ``beta1``: b, in [0, 1), lr small against 1 - b.
    - ``update``: U, norm of Adam's u, > 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours: decay takes ``lr wd rho/U`` of the norm,
      growth by averaged steps adds ``lr^2 (1 + b)/(2 (1 - b))``.

    >>> lamb_norm(0.01, 0.02, 0.0, 4.0)
    1.0
    """
    return lr * update * (1 + beta1) / (2 * wd * (1 - beta1))

r"""Thermodynamics of SGD on scale-invariant weights (free energy, arXiv 2505.23489; ideal gas, arXiv 2511.07308).

Isotropic noise: every tangent coordinate of the effective gradient has variance ``noise**2``
(``noise^2 = tr Sigma / (dimension - 1)``). Protocols: ``elr`` and decay (``lr = elr rho^2`` at each step); ``lr`` and
decay; fixed sphere. The temperature holds for small steps; the corrected radii are exact balances of the mean squared
norm. Every argument may be an array; a value outside the range given for it raises :class:`~scaleinv.UserError`.
"""

import numpy as np

from scaleinv.theory._formula import Condition, Number, formula

#: the least mean loss of the 3-D one-sample toy with three vectors (under-parameterised): 1/26
UNDERPARAMETERISED_MINIMUM = 1.0 / 26.0


@formula()
def temperature_fixed_elr(elr: Number, noise: Number) -> Number:
    """Compute the temperature at a fixed ELR, with weight decay or on a fixed sphere.

        T = elr noise^2 / 2

    - ``elr``: effective learning rate per step, > 0.
    - ``noise``: standard deviation of a tangent coordinate of the effective gradient, >= 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: 2511.07308, fixed ELR.

    >>> temperature_fixed_elr(0.5, 2.0)
    1.0
    """
    return elr * noise**2 / 2


@formula()
def temperature_fixed_lr(lr: Number, wd: Number, noise: Number, dimension: Number) -> Number:
    """Compute the temperature at a fixed learning rate: :func:`temperature_fixed_elr` at the ELR of equilibrium.

        T = sqrt(lr wd noise^2 / (2 (dimension - 1)))

    - ``lr``, ``wd``: learning rate > 0, coupled weight decay >= 0, lr wd < 1.
    - ``noise``: as for :func:`temperature_fixed_elr`.
    - ``dimension``: count of the weights, >= 2.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: 2511.07308, fixed learning rate.

    >>> temperature_fixed_lr(0.5, 0.25, 2.0, 2.0)
    0.5
    """
    return np.sqrt(lr * wd * noise**2 / (2 * (dimension - 1)))


@formula(positive=("wd",))
def radius(temperature: Number, wd: Number, dimension: Number) -> Number:
    """Compute the stationary norm: the ideal gas law with the weight decay as pressure.

        r = sqrt(T (dimension - 1) / wd)

    - ``temperature``: T, >= 0.
    - ``wd``: coupled weight decay, > 0.
    - ``dimension``: count of the weights, >= 2.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: 2511.07308, stationary radius.

    >>> radius(0.5, 0.25, 3.0)
    2.0
    """
    return np.sqrt(temperature * (dimension - 1) / wd)


@formula(positive=("wd",))
def radius_fixed_elr(elr: Number, wd: Number, noise: Number, dimension: Number, gradient_sq: Number = 0.0) -> Number:
    """Compute the stationary norm at a fixed ELR, corrected for the finite step.

        r^2 = elr (tr Sigma + |g|^2) / (2 wd),  tr Sigma = (dimension - 1) noise^2

    - ``elr``, ``noise``: as for :func:`temperature_fixed_elr`.
    - ``wd``, ``dimension``: as for :func:`radius`.
    - ``gradient_sq``: |g|^2, mean squared effective gradient without noise, >= 0. With 0 it is :func:`radius`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: 2511.07308, corrected radius.

    >>> radius_fixed_elr(0.5, 0.25, 2.0, 2.0)
    2.0
    """
    return np.sqrt(elr * ((dimension - 1) * noise**2 + gradient_sq) / (2 * wd))


@formula(positive=("wd",))
def radius_fixed_lr(lr: Number, wd: Number, noise: Number, dimension: Number, gradient_sq: Number = 0.0) -> Number:
    """Compute the stationary norm at a fixed learning rate, corrected for the finite step.

        r^4 = lr (tr Sigma + |g|^2) / (2 wd),  tr Sigma = (dimension - 1) noise^2

    - ``lr``: learning rate, > 0, lr wd < 1. The others as for :func:`radius_fixed_elr`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: 2511.07308, corrected radius.

    >>> radius_fixed_lr(2.0, 0.25, 2.0, 2.0)
    2.0
    """
    return (lr * ((dimension - 1) * noise**2 + gradient_sq) / (2 * wd)) ** 0.25


@formula()
def pressure(temperature: Number, rho: Number, dimension: Number) -> Number:
    """Compute the effective weight decay of a fixed sphere: what would hold the norm without projection.

        p = T (dimension - 1) / r^2

    - ``rho``: radius r of the sphere, > 0. The others as for :func:`radius`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: 2511.07308, fixed sphere.

    >>> pressure(0.5, 2.0, 3.0)
    0.25
    """
    return temperature * (dimension - 1) / rho**2


@formula()
def mean_excess_loss(temperature: Number, dimension: Number) -> Number:
    """Compute the mean loss above the minimum (equipartition), for small T; independent of the curvature.

        (dimension - 1) T / 2

    Arguments, ranges and errors as for :func:`radius`. Source: 2511.07308, mean excess loss.

    >>> mean_excess_loss(0.5, 3.0)
    0.5
    """
    return (dimension - 1) * temperature / 2


is_overparameterised = Condition(
    "is_overparameterised", "the one-sample toy with two vectors: elr is not 1", lambda elr: elr != 1
)


@formula(is_overparameterised)
def one_sample_converges(elr: Number) -> Number:
    """Tell whether the 3-D toy with one sample a step, vectors (sqrt3/2, +-1/2, 0), converges: 1.0 or 0.0.

        elr < 1

    - ``elr``: effective learning rate per step, > 0.
    - Raises :class:`~scaleinv.UserError` outside this range, :class:`~scaleinv.OutsideConditions` at elr = 1. Source:
      2505.23489, 3-D toy, over-parameterised; Kodryan et al. 2022, Proposition 3 with alpha = 1.

    >>> one_sample_converges(0.5), one_sample_converges(1.5)
    (1.0, 0.0)
    """
    return np.where(elr < 1, 1.0, 0.0)

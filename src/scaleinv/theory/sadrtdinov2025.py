r"""Thermodynamics of SGD on scale-invariant weights (2505.23489 free energy; 2511.07308 ideal gas).

Isotropic noise: every tangent coordinate of the effective gradient has variance ``noise**2``
(``noise^2 = tr Sigma / (dimension - 1)``). Protocols: ``elr`` and decay (``lr = elr rho^2`` at each step); ``lr`` and
decay; fixed sphere. The temperature holds for small steps;
the corrected radii are exact balances of the mean squared norm.
"""

from __future__ import annotations

import numpy as np

from scaleinv.errors import UserError
from scaleinv.theory._formula import Number, condition, formula

#: the least mean loss of the 3-D one-sample toy with three vectors (under-parameterised): 1/26
UNDERPARAMETERISED_MINIMUM = 1.0 / 26.0


@formula()
def temperature_fixed_elr(elr: Number, noise: Number) -> Number:
    """``T = elr noise^2 / 2``; for the protocols with a fixed ELR and for a fixed sphere.

    >>> temperature_fixed_elr(0.5, 2.0)
    1.0
    """
    return elr * noise**2 / 2


@formula()
def temperature_fixed_lr(lr: Number, wd: Number, noise: Number, dimension: Number) -> Number:
    """``T = sqrt(lr wd noise^2 / (2 (dimension - 1)))``: what :func:`temperature_fixed_elr` gives at the ELR of
    equilibrium.
    """
    return np.sqrt(lr * wd * noise**2 / (2 * (dimension - 1)))


@formula(positive=("wd",))
def radius(temperature: Number, wd: Number, dimension: Number) -> Number:
    """``r = sqrt(T (dimension - 1) / wd)``, the ideal gas law with the decay as pressure:
    ``wd r^2 = T (dimension - 1)``.

    >>> radius(0.5, 0.25, 3.0)
    2.0
    """
    return np.sqrt(temperature * (dimension - 1) / wd)


@formula(positive=("wd",))
def radius_fixed_elr(elr: Number, wd: Number, noise: Number, dimension: Number, gradient_sq: Number = 0.0) -> Number:
    """``r^2 = elr (tr Sigma + |g|^2) / (2 wd)``, ``tr Sigma = (dimension-1) noise^2``; ``gradient_sq`` is the mean
    squared effective gradient without noise. Corrected for the finite step. With gradient_sq = 0 it is :func:`radius`
    at the ELR's temperature.
    """
    return np.sqrt(elr * ((dimension - 1) * noise**2 + gradient_sq) / (2 * wd))


@formula(positive=("wd",))
def radius_fixed_lr(lr: Number, wd: Number, noise: Number, dimension: Number, gradient_sq: Number = 0.0) -> Number:
    """``r^4 = lr (tr Sigma + |g|^2) / (2 wd)``, symbols as in :func:`radius_fixed_elr`."""
    return (lr * ((dimension - 1) * noise**2 + gradient_sq) / (2 * wd)) ** 0.25


@formula()
def pressure(temperature: Number, rho: Number, dimension: Number) -> Number:
    """Effective weight decay of a fixed sphere, ``p = T (dimension - 1) / r^2``: what would hold the radius without
    projection.

    >>> pressure(0.5, 2.0, 3.0)
    0.25
    """
    return temperature * (dimension - 1) / rho**2


@formula()
def mean_excess_loss(temperature: Number, dimension: Number) -> Number:
    """``(dimension - 1) T / 2`` above the minimum (equipartition), for small T; independent of the curvature."""
    return (dimension - 1) * temperature / 2


@formula()
def mean_tilt_loss(temperature: Number) -> Number:
    """Mean of ``1 + mu.x/|x|`` in three dimensions at temperature T, all orders: ``1 - coth(1/T) + T`` (the Langevin
    function).

    >>> round(mean_tilt_loss(0.01), 4)
    0.01
    """
    return 1 - 1 / np.tanh(1 / temperature) + temperature


@formula(positive=("temperature",))
def entropy(temperature: Number, rho: Number, dimension: Number) -> Number:
    """``S = (d-1)/2 ln(2 pi e T) + (d-1) ln r`` nats, unit curvature, small T."""
    return (dimension - 1) * (np.log(2 * np.pi * np.e * temperature) / 2 + np.log(rho))


@condition
def is_overparameterised(elr: Number) -> Number:
    """the one-sample toy with two vectors: elr is not 1."""
    return elr != 1


@formula(is_overparameterised)
def one_sample_converges(elr: Number) -> Number:
    """3-D toy, one sample a step, vectors (sqrt3/2, +-1/2, 0): 1.0 if it converges (``elr < 1``), else 0.0. Undefined
    at 1.
    """
    return np.where(elr < 1, 1.0, 0.0)


def temperature_bracket(energy: Number, entropy: Number) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the temperature of each state when state i minimises ``U - T_i S`` among all: a pair of arrays.

    States in the order of rising temperature: ``T_i`` lies between the largest slope ``(U_i - U_j)/(S_i - S_j)`` to
    the states below and the least slope to those above; 0 and infinity where there is none. NaN where the bracket is
    empty: these data do not minimise a free energy.

    >>> low, high = temperature_bracket([0.0, 1.0, 4.0], [0.0, 1.0, 2.0])
    >>> low.tolist(), high.tolist()
    ([0.0, 1.0, 3.0], [1.0, 3.0, inf])
    """
    u, s = np.asarray(energy, float), np.asarray(entropy, float)
    if u.ndim != 1 or u.shape != s.shape:
        shapes = f"{u.shape} and {s.shape}"
        raise UserError(f"temperature_bracket: energy and entropy have shapes {shapes}; two equal lists are needed")
    with np.errstate(all="ignore"):
        slope = (u[:, None] - u[None, :]) / (s[:, None] - s[None, :])
    low, high = np.zeros(len(u)), np.full(len(u), np.inf)
    for i in range(len(u)):
        low[i] = max([0.0, *slope[i, :i]])
        high[i] = min([np.inf, *slope[i, i + 1 :]])
    empty = low > high
    low[empty] = high[empty] = np.nan
    return low, high

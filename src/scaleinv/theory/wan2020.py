r"""Spherical motion dynamics: SGD with momentum and coupled weight decay at equilibrium (Wan et al. 2020, 2006.08419).

torch's SGD: ``m' = momentum m + grad + wd x``, ``x' = x - lr m'``.
"""

from __future__ import annotations

import numpy as np

from scaleinv.theory._formula import Number, formula


@formula(positive=("wd",))
def angle(lr: Number, wd: Number, momentum: Number) -> Number:
    """RMS angle per step at equilibrium, ``sqrt(2 lr wd / (1 + momentum))`` radians; drops terms of relative order lr
    wd.

    >>> round(angle(0.1, 0.005, 0.9), 6)
    0.022942
    """
    return np.sqrt(2 * lr * wd / (1 + momentum))


@formula(positive=("wd",))
def rho_at_equilibrium(eg: Number, lr: Number, wd: Number, momentum: Number) -> Number:
    """``rho^4 = lr E eg^2 / (wd (1 - momentum) (2 - lr wd/(1 + momentum)))``; ``eg`` is the root mean square
    effective gradient norm.

    Without momentum this is exactly the fixed point of the norm recursion.
    """
    return (lr * eg**2 / (wd * (1 - momentum) * (2 - lr * wd / (1 + momentum)))) ** 0.25


@formula(positive=("wd",))
def angle_after_drop(steps: Number, lr: Number, wd: Number, keep: Number) -> Number:
    """SGD at equilibrium whose lr falls to ``keep * lr``: angle per step ``steps`` later, radians.

    The angle first falls by ``keep`` and returns to ``sqrt(keep)`` of the old value: with ``lr`` the old value and
    lr' the new, ``rho^4`` relaxes from ``lr eg^2/(2 wd)`` to ``lr' eg^2/(2 wd)`` at the rate ``4 lr' wd``. Drops
    terms of relative order lr wd.

    >>> round(angle_after_drop(0.0, 0.1, 0.005, 0.25) / angle(0.1, 0.005, 0.0), 12)
    0.25
    """
    new = keep * lr
    rho4 = keep + (1 - keep) * np.exp(-4 * new * wd * steps)  # in units of the old one
    return np.sqrt(2 * lr * wd) * keep / np.sqrt(rho4)

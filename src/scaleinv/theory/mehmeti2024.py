r"""Norms without weight decay (after Mehmeti-Goepel and Wand, ICML 2024, 2306.00700).

Without decay ``d rho^2/dt = (lr eg)^2 / rho^2``: norms only grow, ELRs only fall, and the ELRs of layers with equal
effective gradients approach each other. The paper's critical learning rate is known to us from its abstract only and
is not implemented.
"""

from __future__ import annotations

import numpy as np

from scaleinv.theory._formula import Number, formula


@formula()
def rho_sq_at(steps: Number, rho0_sq: Number, eg: Number, lr: Number) -> Number:
    """``sqrt(rho0^4 + 2 (lr eg)^2 steps)``: continuous time, constant eg. Drops ``(lr eg)^4/rho^4`` per step, so it
    is a lower bound.

    >>> rho_sq_at(4.0, 1.0, 1.0, 1.0)
    3.0
    """
    return np.sqrt(rho0_sq**2 + 2 * (lr * eg) ** 2 * steps)


@formula()
def elr_ratio_at(steps: Number, first_rho0_sq: Number, second_rho0_sq: Number, eg: Number, lr: Number) -> Number:
    """ELR of the first layer over that of the second after ``steps`` steps, equal ``eg``; tends to 1."""
    grow = rho_sq_at.function
    return grow(steps, second_rho0_sq, eg, lr) / grow(steps, first_rho0_sq, eg, lr)

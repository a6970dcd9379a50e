r"""Spherical motion dynamics: SGD with momentum and coupled decay at equilibrium (Wan et al. 2020, arXiv 2006.08419).

torch's SGD: ``m' = momentum m + grad + wd x``, ``x' = x - lr m'``.
"""

import numpy as np

from scaleinv.theory import lobacheva2021
from scaleinv.theory._formula import Number, formula


@formula(positive=("wd",))
def angle(lr: Number, wd: Number, momentum: Number) -> Number:
    """Compute the angle of a step at equilibrium, root mean square, in radians; drops terms of relative order lr wd.

        angle = sqrt(2 lr wd / (1 + momentum))

    - ``lr``, ``wd``: learning rate, coupled weight decay, both > 0, lr wd < 1.
    - ``momentum``: in [0, 1).
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Wan et al. 2020, angular update at equilibrium.

    >>> round(angle(0.1, 0.005, 0.9), 6)
    0.022942
    """
    return np.sqrt(2 * lr * wd / (1 + momentum))


@formula(positive=("wd",))
def rho_at_equilibrium(eg: Number, lr: Number, wd: Number, momentum: Number) -> Number:
    """Compute the norm at equilibrium; without momentum exactly the fixed point of the norm recursion.

        rho^4 = lr E eg^2 / (wd (1 - momentum) (2 - lr wd/(1 + momentum)))

    - ``eg``: effective gradient norm, root mean square, >= 0.
    - ``lr``, ``wd``, ``momentum``: as for :func:`angle`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Wan et al. 2020, norm at equilibrium.

    >>> round(rho_at_equilibrium(1.0, 0.1, 0.1, 0.9), 4)
    1.4963
    """
    return (lr * eg**2 / (wd * (1 - momentum) * (2 - lr * wd / (1 + momentum)))) ** 0.25


@formula(positive=("wd",))
def angle_after_drop(steps: Number, lr: Number, wd: Number, keep: Number) -> Number:
    """Compute the angle of a step of SGD, in radians, after its learning rate fell at equilibrium.

        angle = lr' eg / rho^2,  rho^4 = lr' eg^2/(2 wd) + (lr - lr') eg^2/(2 wd) exp(-4 lr' wd steps),  lr' = keep lr

    - ``steps``: since the drop, >= 0.
    - ``lr``, ``wd``: learning rate before the drop, coupled weight decay, both > 0, lr wd < 1.
    - ``keep``: share of the learning rate that is left, in (0, 1].

    The angle first falls by ``keep`` and returns to ``sqrt(keep)`` of the old value. Drops terms of relative order lr
    wd. Raises :class:`~scaleinv.UserError` outside these ranges. Source: Wan et al. 2020, on drops of the learning
    rate; the closed form is ours, from Lobacheva et al. 2021, eq. 4.

    >>> round(angle_after_drop(0.0, 0.1, 0.005, 0.25) / angle(0.1, 0.005, 0.0), 12)
    0.25
    """
    new = keep * lr
    return new / lobacheva2021.rho_sq_at.function(steps, lobacheva2021.kappa.function(lr, wd), 1.0, new, wd)

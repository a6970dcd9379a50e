r"""Any step of any optimizer as a step on the sphere (after Roburin et al., 2006.13382, who give it to second order).

``x' = x - lr v`` with an arbitrary update v (weight decay included in v). With ``u = x/rho``, ``radial = <v, u>``:
the direction moves by ``lr / rho / (1 - lr radial / rho)`` times the tangential part of v, and then is normalised.
The forms here are exact.
"""

from __future__ import annotations

import numpy as np

from scaleinv.theory import rates
from scaleinv.theory._formula import Number, condition, formula


@condition
def does_not_pass_the_origin(lr: Number, rho: Number, radial: Number) -> Number:
    """lr <v, u> < rho."""
    return lr * radial < rho


@formula(does_not_pass_the_origin)
def effective_lr(lr: Number, rho: Number, radial: Number) -> Number:
    """``(lr/rho) / (1 - lr radial/rho)``, the rate of the tangential part of the update on the unit sphere.

    For SGD with coupled decay (radial = wd rho, tangential part = unit-sphere gradient / rho) it becomes
    ``lr / (rho^2 (1 - lr wd))`` per unit-sphere gradient, which is ``amin2026.phi``.

    >>> effective_lr(0.1, 2.0, 0.0)
    0.05
    """
    return rates.elr(lr, rho, "normalised") / (1 - lr * (radial / rho))


@formula(does_not_pass_the_origin)
def angle(lr: Number, rho: Number, radial: Number, g: Number) -> Number:
    """Angle between x and x', ``atan(effective_lr * g)`` radians; ``g`` is the norm of the tangential part of the
    update.
    """
    return np.arctan(effective_lr.function(lr, rho, radial) * g)

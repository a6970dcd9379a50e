r"""What a learning rate means for scale-invariant weights of norm ``rho``: the effective learning rate and step size.

============== ================ ====================================================================================
law            ELR, per step    optimizers
============== ================ ====================================================================================
``sgd``        ``lr / rho^2``   the gradient grows as 1/rho: SGD with or without momentum (Lobacheva et al. 2021)
``normalised`` ``lr / rho``     the update does not grow with the gradient: Adam and kin, Lion, Muon (homogeneity
                                classes of Amin et al. 2026)
============== ================ ====================================================================================

Numbers and numpy arrays are welcome; results have their shape. What optimizer has which law, and how a user names one
of their own: :mod:`scaleinv.theory.optimizers`.
"""

from typing import Any, Literal

import numpy as np

from scaleinv.errors import UserError

Law = Literal["sgd", "normalised"]
LAWS: tuple[Law, ...] = ("sgd", "normalised")


def elr(lr: Any, rho: Any, law: str = "sgd") -> Any:
    """Compute the effective learning rate.

        lr / rho^2 (sgd),  lr / rho (normalised)

    - ``lr``: learning rate, >= 0.
    - ``rho``: norm of the weights, >= 0, a number or an array that fits ``lr``; at 0 the answer is inf.
    - ``law``: ``sgd`` or ``normalised``.
    - Raises :class:`~scaleinv.UserError` for another law. Source: Lobacheva et al. 2021; normalised: Amin et al. 2026.

    >>> elr(0.1, 2.0), elr(0.1, 2.0, "normalised")
    (0.025, 0.05)
    """
    return _divide(lr, rho**2 if _known(law) == "sgd" else rho)


def elr_of_square(lr: Any, rho_sq: Any, law: str = "sgd") -> Any:
    """Compute :func:`elr` from the squared norm, which a record of steps holds: no root is taken and squared again.

    - ``rho_sq``: squared norm of the weights, >= 0. The others, errors and source as for :func:`elr`.

    >>> elr_of_square(0.1, np.array([1.0, 4.0]))
    array([0.1  , 0.025])
    """
    return _divide(lr, rho_sq if _known(law) == "sgd" else np.sqrt(rho_sq))


def lr(elr: Any, rho: Any, law: str = "sgd") -> Any:
    """Compute the learning rate that acts as ``elr`` at the norm ``rho``: the inverse of :func:`elr`.

        elr rho^2 (sgd),  elr rho (normalised)

    - ``elr``: effective learning rate per step, >= 0. The others, errors and source as for :func:`elr`.

    >>> lr(0.025, 2.0), lr(0.05, 2.0, "normalised")
    (0.1, 0.1)
    """
    return elr * rho * rho if _known(law) == "sgd" else elr * rho


def ess(elr: Any, eg: Any, law: str = "sgd", angle: Any = None) -> Any:
    """Compute the effective step size: how far one step turns the weights.

        elr eg (sgd),  tan(angle) (normalised)

    - ``elr``: effective learning rate per step, >= 0.
    - ``eg``: effective gradient norm, >= 0.
    - ``law``: ``sgd`` or ``normalised``.
    - ``angle``: that of the step, radians, for the law ``normalised``; inf from a right angle on, NaN where it is NaN.

    A normalised update has no length that ``elr eg`` could give. (Where a Monitor does not know the law, it measures
    the ELR that SGD would need for the step, and ``elr eg`` holds.) For plain SGD without weight decay both forms are
    one number, since the gradient is tangential; with it ``tan(angle) = elr eg / (1 - lr wd)``. The tangent is the same
    before and after the weights return to their sphere, and whatever the radial part of an update is.

    Raises :class:`~scaleinv.UserError` for another law, and for the law ``normalised`` without an angle. Source:
    Kodryan et al. 2022, eqs. 7-9 (sgd); Lobacheva et al. 2021, Proposition 1 follows from the tangent.

    >>> ess(0.025, 4.0), round(float(ess(0.05, 4.0, "normalised", angle=0.1)), 6)
    (0.1, 0.100335)
    """
    if _known(law) == "sgd":
        return elr * eg
    if angle is None:
        raise UserError("the effective step size of a normalised optimizer needs the angle of the step: pass angle=")
    with np.errstate(invalid="ignore"):
        return np.where(np.asarray(angle) >= np.pi / 2, np.inf, np.tan(angle))


def sgd_pace(momentum: Any = 0.0, dampening: Any = 0.0) -> Any:
    """Compute by how much SGD's learning rate counts with momentum; 1 without, where torch has no buffer.

        (1 - dampening)/(1 - momentum)

    - ``momentum``: in [0, 1).
    - ``dampening``: of the momentum buffer, as torch has it; does nothing without momentum.
    - Source: torch's SGD, summed over all later steps; Wan et al. 2020 for momentum.

    >>> sgd_pace(0.75), sgd_pace(0.75, dampening=0.75), sgd_pace(0.0, dampening=0.5)
    (4.0, 1.0, 1.0)
    """
    return (1 - dampening * (momentum != 0)) / (1 - momentum)


def _known(law: str) -> str:
    if law not in LAWS:
        raise UserError(f"law {law!r}: it gives no ELR; choose sgd (lr / rho^2) or normalised (lr / rho)")
    return law


def _divide(lr: Any, by: Any) -> Any:
    by = np.float64(0) if isinstance(by, (float, int)) and by == 0 else by  # inf, as an array has it
    with np.errstate(divide="ignore", invalid="ignore"):
        return lr / by

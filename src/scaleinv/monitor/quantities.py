r"""Derive the quantities that are recorded from the sums of a step. Names are stable: they are a history's columns.

==============  ======================================================================================================
``rho``         norm of the group before the step
``g``           norm of the gradient that the optimizer got (after clipping, unscaled)
``eg``          effective gradient norm ``g rho``
``lr``          learning rate of the group
``elr``         effective learning rate by the law of the optimizer; NaN for groups not known to be scale-invariant
``ess``         effective step size: ``elr eg``; for the law ``normalised`` ``tan(angle)`` (``scaleinv.theory.rates``)
``angle``       by which the step turned the group, radians; NaN from a zero weight, which has no direction
``radial``      radial part of the step, signed: the change of rho to first order, weight decay included
``tangential``  length of the tangential part of the step
``decay``       the part due to weight decay, ``lr wd rho``; NaN where decay is coupled and the update normalised (Adam)
``alignment``   cosine between step and minus gradient; NaN if the optimizer writes into the gradient (foreach Nesterov)
``g_radial``    cosine between gradient and weight: zero, up to rounding, for a scale-invariant group
==============  ======================================================================================================

Laws: ``sgd`` gives ``elr = lr / rho^2`` (Lobacheva et al. 2021); ``normalised``, where the update does not grow with
the gradient (Adam and kin, Lion, Muon), ``elr = lr / rho`` (homogeneity classes of Amin et al. 2026). ``measured``, for
optimizers whose law is not known: ``tangential / (rho eg)``, the ELR that plain SGD would need for this step.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scaleinv.monitor.rates import Rates
from scaleinv.theory import rates as theory

Array = npt.NDArray[np.float64]

#: what is recorded of every group, in the order of the columns
QUANTITIES = (
    "rho", "g", "eg", "lr", "elr", "ess", "angle", "radial", "tangential", "decay", "alignment", "g_radial",
)  # fmt: skip
COLUMN = {name: i for i, name in enumerate(QUANTITIES)}


def derive(sums: Array, rates: Sequence[Rates], scale_free: Sequence[bool]) -> Array:
    """Compute the quantities, shape (groups, quantities), from the sums of every group, shape (groups, sums)."""
    ww, dw, tt, qq, gd, gg, gw = sums.T
    lr, wd = np.array([r.lr for r in rates]), np.array([r.wd for r in rates])
    direct, sign = np.array([r.direct for r in rates]), np.array([r.sign for r in rates])
    law = np.array([r.law for r in rates])
    with np.errstate(all="ignore"):  # a diverged run: NaN and inf are its result
        rho, g = np.sqrt(ww), np.sqrt(gg)
        eg = g * rho
        spread = np.where(ww == 0, 0.0, qq - dw * dw / ww)  # rounding may leave it below zero, NaN stays NaN
        tangential = np.sqrt(tt + np.maximum(spread, 0.0))
        radial = np.where(ww == 0, 0.0, dw / rho)
        angle = np.where(ww == 0, np.nan, np.arctan2(tangential, rho + radial))  # zero has no direction
        # by law: sgd, normalised, measured
        of_sgd = theory.elr_of_square(lr, ww)
        elrs = (of_sgd, theory.elr(lr, rho, "normalised"), tangential / (rho * eg))
        sizes = (theory.ess(of_sgd, eg), theory.ess(None, None, "normalised", angle), tangential / rho)
        elr, ess = (np.select([law == "sgd", law == "normalised"], of[:2], of[2]) for of in (elrs, sizes))
        elr = np.where(np.array(scale_free, bool), elr, np.nan)
        step = np.hypot(tangential, radial)
        decay = np.where(direct | (wd == 0), lr * wd * rho, np.nan)
        alignment = -sign * gd / (g * step)
        return np.stack(
            [rho, g, eg, lr, elr, ess, angle, radial, tangential, decay, alignment, gw / eg], axis=1
        )  # in the order of QUANTITIES

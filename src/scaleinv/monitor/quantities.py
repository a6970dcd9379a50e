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
``decay``       length of the part due to weight decay: ``lr wd rho``, with momentum up to ``1/(1 - m)`` of that, as it
                builds up (:mod:`scaleinv.monitor.forces`); NaN where decay passes through a normalisation (Adam)
``pull``        radial part of the update without decay, signed: ``radial + decay``
``growth``      what the tangential part adds to the norm: ``|w + d| - (rho + radial)``; rho changes by
                ``growth + pull - decay``
``update_rms``  root mean square of the step's numbers: ``|d|/sqrt(size)``
``spectral``    largest singular value of a matrix before the step, by power iteration; NaN unless asked for
``alignment``   cosine between step and minus gradient; NaN if the optimizer writes into the gradient (foreach Nesterov)
``g_radial``    cosine between gradient and weight: zero, up to rounding, for a scale-invariant group
==============  ======================================================================================================

Laws: ``sgd`` gives ``elr = lr / rho^2`` (Lobacheva et al. 2021); ``normalised``, where the update does not grow with
the gradient (Adam and kin, Lion, Muon), ``elr = lr / rho`` (homogeneity classes of Amin et al. 2026); ``relative``,
where it grows with the weights (LARS, LAMB), ``elr = lr``. ``measured``, for optimizers whose law is not known:
``tangential / (rho eg)``, the ELR that plain SGD would need for this step. A group of several learning rates, and the
total of such, has the ELR of its law at the rate that acted, ``sqrt(sum t^2 / sum (t/lr)^2)`` over its tensors with
``t`` their tangential parts; where its tensors follow different laws it has none.

What is out of scope: logits of attention, activations and their entropies, which hooks on an optimizer do not see.
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
    "pull", "growth", "update_rms", "spectral",
)  # fmt: skip
COLUMN = {name: i for i, name in enumerate(QUANTITIES)}
#: kept for those who ask for them: not in the rows of a run folder, nor sent to trackers, unless they were asked for
OPTIONAL = ("update_rms", "spectral")


def tangential_parts(sums: Array) -> Array:
    """Compute the length of the tangential part of every row of sums."""
    ww, dw, tt, qq = sums.T[:4]
    with np.errstate(all="ignore"):
        spread = np.where(ww == 0, 0.0, qq - dw * dw / ww)  # rounding may leave it below zero, NaN stays NaN
        return np.asarray(np.sqrt(tt + np.maximum(spread, 0.0)))


def derive(
    sums: Array,
    rates: Sequence[Rates],
    scale_free: Sequence[bool],
    acting: Array | None = None,
    sizes: Array | None = None,
) -> Array:
    """Compute the quantities, shape (groups, quantities), from the sums of every group, shape (groups, sums).

    ``acting``: the learning rate that acted, where it is not that of the rates (several in a group).  ``sizes``: how
    many numbers each has.
    """
    ww, dw, _, _, gd, gg, gw = sums.T
    lr, wd = np.array([r.lr for r in rates]), np.array([r.wd for r in rates])
    direct, sign = np.array([r.direct for r in rates]), np.array([r.sign for r in rates])
    laws = [r.law for r in rates]
    rate = lr if acting is None else np.where(np.isnan(lr), acting, lr)
    with np.errstate(all="ignore"):  # a diverged run: NaN and inf are its result
        rho, g = np.sqrt(ww), np.sqrt(gg)
        eg = g * rho
        tangential = tangential_parts(sums)
        radial = np.where(ww == 0, 0.0, dw / rho)
        angle = np.where(ww == 0, np.nan, np.arctan2(tangential, rho + radial))  # zero has no direction
        elr, ess = tangential / (rho * eg), tangential / rho  # of the law "measured"
        for law in dict.fromkeys(laws):
            here = np.array([one == law for one in laws])
            if law == "sgd":
                of_sgd = theory.elr_of_square(rate, ww)
                elr, ess = np.where(here, of_sgd, elr), np.where(here, theory.ess(of_sgd, eg), ess)
            elif law in theory.LAWS:
                elr = np.where(here, theory.elr(rate, rho, law), elr)
                ess = np.where(here, theory.ess(None, None, law, angle), ess)
            elif law == "mixed":
                elr = np.where(here, np.nan, elr)
                ess = np.where(here, theory.ess(None, None, "normalised", angle), ess)
        elr = np.where(np.array(scale_free, bool), elr, np.nan)
        step = np.hypot(tangential, radial)
        decay = np.where(direct | (wd == 0), lr * wd * rho, np.nan)
        alignment = -sign * gd / (g * step)
        nothing = np.full_like(rho, np.nan)
        rms = nothing if sizes is None else step / np.sqrt(sizes)
        return np.stack(
            [rho, g, eg, lr, elr, ess, angle, radial, tangential, decay, alignment, gw / eg, nothing, nothing, rms,
             nothing], axis=1
        )  # fmt: skip  # in the order of QUANTITIES

r"""The intrinsic learning rate (Li, Lyu, Arora, NeurIPS 2020, 2010.02916): what SGD with weight decay depends on is
``lr wd``.
"""

from __future__ import annotations

import numpy as np

from scaleinv.theory._formula import Number, formula


@formula()
def intrinsic_lr(lr: Number, wd: Number) -> Number:
    """``lr wd``, per step.

    >>> intrinsic_lr(0.5, 0.25)
    0.125
    """
    return lr * wd


@formula(positive=("wd", "eg"))
def equilibrium_elr(eg: Number, lr: Number, wd: Number) -> Number:
    """ELR at equilibrium, ``sqrt(2 lr wd) / eg`` with the RMS effective gradient norm: lr and wd enter by their
    product only.

    >>> equilibrium_elr(2.0, 1.0, 0.02)
    0.1
    """
    return np.sqrt(2 * lr * wd) / eg


@formula(positive=("wd",))
def time_to_equilibrium(lr: Number, wd: Number) -> Number:
    """``1/(lr wd)`` steps: the order conjectured for equilibrium in function space (an order, not a prefactor)."""
    return 1 / (lr * wd)

r"""SGD on the sphere: groups, feedback and three regimes (Kodryan, Lobacheva et al., NeurIPS 2022, 2209.03695).

Projected SGD (eq. 6) on the sphere of all groups together. Symbols: ``elr_i = lr / rho_i^2``,
``eg_i = rho_i ||grad_i F||``, ``ess_i = elr_i eg_i`` of group i; the same without index for the whole vector. Groups
lie along the last axis.

The toy function is ``F(x, y) = sum_i alpha_i x_i^2 / (x_i^2 + y_i^2)`` (eq. 10) on the unit sphere; ``a = elr alpha``
for one group, ``k = elr sum_i alpha_i`` for all. Results marked "sharper" are not in the paper; tests and claims
check them by simulation.
"""

from __future__ import annotations

import numpy as np

from scaleinv.errors import UserError
from scaleinv.theory._formula import Number, condition, formula

#: above this k the toy's groups no longer share one ESS; observed, see docs/concepts/theory.md
EQUALITY_ENDS = 1.9
#: above this k consecutive iterates of the toy are nearly orthogonal (cosine below 0.1) and F is within 10 % of a
#: random direction's
CHAOS_RULES = 10.0


@formula()
def total_elr(elrs: Number) -> Number:
    """``1 / sum_i 1/elr_i``: the sum rule (eq. 7). Exact.

    >>> float(total_elr(np.array([2.0, 2.0])))
    1.0
    """
    return 1 / np.sum(1 / elrs, axis=-1)


@formula()
def total_ess(esses: Number, elrs: Number) -> Number:
    """``ess^2 = sum_i w_i ess_i^2``, ``w_i`` proportional to ``1/elr_i``: the convex combination (eq. 8). Exact.

    >>> float(total_ess(np.array([3.0, 3.0]), np.array([1.0, 7.0])))
    3.0
    """
    weights = (1 / elrs) / np.sum(1 / elrs, axis=-1, keepdims=True)
    return np.sqrt(np.sum(weights * esses**2, axis=-1))


@formula()
def next_elrs(elrs: Number, esses: Number) -> Number:
    """``elr_i' = elr_i (1 + ess^2) / (1 + ess_i^2)``: the feedback (eq. 9). Exact for a projected step.

    A group that moves more than the whole gets a smaller ELR next, one that moves less a larger one.
    """
    total_sq = total_ess.function(esses, elrs) ** 2
    return elrs * (1 + total_sq[..., None]) / (1 + esses**2)


@formula()
def cosine(ess: Number) -> Number:
    """Cosine of consecutive iterates on the sphere, ``1/sqrt(1 + ess^2)``. Exact.

    >>> cosine(0.0)
    1.0
    """
    return 1 / np.sqrt(1 + ess**2)


@condition
def converges(elr: Number, alpha: Number) -> Number:
    """elr < 1/alpha."""
    return elr * alpha < 1


@condition
def does_not_converge(elr: Number, alpha: Number) -> Number:
    """elr > 1/alpha."""
    return elr * alpha > 1


@condition
def is_not_critical(elr: Number, alpha: Number) -> Number:
    """elr is not 1/alpha, where convergence is slower than linear."""
    return elr * alpha != 1


@formula()
def threshold(alpha: Number) -> Number:
    """``1/alpha``, the ELR below which ``f_alpha = alpha x^2/(x^2+y^2)`` converges (Proposition 3)."""
    return 1 / alpha


@formula(is_not_critical)
def level(elr: Number, alpha: Number) -> Number:
    """Where f_alpha ends (Proposition 3): 0 for ``elr < 1/alpha``, ``(alpha - 1/elr)/2`` for ``elr > 1/alpha``; no
    value at 1/alpha.

    >>> level(2.0, 1.0), level(0.5, 1.0)
    (0.25, 0.0)
    """
    return np.maximum(alpha - 1 / elr, 0.0) / 2


@formula(converges)
def contraction(elr: Number, alpha: Number) -> Number:
    """Factor of ``|x/y|`` per step near the minimum, ``|1 - 2 elr alpha|`` (sharper). Condition: ``converges``.

    Zero at ``elr = 1/(2 alpha)``: there convergence is faster than linear.

    >>> contraction(0.25, 1.0)
    0.5
    """
    return np.abs(1 - 2 * elr * alpha)


@formula(does_not_converge)
def orbit_multiplier(elr: Number, alpha: Number) -> Number:
    """Derivative of the step along the period-2 orbit of f_alpha, ``-1 + 2/a^2`` (sharper): in (-1, 1), so the orbit
    attracts for every a > 1. Condition: ``does_not_converge``.
    """
    return -1 + 2 / (elr * alpha) ** 2


@condition
def does_not_converge_together(k: Number) -> Number:
    """k = elr sum(alpha) > 1."""
    return k > 1


@formula()
def convergence_threshold(alphas: Number) -> Number:
    """``1 / sum_i alpha_i``: the toy converges iff the total ELR is below (eq. 11).

    >>> convergence_threshold(np.array([1.0, 2.0, 5.0]))
    0.125
    """
    return 1 / np.sum(alphas, axis=-1)


@formula()
def equilibrium_elrs(elr: Number, alphas: Number) -> Number:
    """``elr_i* = elr sum_j alpha_j / alpha_i``, where the ESS of all groups are equal (eq. 12).

    >>> equilibrium_elrs(0.5, np.array([1.0, 3.0])).tolist()
    [2.0, 0.6666666666666666]
    """
    return elr * np.sum(alphas, axis=-1, keepdims=True) / alphas


@formula(does_not_converge_together)
def equilibrium_level(k: Number) -> Number:
    """F / sum(alpha) at the equilibrium of (eq. 12): ``(1 - 1/k)/2``, Proposition 3 with alpha = sum(alpha) (sharper).

    Holds to a per cent for k up to about 1.7; a random direction gives 1/2.

    >>> equilibrium_level(2.0)
    0.25
    """
    return (1 - 1 / k) / 2


@formula(does_not_converge_together)
def equilibrium_ess(k: Number) -> Number:
    """The common ESS, ``sqrt(k^2 - 1)`` (sharper); one group: ``k = elr alpha``."""
    return np.sqrt(k**2 - 1)


@formula(does_not_converge_together)
def equilibrium_cosine(k: Number) -> Number:
    """Cosine of consecutive iterates at the equilibrium, ``1/k`` (sharper)."""
    return 1 / k


@formula(does_not_converge_together)
def feedback_jacobian(k: Number) -> Number:
    """Linearised step of one group around the equilibrium, in ``(p, a)`` with ``p = 1 - 2x^2/(x^2+y^2)``,
    ``a = elr_i alpha_i`` (sharper).

    Its matrix is ``[[-1 + 2/k^2, -2 (k^2-1)/k^4], [2, -1 + 2/k^2]]``; shape ``(..., 2, 2)``. The determinant is 1: a
    neutral centre. The feedback equalises averages of log(1 + ess_i^2), it does not damp the oscillation around them.
    """
    same = -1 + 2 / k**2
    rows = [np.stack([same, -2 * (k**2 - 1) / k**4], -1), np.stack([same * 0 + 2, same], -1)]
    return np.stack(rows, -2)


@formula(does_not_converge_together)
def feedback_phase(k: Number) -> Number:
    """Angle of rotation per step around the neutral centre, ``acos(2/k^2 - 1)`` radians (sharper): 90 degrees at sqrt
    2, 120 at 2.
    """
    return np.arccos(2 / k**2 - 1)


def toy_regime(k: float) -> int | None:
    """The regime expected of the toy at ``k = elr sum(alpha)``: 1 below 1, 2 up to :data:`EQUALITY_ENDS`, 3 from
    :data:`CHAOS_RULES`; None at k = 1 and in the gradual passage between 2 and 3, where the theory does not decide.

    >>> [toy_regime(k) for k in (0.5, 1.5, 4.0, 20.0)]
    [1, 2, None, 3]
    """
    if k <= 0:
        raise UserError(f"toy_regime: k is {k:g}; it has to be positive")
    if k < 1:
        return 1
    if 1 < k <= EQUALITY_ENDS:
        return 2
    return 3 if k >= CHAOS_RULES else None


def window_change(elr_start: Number, elr_end: Number, steps: int) -> Number:
    """``|ln elr_i(T) - ln elr_i(0)| / T``: by (eq. 9) exactly the amount by which the means of ``log(1 + ess_i^2)`` and
    ``log(1 + ess^2)`` over the window differ. In a stationary run it vanishes as 1/T, so these means equalise; plain
    means of ESS need not.
    """
    return np.abs(np.log(np.asarray(elr_end)) - np.log(np.asarray(elr_start))) / steps

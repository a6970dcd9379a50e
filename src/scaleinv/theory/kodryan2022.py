r"""SGD on the sphere: groups, feedback and three regimes (Kodryan, Lobacheva et al., NeurIPS 2022, 2209.03695).

Projected SGD (eq. 6) on the sphere of all groups together. Symbols: ``elr_i = lr / rho_i^2``,
``eg_i = rho_i ||grad_i F||``, ``ess_i = elr_i eg_i`` of group i; the same without index for the whole vector. Groups
lie along the last axis.

The toy function is ``F(x, y) = sum_i alpha_i x_i^2 / (x_i^2 + y_i^2)`` (eq. 10) on the unit sphere; ``a = elr alpha``
for one group, ``k = elr sum_i alpha_i`` for all. Results marked "sharper" are not in the paper; tests and claims
check them by simulation.
"""

import numpy as np

from scaleinv.errors import UserError
from scaleinv.theory._formula import Condition, Number, formula

#: above this k the toy's groups no longer share one ESS; observed, see docs/concepts/theory.md
EQUALITY_ENDS = 1.9
#: above this k consecutive iterates of the toy are nearly orthogonal (cosine below 0.1) and F is within 10 % of a
#: random direction's
CHAOS_RULES = 10.0


@formula()
def total_elr(elrs: Number) -> Number:
    """Compute the ELR of all groups together from those of the groups, the sum rule. Exact.

        elr = 1 / sum_i 1/elr_i

    - ``elrs``: elr_i of the groups, per step, shape (..., groups), > 0.
    - Returns shape (...). Raises :class:`~scaleinv.UserError` outside this range. Source: Kodryan et al. 2022, eq. 7.

    >>> float(total_elr(np.array([2.0, 2.0])))
    1.0
    """
    return 1 / np.sum(1 / elrs, axis=-1)


@formula()
def total_ess(esses: Number, elrs: Number) -> Number:
    """Compute the ESS of all groups together, a convex combination. Exact.

        ess^2 = sum_i w_i ess_i^2,  w_i = (1/elr_i) / sum_j (1/elr_j)

    - ``esses``, ``elrs``: ess_i >= 0 and elr_i > 0 of the groups, shape (..., groups).
    - Returns shape (...). Raises :class:`~scaleinv.UserError` outside these ranges. Source: Kodryan et al. 2022, eq. 8.

    >>> float(total_ess(np.array([3.0, 3.0]), np.array([1.0, 7.0])))
    3.0
    """
    weights = (1 / elrs) / np.sum(1 / elrs, axis=-1, keepdims=True)
    return np.sqrt(np.sum(weights * esses**2, axis=-1))


@formula()
def next_elrs(elrs: Number, esses: Number) -> Number:
    """Compute the ELRs of the groups after a projected step, the feedback. Exact.

        elr_i' = elr_i (1 + ess^2) / (1 + ess_i^2)

    Arguments, ranges and errors as for :func:`total_ess`. Returns shape (..., groups). A group that moves more than the
    whole gets a smaller ELR next, one that moves less a larger one. Source: Kodryan et al. 2022, eq. 9.

    >>> next_elrs(np.array([1.0, 1.0]), np.array([0.0, 1.0])).tolist()
    [1.5, 0.75]
    """
    total_sq = total_ess.function(esses, elrs) ** 2
    return elrs * (1 + total_sq[..., None]) / (1 + esses**2)


@formula()
def cosine(ess: Number) -> Number:
    """Compute the cosine of consecutive iterates on the sphere. Exact.

        1/sqrt(1 + ess^2)

    - ``ess``: effective step size, >= 0.
    - Raises :class:`~scaleinv.UserError` outside this range. Source: Kodryan et al. 2022, eq. 6 and a tangent gradient.

    >>> cosine(0.0)
    1.0
    """
    return 1 / np.sqrt(1 + ess**2)


converges = Condition("converges", "elr < 1/alpha", lambda elr, alpha: elr * alpha < 1)
does_not_converge = Condition("does_not_converge", "elr > 1/alpha", lambda elr, alpha: elr * alpha > 1)
is_not_critical = Condition(
    "is_not_critical",
    "elr is not 1/alpha, where convergence is slower than linear",
    lambda elr, alpha: elr * alpha != 1,
)


@formula()
def threshold(alpha: Number) -> Number:
    """Compute the ELR below which the toy of one group, ``f_alpha``, converges.

        1/alpha

    - ``alpha``: coefficient of the group, > 0.
    - Raises :class:`~scaleinv.UserError` outside this range. Source: Kodryan et al. 2022, Proposition 3.

    >>> threshold(4.0)
    0.25
    """
    return 1 / alpha


@formula(is_not_critical)
def level(elr: Number, alpha: Number) -> Number:
    """Compute the value at which ``f_alpha`` ends: it converges below the threshold and stays at a level above.

        0 for elr < 1/alpha,  (alpha - 1/elr)/2 for elr > 1/alpha

    - ``elr``, ``alpha``: effective learning rate per step and coefficient of the group, both > 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges, :class:`~scaleinv.OutsideConditions` at elr = 1/alpha.
      Source: Kodryan et al. 2022, Proposition 3.

    >>> level(2.0, 1.0), level(0.5, 1.0)
    (0.25, 0.0)
    """
    return np.maximum(alpha - 1 / elr, 0.0) / 2


@formula(converges)
def contraction(elr: Number, alpha: Number) -> Number:
    """Compute the factor of ``|x/y|`` per step near the minimum of ``f_alpha`` (sharper).

        |1 - 2 elr alpha|

    Arguments and ranges as for :func:`level`. Zero at ``elr = 1/(2 alpha)``: there convergence is faster than linear.
    Raises :class:`~scaleinv.UserError` outside the ranges, :class:`~scaleinv.OutsideConditions` unless ``converges``.
    Source: ours, sharpening Kodryan et al. 2022, Proposition 3.

    >>> contraction(0.25, 1.0)
    0.5
    """
    return np.abs(1 - 2 * elr * alpha)


@formula(does_not_converge)
def orbit_multiplier(elr: Number, alpha: Number) -> Number:
    """Compute the derivative of the step along the orbit of period two of ``f_alpha`` (sharper).

        -1 + 2/(elr alpha)^2,  in (-1, 1): the orbit attracts at every elr > 1/alpha

    Arguments and ranges as for :func:`level`. Raises :class:`~scaleinv.UserError` outside the ranges,
    :class:`~scaleinv.OutsideConditions` unless ``does_not_converge``. Source: ours, sharpening Kodryan et al. 2022,
    Proposition 3.

    >>> orbit_multiplier(2.0, 1.0)
    -0.5
    """
    return -1 + 2 / (elr * alpha) ** 2


does_not_converge_together = Condition("does_not_converge_together", "k = elr sum(alpha) > 1", lambda k: k > 1)


@formula()
def convergence_threshold(alphas: Number) -> Number:
    """Compute the total ELR below which the toy of several groups converges.

        1 / sum_i alpha_i

    - ``alphas``: coefficients of the groups, shape (..., groups), > 0.
    - Returns shape (...). Raises :class:`~scaleinv.UserError` outside this range. Source: Kodryan et al. 2022, eq. 11.

    >>> float(convergence_threshold(np.array([1.0, 2.0, 5.0])))
    0.125
    """
    return 1 / np.sum(alphas, axis=-1)


@formula()
def equilibrium_elrs(elr: Number, alphas: Number) -> Number:
    """Compute the ELRs of the groups at which the ESS of all groups are equal.

        elr_i* = elr sum_j alpha_j / alpha_i

    - ``elr``: of all groups together, per step, > 0.
    - ``alphas``: coefficients of the groups, shape (..., groups), > 0.
    - Returns shape (..., groups). Raises :class:`~scaleinv.UserError` outside these ranges. Source: Kodryan et al.
      2022, eq. 12.

    >>> equilibrium_elrs(0.5, np.array([1.0, 3.0])).tolist()
    [2.0, 0.6666666666666666]
    """
    return elr * np.sum(alphas, axis=-1, keepdims=True) / alphas


@formula(does_not_converge_together)
def equilibrium_level(k: Number) -> Number:
    """Compute F / sum(alpha) at the equilibrium of equal ESS (sharper).

        (1 - 1/k)/2

    - ``k``: ``elr sum(alpha)``, > 1.

    Holds to a per cent for k up to about 1.7; a random direction gives 1/2. Raises :class:`~scaleinv.UserError` for k
    <= 0, :class:`~scaleinv.OutsideConditions` for k <= 1. Source: ours; Kodryan et al. 2022, Proposition 3 with alpha =
    sum(alpha).

    >>> equilibrium_level(2.0)
    0.25
    """
    return (1 - 1 / k) / 2


@formula(does_not_converge_together)
def equilibrium_ess(k: Number) -> Number:
    """Compute the ESS that all groups have at the equilibrium of equal ESS (sharper).

        sqrt(k^2 - 1)

    Argument, range and errors as for :func:`equilibrium_level`. Source: ours, at the equilibrium of eq. 12.

    >>> equilibrium_ess(1.25)
    0.75
    """
    return np.sqrt(k**2 - 1)


@formula(does_not_converge_together)
def equilibrium_cosine(k: Number) -> Number:
    """Compute the cosine of consecutive iterates at the equilibrium of equal ESS (sharper).

        1/k

    Argument, range and errors as for :func:`equilibrium_level`. Source: ours, at the equilibrium of eq. 12.

    >>> equilibrium_cosine(4.0)
    0.25
    """
    return 1 / k


@formula(does_not_converge_together)
def feedback_jacobian(k: Number) -> Number:
    """Compute the linearised step of one group around the equilibrium of equal ESS (sharper).

        [[-1 + 2/k^2, -2 (k^2 - 1)/k^4], [2, -1 + 2/k^2]]

    Argument, range and errors as for :func:`equilibrium_level`. Coordinates: ``p = 1 - 2x^2/(x^2+y^2)`` and
    ``a = elr_i alpha_i``. Returns shape (..., 2, 2). The determinant is 1: a neutral centre. The feedback equalises
    averages of log(1 + ess_i^2), it does not damp the oscillation around them. Source: ours, from eqs. 9 and 12.

    >>> feedback_jacobian(2.0).tolist()
    [[-0.5, -0.375], [2.0, -0.5]]
    """
    same = -1 + 2 / k**2
    rows = [np.stack([same, -2 * (k**2 - 1) / k**4], -1), np.stack([same * 0 + 2, same], -1)]
    return np.stack(rows, -2)


@formula(does_not_converge_together)
def feedback_phase(k: Number) -> Number:
    """Compute the angle in radians by which a group turns around the neutral centre in a step (sharper).

        acos(2/k^2 - 1): 90 degrees at k = sqrt 2, 120 at 2

    Argument, range and errors as for :func:`equilibrium_level`. Source: ours, from Kodryan et al. 2022, eqs. 9 and 12.

    >>> round(feedback_phase(2.0) / np.pi * 180, 9)
    120.0
    """
    return np.arccos(2 / k**2 - 1)


def toy_regime(k: float) -> int | None:
    """Tell the regime expected of the toy, or None where the theory does not decide.

        1 for k < 1,  2 for 1 < k <= EQUALITY_ENDS,  3 for k >= CHAOS_RULES

    - ``k``: ``elr sum(alpha)``, > 0. None at k = 1 and in the gradual passage between 2 and 3.
    - Raises :class:`~scaleinv.UserError` for k <= 0. Source: regime 1 by Kodryan et al. 2022, eq. 11; the other bounds
      observed, see docs/concepts/theory.md.

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
    """Compute by how much the means of log(1 + ess_i^2) and of log(1 + ess^2) over a window differ. Exact.

        |ln elr_i(T) - ln elr_i(0)| / T

    - ``elr_start``, ``elr_end``: elr_i of the groups at the ends of the window, any one shape, > 0.
    - ``steps``: T, length of the window, > 0.

    In a stationary run it is O(1/T): these means equalise, plain ones may not. Source: Kodryan et al. 2022, eq. 9.

    >>> float(window_change(1.0, np.e, 10))
    0.1
    """
    return np.abs(np.log(np.asarray(elr_end)) - np.log(np.asarray(elr_start))) / steps

r"""SGD with weight decay in the whole space: norms, jumps and their times (Lobacheva, Kodryan et al., NeurIPS 2021,
2106.15739).

The step is ``x' = (1 - lr wd) x - lr grad f(x)``, f scale-invariant. Symbols: ``rho_sq = ||x||^2``;
``eg = ||x|| ||grad f(x)||`` the effective gradient norm; ``low <= eg <= high`` its bounds in a stretch of training
(the paper's l and L); ``keep = 1 - lr wd``. Norms are in units of the weights, times in steps, angles in radians.
"""

from __future__ import annotations

import numpy as np

from scaleinv.theory import rates
from scaleinv.theory._formula import Number, condition, formula


@formula()
def effective_lr(lr: Number, rho_sq: Number) -> Number:
    """ELR of SGD, ``lr / rho^2``: the learning rate that acts on the unit sphere. Exact.

    >>> effective_lr(0.1, 4.0)
    0.025
    """
    return rates.elr_of_square(lr, rho_sq)


@formula()
def next_rho_sq(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """``rho'^2 = (1 - lr wd)^2 rho^2 + lr^2 eg^2 / rho^2`` (eq. 4). Exact, since the gradient is orthogonal to the
    weights.

    >>> next_rho_sq(1.0, 2.0, 0.5, 0.0)
    2.0
    """
    return (1 - lr * wd) ** 2 * rho_sq + (lr * eg) ** 2 / rho_sq


@formula(positive=("wd",))
def rho_sq_at(steps: Number, rho0_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """``rho^2`` after ``steps`` steps of (eq. 4) with a constant ``eg``:
    ``rho^4 = kappa^2 eg^2 + (rho0^4 - kappa^2 eg^2) exp(-4 lr wd steps)``.

    Approximation of the paper's proof: drops terms of relative order ``lr wd`` and ``(lr eg / rho^2)^2``.

    >>> round(rho_sq_at(0.0, 3.0, 1.0, 0.01, 0.001), 12)
    3.0
    """
    rest = lr * eg**2 / (2 * wd)
    return np.sqrt(rest + (rho0_sq**2 - rest) * np.exp(-4 * lr * wd * steps))


@formula()
def step_ratio(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """``z = lr eg / ((1 - lr wd) rho^2)``, the tangent of the angle between x and x'. Exact."""
    return lr * eg / ((1 - lr * wd) * rho_sq)


@formula()
def step_angle(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Angle between consecutive iterates, ``atan z``, in radians. Exact; accurate for tiny angles, unlike acos of the
    cosine.

    >>> step_angle(1.0, 1.0, 1.0, 0.0) == np.pi / 4
    True
    """
    return np.arctan(step_ratio.function(rho_sq, eg, lr, wd))


@formula()
def step_cosine_distance(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """``1 - cos(x, x') = 1 - 1/sqrt(1 + z^2)``, about ``z^2/2`` for small z. Exact (evaluated without cancellation)."""
    z_sq = step_ratio.function(rho_sq, eg, lr, wd) ** 2
    secant = np.sqrt(1 + z_sq)
    return z_sq / (secant * (1 + secant))


@formula()
def cosine_distance_envelope(rho_sq: Number, low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """Lower and upper end of ``1 - cos(x, x')`` when ``low <= eg <= high`` (the envelope drawn in Fig. 4). Exact; a
    pair.
    """
    distance = step_cosine_distance.function
    return distance(rho_sq, low, lr, wd), distance(rho_sq, high, lr, wd)


def _jump_ratio(delta: Number) -> Number:
    # tan of the angle whose cosine is 1 - delta: sqrt((1-delta)^-2 - 1) without cancellation
    return np.sqrt(delta * (2 - delta)) / (1 - delta)


@formula()
def jump_rho_sq(delta: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """A delta-jump (Definition 1) happens iff ``rho^2`` is below ``lr eg / ((1 - lr wd) s)``,
    ``s = sqrt((1-delta)^-2 - 1)``. Exact form of Proposition 1: with ``eg = high`` a jump is possible below, with
    ``eg = low`` sure.

    >>> round(jump_rho_sq(0.5, 1.0, 1.0, 0.0), 6)
    0.57735
    """
    return lr * eg / ((1 - lr * wd) * _jump_ratio(delta))


@formula()
def jump_rho_sq_small_delta(delta: Number, eg: Number, lr: Number) -> Number:
    """``lr eg / sqrt(2 delta)``, Proposition 1 as printed: drops ``lr wd`` and a relative ``3 delta / 4``.

    >>> jump_rho_sq_small_delta(0.5, 2.0, 1.0)
    2.0
    """
    return lr * eg / np.sqrt(2 * delta)


@formula(positive=("wd",))
def kappa(lr: Number, wd: Number) -> Number:
    """``kappa = sqrt(lr / (2 wd))``: with a constant eg the norm settles at ``rho^2 = kappa eg`` (to order lr wd).

    >>> kappa(0.02, 0.01)
    1.0
    """
    return np.sqrt(lr / (2 * wd))


@condition
def starts_above_low_end(rho0_sq: Number, low: Number, lr: Number, wd: Number) -> Number:
    """rho0^2 > kappa l."""
    return rho0_sq > np.sqrt(lr / (2 * wd)) * low


@condition
def starts_above_high_end(rho0_sq: Number, high: Number, lr: Number, wd: Number) -> Number:
    """rho0^2 > kappa L."""
    return rho0_sq > np.sqrt(lr / (2 * wd)) * high


@condition
def jump_can_be_reached(delta: Number, low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """delta < lr wd L^2/l^2."""
    return delta < lr * wd * (high / low) ** 2


@condition
def jump_must_be_reached(delta: Number, low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """delta < lr wd l^2/L^2."""
    return delta < lr * wd * (low / high) ** 2


def _crossing(rho0_sq: Number, target_sq: Number, rest_sq: Number, lr: Number, wd: Number) -> Number:
    # rho^4 relaxes to rest^4 at the rate 4 lr wd; already below the target: no time at all
    ratio = (rho0_sq**2 - rest_sq**2) / (target_sq**2 - rest_sq**2)
    return np.maximum(np.log(ratio), 0.0) / (4 * lr * wd)


@formula(starts_above_low_end, jump_can_be_reached, positive=("wd",))
def t_min(rho0_sq: Number, low: Number, high: Number, lr: Number, wd: Number, delta: Number) -> Number:
    """No delta-jump before ``1/(4 lr wd) ln[(rho0^4 - kappa^2 l^2) / (lr^2 L^2/(2 delta) - kappa^2 l^2)]`` steps
    (Proposition 2).

    The fastest case: eg stays at l until a gradient of L suffices. Conditions: ``starts_above_low_end``,
    ``jump_can_be_reached``. The paper states the order ``1/(4 lr wd)``; the logarithm is ours, checked against the
    recursion to 0.1 %. Drops terms of relative order ``lr wd`` and ``delta``. Zero if the start already allows a jump.

    >>> round(t_min(100.0, 0.3, 3.0, 0.03, 1e-3, 1e-6))
    7534
    """
    return _crossing(rho0_sq, lr * high / np.sqrt(2 * delta), np.sqrt(lr / (2 * wd)) * low, lr, wd)


@formula(starts_above_high_end, jump_must_be_reached, positive=("wd",))
def t_max(rho0_sq: Number, low: Number, high: Number, lr: Number, wd: Number, delta: Number) -> Number:
    """A delta-jump within ``1/(2 lr wd) ln[(rho0^2 - kappa L) / (lr l/sqrt(2 delta) - kappa L)]`` steps (Proposition
    2).

    Conditions: ``starts_above_high_end``, ``jump_must_be_reached``. An upper bound; the slowest case itself is
    :func:`t_slowest`. The paper states the order ``1/(2 lr wd)``. Zero if the start already forces a jump.
    """
    rest = np.sqrt(lr / (2 * wd)) * high
    ratio = (rho0_sq - rest) / (lr * low / np.sqrt(2 * delta) - rest)
    return np.maximum(np.log(ratio), 0.0) / (2 * lr * wd)


@formula(starts_above_high_end, jump_must_be_reached, positive=("wd",))
def t_slowest(rho0_sq: Number, low: Number, high: Number, lr: Number, wd: Number, delta: Number) -> Number:
    """Time of a delta-jump in the slowest case: eg stays at L until a gradient of l suffices,
    ``1/(4 lr wd) ln[(rho0^4 - kappa^2 L^2) / (lr^2 l^2/(2 delta) - kappa^2 L^2)]``.

    Conditions as for :func:`t_max`, which it never exceeds; equality to 0.1 % with the recursion.
    """
    return _crossing(rho0_sq, lr * low / np.sqrt(2 * delta), np.sqrt(lr / (2 * wd)) * high, lr, wd)


@formula(positive=("wd",))
def t_min_order(lr: Number, wd: Number) -> Number:
    """The paper's order of :func:`t_min`, ``1/(4 lr wd)`` steps: the time in which rho^4 falls by e without
    gradients.
    """
    return 1 / (4 * lr * wd)


@formula(positive=("wd",))
def t_max_order(lr: Number, wd: Number) -> Number:
    """The paper's order of :func:`t_max`, ``1/(2 lr wd)`` steps. Corollary 1: periods come at a frequency
    proportional to ``lr wd``.
    """
    return 1 / (2 * lr * wd)


@condition
def decay_is_slow(low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """2 lr wd L <= l."""
    return 2 * lr * wd * high <= low


@condition
def decay_is_slow_for_any_sequence(low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """(2 lr wd - lr^2 wd^2) (L + l) <= l.

    The exact condition under which no sequence of eg in [l, L] leaves ``[c kappa l, c kappa L]``, c = (1 - lr
    wd/2)^-1/2, once inside: the worst step starts at the lower end with eg = L.
    """
    return lr * wd * (2 - lr * wd) * (high + low) <= low


@condition
def decay_keeps_half(lr: Number, wd: Number) -> Number:
    """(1 - lr wd)^2 >= 1/2."""
    return (1 - lr * wd) ** 2 >= 0.5


@formula(decay_is_slow, positive=("wd",))
def norm_interval(low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """``kappa l <= rho_t^2 <= kappa L`` for large t, a pair (Theorem 1, generalised equilibrium). Condition:
    ``decay_is_slow``.

    As printed. The statement is exact for the recursion with ``1 - 2 lr wd`` in place of ``(1 - lr wd)^2``; by itself
    it is crossed by a relative ``lr wd / 4`` with a constant eg, and by more under ``decay_is_slow`` alone when lr wd
    is large: use :func:`norm_interval_exact` to test a run.

    >>> norm_interval(1.0, 2.0, 0.02, 0.01)
    (1.0, 2.0)
    """
    scale = np.sqrt(lr / (2 * wd))
    return scale * low, scale * high


@formula(decay_keeps_half, positive=("wd",))
def norm_interval_exact(low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """The interval of rho^2 that no sequence of eg in [l, L] leaves and every one tends to, a pair:
    ``[c kappa l, c kappa max(L, M)]``, ``c = (1 - lr wd/2)^-1/2``, ``M = a^2 l + (1 - a^2) L^2/l``, ``a = 1 - lr wd``.

    Exact. ``M <= L`` iff ``decay_is_slow_for_any_sequence``: then it is Theorem 1's interval with the factor c.
    Condition: ``decay_keeps_half`` (else the lower end can be crossed).

    >>> [round(end, 4) for end in norm_interval_exact(1.0, 2.0, 1.0, 0.2)]  # in units of kappa: 1.0541, 2.1925
    [1.6667, 3.4667]
    """
    kept = (1 - lr * wd) ** 2
    scale = np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2))
    worst = kept * low + (1 - kept) * high**2 / low
    return scale * low, scale * np.maximum(high, worst)


@formula(positive=("wd",))
def resting_rho_sq(eg: Number, lr: Number, wd: Number) -> Number:
    """Fixed point of (eq. 4) with a constant eg: ``kappa eg / sqrt(1 - lr wd/2)``. Exact.

    >>> next_rho_sq(resting_rho_sq(3.0, 0.1, 0.2), 3.0, 0.1, 0.2) / resting_rho_sq(3.0, 0.1, 0.2)
    1.0
    """
    return np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2)) * eg


@formula(starts_above_high_end, decay_keeps_half, positive=("wd",))
def time_to_interval(rho0_sq: Number, high: Number, lr: Number, wd: Number, tolerance: Number = 0.01) -> Number:
    """Steps after which rho^2 is below ``(1 + tolerance) c kappa L`` for any sequence eg <= L (Theorem 1, linear
    convergence): ``ln[(rho0^2/(c kappa L) - 1)/tolerance] / (-2 ln(1 - lr wd))``, that is O(1/(2 lr wd)).

    A bound: the excess over the upper end shrinks by ``(1 - lr wd)^2`` or faster in each step. Condition:
    ``starts_above_high_end``.
    """
    excess = rho0_sq / (np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2)) * high) - 1
    return np.maximum(np.log(np.maximum(excess, tolerance) / tolerance), 0.0) / (-2 * np.log1p(-lr * wd))

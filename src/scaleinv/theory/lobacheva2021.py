r"""SGD with weight decay in the whole space: norms, jumps and their times (Lobacheva, Kodryan et al., NeurIPS 2021,
arXiv 2106.15739).

The step is ``x' = (1 - lr wd) x - lr grad f(x)``, f scale-invariant. Every argument is a number, an array or a tensor;
arrays are broadcast against each other, and the answer has their shape. Times are in steps of training.
"""

import numpy as np

from scaleinv.theory._formula import Condition, Number, formula


@formula()
def next_rho_sq(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Compute the squared norm after a step. Exact, since the gradient is orthogonal to the weights.

        rho'^2 = (1 - lr wd)^2 rho^2 + lr^2 eg^2 / rho^2

    - ``rho_sq``: squared norm of the weights before the step, > 0.
    - ``eg``: effective gradient norm ``||x|| ||grad f(x)||`` before the step, >= 0.
    - ``lr``, ``wd``: learning rate > 0, coupled weight decay >= 0, lr wd < 1.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Lobacheva et al. 2021, eq. 4.

    >>> next_rho_sq(1.0, 2.0, 0.5, 0.0)
    2.0
    """
    return (1 - lr * wd) ** 2 * rho_sq + (lr * eg) ** 2 / rho_sq


@formula(positive=("wd",))
def rho_sq_at(steps: Number, rho0_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Compute the squared norm after so many steps with a constant effective gradient norm.

        rho^4 = kappa^2 eg^2 + (rho0^4 - kappa^2 eg^2) exp(-4 lr wd steps)

    - ``steps``: >= 0.
    - ``rho0_sq``: squared norm at the start, > 0.
    - ``eg``: effective gradient norm, >= 0.
    - ``lr``, ``wd``: learning rate, coupled weight decay, both > 0, lr wd < 1.

    Drops terms of relative order ``lr wd`` and ``(lr eg / rho^2)^2``. Raises :class:`~scaleinv.UserError` outside these
    ranges. Source: Lobacheva et al. 2021, proof of Proposition 2.

    >>> round(rho_sq_at(0.0, 3.0, 1.0, 0.01, 0.001), 12)
    3.0
    """
    rest = kappa.function(lr, wd) ** 2 * eg**2
    return np.sqrt(rest + (rho0_sq**2 - rest) * np.exp(-4 * lr * wd * steps))


@formula()
def step_ratio(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Compute the tangent of the angle between the weights before and after a step. Exact.

        z = lr eg / ((1 - lr wd) rho^2)

    Arguments, ranges and errors as for :func:`next_rho_sq`. Source: Lobacheva et al. 2021, SGD's step and eq. 2a.

    >>> step_ratio(2.0, 4.0, 0.5, 0.0)
    1.0
    """
    return lr * eg / ((1 - lr * wd) * rho_sq)


@formula()
def step_angle(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Compute the angle of a step in radians, accurate for tiny angles, unlike acos of the cosine. Exact.

        angle = atan z,  z of :func:`step_ratio`

    Arguments, ranges and errors as for :func:`next_rho_sq`. Source: as :func:`step_ratio`.

    >>> step_angle(1.0, 1.0, 1.0, 0.0) == np.pi / 4
    True
    """
    return np.arctan(step_ratio.function(rho_sq, eg, lr, wd))


@formula()
def step_cosine_distance(rho_sq: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Compute one minus the cosine between consecutive iterates, without cancellation. Exact.

        1 - cos(x, x') = 1 - 1/sqrt(1 + z^2),  about z^2/2 for small z of :func:`step_ratio`

    Arguments, ranges and errors as for :func:`next_rho_sq`. Source: Lobacheva et al. 2021, Definition 1 and Fig. 4.

    >>> step_cosine_distance(1.0, 3**0.5, 1.0, 0.0)
    0.5
    """
    z_sq = step_ratio.function(rho_sq, eg, lr, wd) ** 2
    secant = np.sqrt(1 + z_sq)
    return z_sq / (secant * (1 + secant))


@formula()
def cosine_distance_envelope(rho_sq: Number, low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """Compute the least and the largest ``1 - cos(x, x')`` that bounds of the gradient allow, a pair. Exact.

        1 - 1/sqrt(1 + z^2)  with  eg = low  and  eg = high

    - ``rho_sq``: squared norm before the step, > 0.
    - ``low``, ``high``: bounds of the effective gradient norm, the paper's l and L, 0 < low <= high.
    - ``lr``, ``wd``: as for :func:`next_rho_sq`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Lobacheva et al. 2021, Prop. 1 and Fig. 4.

    >>> cosine_distance_envelope(1.0, 1e-9, 3**0.5, 1.0, 0.0)
    (5e-19, 0.5)
    """
    distance = step_cosine_distance.function
    return distance(rho_sq, low, lr, wd), distance(rho_sq, high, lr, wd)


def _jump_ratio(delta: Number) -> Number:
    # tan of the angle whose cosine is 1 - delta: sqrt((1-delta)^-2 - 1) without cancellation
    return np.sqrt(delta * (2 - delta)) / (1 - delta)


@formula()
def jump_rho_sq(delta: Number, eg: Number, lr: Number, wd: Number) -> Number:
    """Compute the squared norm below which a step is a delta-jump, ``1 - cos(x, x') > delta``. Exact.

        rho^2 = lr eg / ((1 - lr wd) s),  s = sqrt((1 - delta)^-2 - 1)

    - ``delta``: size of the jump, in (0, 1).
    - ``eg``: effective gradient norm, >= 0; with its upper bound L a jump is possible below, with its lower bound l
      certain.
    - ``lr``, ``wd``: as for :func:`next_rho_sq`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: exact form of Lobacheva et al. 2021, Prop. 1.

    >>> round(jump_rho_sq(0.5, 1.0, 1.0, 0.0), 6)
    0.57735
    """
    return lr * eg / ((1 - lr * wd) * _jump_ratio(delta))


@formula()
def jump_rho_sq_small_delta(delta: Number, eg: Number, lr: Number) -> Number:
    """Compute :func:`jump_rho_sq` as printed: drops ``lr wd`` and a relative ``3 delta / 4``.

        rho^2 = lr eg / sqrt(2 delta)

    Arguments, ranges and errors as for :func:`jump_rho_sq`. Source: Lobacheva et al. 2021, Proposition 1.

    >>> jump_rho_sq_small_delta(0.5, 2.0, 1.0)
    2.0
    """
    return lr * eg / np.sqrt(2 * delta)


@formula(positive=("wd",))
def kappa(lr: Number, wd: Number) -> Number:
    """Compute kappa: with a constant effective gradient norm the norm settles at ``rho^2 = kappa eg``, to order lr wd.

        kappa = sqrt(lr / (2 wd))

    - ``lr``, ``wd``: learning rate, coupled weight decay, both > 0, lr wd < 1.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Lobacheva et al. 2021, Proposition 2.

    >>> kappa(0.02, 0.01)
    1.0
    """
    return np.sqrt(lr / (2 * wd))


starts_above_low_end = Condition(
    "starts_above_low_end", "rho0^2 > kappa l", lambda rho0_sq, low, lr, wd: rho0_sq > kappa.function(lr, wd) * low
)
starts_above_high_end = Condition(
    "starts_above_high_end", "rho0^2 > kappa L", lambda rho0_sq, high, lr, wd: rho0_sq > kappa.function(lr, wd) * high
)
jump_can_be_reached = Condition(
    "jump_can_be_reached", "delta < lr wd L^2/l^2", lambda delta, low, high, lr, wd: delta < lr * wd * (high / low) ** 2
)
jump_must_be_reached = Condition(
    "jump_must_be_reached",
    "delta < lr wd l^2/L^2",
    lambda delta, low, high, lr, wd: delta < lr * wd * (low / high) ** 2,
)


def _crossing(rho0_sq: Number, target_sq: Number, rest_sq: Number, lr: Number, wd: Number) -> Number:
    # rho^4 relaxes to rest^4 at the rate 4 lr wd; already below the target: no time at all
    ratio = (rho0_sq**2 - rest_sq**2) / (target_sq**2 - rest_sq**2)
    return np.maximum(np.log(ratio), 0.0) / (4 * lr * wd)


@formula(starts_above_low_end, jump_can_be_reached, positive=("wd",))
def t_min(rho0_sq: Number, low: Number, high: Number, lr: Number, wd: Number, delta: Number) -> Number:
    """Compute the steps before which no delta-jump is possible: eg stays at l until a gradient of L suffices.

        1/(4 lr wd) ln[(rho0^4 - kappa^2 l^2) / (lr^2 L^2/(2 delta) - kappa^2 l^2)]

    - ``rho0_sq``: squared norm now, > 0.
    - ``low``, ``high``: bounds l and L of the effective gradient norm until then, 0 < low <= high.
    - ``lr``, ``wd``: as for :func:`kappa`.
    - ``delta``: size of the jump, in (0, 1).

    Zero if the start already allows a jump. Drops terms of relative order ``lr wd`` and ``delta``. Raises
    :class:`~scaleinv.UserError` outside these ranges, :class:`~scaleinv.OutsideConditions` unless
    ``starts_above_low_end`` and ``jump_can_be_reached``. Source: Lobacheva et al. 2021, Proposition 2, which gives the
    order 1/(4 lr wd); the logarithm is ours, checked against the recursion to 0.1 %.

    >>> round(t_min(100.0, 0.3, 3.0, 0.03, 1e-3, 1e-6))
    7534
    """
    return _crossing(rho0_sq, lr * high / np.sqrt(2 * delta), kappa.function(lr, wd) * low, lr, wd)


@formula(starts_above_high_end, jump_must_be_reached, positive=("wd",))
def t_max(rho0_sq: Number, low: Number, high: Number, lr: Number, wd: Number, delta: Number) -> Number:
    """Compute the steps within which a delta-jump is certain, an upper bound of :func:`t_slowest`.

        1/(2 lr wd) ln[(rho0^2 - kappa L) / (lr l/sqrt(2 delta) - kappa L)]

    Arguments, ranges and errors as for :func:`t_min`; :class:`~scaleinv.OutsideConditions` unless
    ``starts_above_high_end`` and ``jump_must_be_reached``. Zero if the start already forces a jump. Source: Lobacheva
    et al. 2021, Proposition 2, which gives the order 1/(2 lr wd).

    >>> round(t_max(100.0, 1.0, 1.5, 0.1, 0.01, 1e-4))
    1629
    """
    rest = kappa.function(lr, wd) * high
    ratio = (rho0_sq - rest) / (lr * low / np.sqrt(2 * delta) - rest)
    return np.maximum(np.log(ratio), 0.0) / (2 * lr * wd)


@formula(starts_above_high_end, jump_must_be_reached, positive=("wd",))
def t_slowest(rho0_sq: Number, low: Number, high: Number, lr: Number, wd: Number, delta: Number) -> Number:
    """Compute the time of a delta-jump in the slowest case: eg stays at L until a gradient of l suffices.

        1/(4 lr wd) ln[(rho0^4 - kappa^2 L^2) / (lr^2 l^2/(2 delta) - kappa^2 L^2)]

    Arguments, ranges, conditions and errors as for :func:`t_max`, which it never exceeds. Source: ours, of the case
    that Lobacheva et al. 2021 bound in Proposition 2; it meets the recursion to 0.1 %.

    >>> round(t_slowest(100.0, 1.0, 1.5, 0.1, 0.01, 1e-4))
    1388
    """
    return _crossing(rho0_sq, lr * low / np.sqrt(2 * delta), kappa.function(lr, wd) * high, lr, wd)


decay_is_slow = Condition("decay_is_slow", "2 lr wd L <= l", lambda low, high, lr, wd: 2 * lr * wd * high <= low)
# The exact condition under which no sequence of eg in [l, L] leaves ``[c kappa l, c kappa L]``, c = (1 - lr
# wd/2)^-1/2, once inside: the worst step starts at the lower end with eg = L.
decay_is_slow_for_any_sequence = Condition(
    "decay_is_slow_for_any_sequence",
    "(2 lr wd - lr^2 wd^2) (L + l) <= l",
    lambda low, high, lr, wd: lr * wd * (2 - lr * wd) * (high + low) <= low,
)
decay_keeps_half = Condition("decay_keeps_half", "(1 - lr wd)^2 >= 1/2", lambda lr, wd: (1 - lr * wd) ** 2 >= 0.5)


@formula(decay_is_slow, positive=("wd",))
def norm_interval(low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """Compute the interval of rho^2 for large times as printed, a pair.

        kappa l <= rho_t^2 <= kappa L

    - ``low``, ``high``: bounds l and L of the effective gradient norm, 0 < low <= high.
    - ``lr``, ``wd``: as for :func:`kappa`.

    The statement is exact for the recursion with ``1 - 2 lr wd`` in place of ``(1 - lr wd)^2``; by itself it is crossed
    by a relative ``lr wd / 4`` with a constant eg, and by more under ``decay_is_slow`` alone when lr wd is large: use
    :func:`norm_interval_exact` to test a run. Raises :class:`~scaleinv.UserError` outside these ranges,
    :class:`~scaleinv.OutsideConditions` unless ``decay_is_slow``. Source: Lobacheva et al. 2021, Theorem 1.

    >>> norm_interval(1.0, 2.0, 0.02, 0.01)
    (1.0, 2.0)
    """
    scale = kappa.function(lr, wd)
    return scale * low, scale * high


@formula(decay_keeps_half, positive=("wd",))
def norm_interval_exact(low: Number, high: Number, lr: Number, wd: Number) -> Number:
    """Compute the interval of rho^2 that no sequence of eg in [l, L] leaves and every one tends to, a pair. Exact.

        [c kappa l, c kappa max(L, M)],  c = (1 - lr wd/2)^-1/2,  M = a^2 l + (1 - a^2) L^2/l,  a = 1 - lr wd

    Arguments and ranges as for :func:`norm_interval`. ``M <= L`` iff ``decay_is_slow_for_any_sequence``: then it is
    Theorem 1's interval with the factor c. Raises :class:`~scaleinv.OutsideConditions` unless ``decay_keeps_half``
    (else the lower end can be crossed). Source: ours, sharpening Lobacheva et al. 2021, Theorem 1.

    >>> [round(end, 4) for end in norm_interval_exact(1.0, 2.0, 1.0, 0.2)]  # in units of kappa: 1.0541, 2.1925
    [1.6667, 3.4667]
    """
    kept = (1 - lr * wd) ** 2
    scale = np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2))
    worst = kept * low + (1 - kept) * high**2 / low
    return scale * low, scale * np.maximum(high, worst)


@formula(positive=("wd",))
def resting_rho_sq(eg: Number, lr: Number, wd: Number) -> Number:
    """Compute the squared norm at which :func:`next_rho_sq` rests with a constant effective gradient norm. Exact.

        rho^2 = kappa eg / sqrt(1 - lr wd/2)

    - ``eg``: effective gradient norm, >= 0.
    - ``lr``, ``wd``: as for :func:`kappa`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: the fixed point of Lobacheva et al. 2021, eq. 4.

    >>> next_rho_sq(resting_rho_sq(3.0, 0.1, 0.2), 3.0, 0.1, 0.2) / resting_rho_sq(3.0, 0.1, 0.2)
    1.0
    """
    return np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2)) * eg


@formula(starts_above_high_end, decay_keeps_half, positive=("wd",))
def time_to_interval(rho0_sq: Number, high: Number, lr: Number, wd: Number, tolerance: Number = 0.01) -> Number:
    """Compute the steps after which rho^2 is below ``(1 + tolerance) c kappa L`` for any sequence of eg <= L.

        ln[(rho0^2/(c kappa L) - 1)/tolerance] / (-2 ln(1 - lr wd)),  c = (1 - lr wd/2)^-1/2

    - ``rho0_sq``: squared norm at the start, > 0.
    - ``high``: upper bound L of the effective gradient norm, > 0.
    - ``lr``, ``wd``: as for :func:`kappa`.
    - ``tolerance``: > 0.

    A bound: the excess over the upper end shrinks by ``(1 - lr wd)^2`` or faster in each step. Raises
    :class:`~scaleinv.UserError` outside these ranges, :class:`~scaleinv.OutsideConditions` unless
    ``starts_above_high_end`` and ``decay_keeps_half``. Source: Lobacheva et al. 2021, Theorem 1; our prefactor.

    >>> round(time_to_interval(100.0, 1.0, 0.1, 0.01, 0.01))
    4189
    """
    excess = rho0_sq / (np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2)) * high) - 1
    return np.maximum(np.log(np.maximum(excess, tolerance) / tolerance), 0.0) / (-2 * np.log1p(-lr * wd))

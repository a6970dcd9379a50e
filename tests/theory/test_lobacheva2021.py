"""Closed forms of Lobacheva et al. 2021 against high precision, against the recursion, and as properties."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.theory import OutsideConditions
from scaleinv.theory import lobacheva2021 as t
from scaleinv.theory.simulators import recursion

POSITIVE = st.floats(1e-3, 1e3)
CASES = [(0.7, 0.3, 0.1, 0.02), (1e-6, 5.0, 1e-3, 0.5), (40.0, 1e-4, 2.0, 1e-6)]


@pytest.mark.parametrize(("rho_sq", "eg", "lr", "wd"), CASES)
def test_against_high_precision(rho_sq, eg, lr, wd):
    with mpmath.workdps(40):
        y, g, eta, lam = map(mpmath.mpf, (rho_sq, eg, lr, wd))
        keep = 1 - eta * lam
        # x = (rho, 0), gradient (0, eg/rho): the step in the plane, no formula for norm or cosine
        new = (keep * mpmath.sqrt(y), -eta * g / mpmath.sqrt(y))
        size = new[0] ** 2 + new[1] ** 2
        cosine = new[0] / mpmath.sqrt(size)
        assert t.next_rho_sq(rho_sq, eg, lr, wd) == pytest.approx(float(size), rel=1e-14)
        assert t.step_cosine_distance(rho_sq, eg, lr, wd) == pytest.approx(float(1 - cosine), rel=1e-13)
        assert t.step_angle(rho_sq, eg, lr, wd) == pytest.approx(float(mpmath.acos(cosine)), rel=1e-13)
        assert t.step_ratio(rho_sq, eg, lr, wd) == pytest.approx(float(mpmath.tan(mpmath.acos(cosine))), rel=1e-13)
        rest = mpmath.findroot(lambda v: keep**2 * v + (eta * g) ** 2 / v - v, mpmath.sqrt(eta / (2 * lam)) * g)
        assert t.resting_rho_sq(eg, lr, wd) == pytest.approx(float(rest), rel=1e-13)


@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-3, 0.3, 0.9])
def test_a_jump_is_exactly_where_the_cosine_says(delta):
    threshold = t.jump_rho_sq(delta, 2.0, 0.3, 0.1)
    assert t.step_cosine_distance(threshold, 2.0, 0.3, 0.1) == pytest.approx(delta, rel=1e-12)
    assert (
        t.step_cosine_distance(threshold * 0.999, 2.0, 0.3, 0.1)
        > delta
        > t.step_cosine_distance(threshold * 1.001, 2.0, 0.3, 0.1)
    )
    small = t.jump_rho_sq_small_delta(delta, 2.0, 0.3)
    assert small == pytest.approx(0.3 * 2 / (2 * delta) ** 0.5, rel=1e-15)
    # as printed it drops lr wd and 3 delta / 4
    assert threshold * (1 - 0.03) / small == pytest.approx(1 - 0.75 * delta, abs=0.5 * delta**2 + 1e-12)


def test_envelope_holds_and_touches():
    low, high = t.cosine_distance_envelope(1.5, 0.2, 0.9, 0.3, 0.1)
    assert (low, high) == (
        t.step_cosine_distance(1.5, 0.2, 0.3, 0.1),
        t.step_cosine_distance(1.5, 0.9, 0.3, 0.1),
    )
    assert low < t.step_cosine_distance(1.5, 0.5, 0.3, 0.1) < high


def test_times_against_the_recursion():
    lr, wd, low, high, delta = 0.03, 1e-3, 0.3, 0.5, 5e-6
    start = 80.0
    path = recursion.run(start, lr, wd, recursion.constant(low), 70_000)
    first = recursion.first_below(path, t.jump_rho_sq(delta, high, lr, wd))[0]
    assert t.t_min(start, low, high, lr, wd, delta) == pytest.approx(first, rel=1e-3)
    path = recursion.run(start, lr, wd, recursion.constant(high), 70_000)
    slow = recursion.first_below(path, t.jump_rho_sq(delta, low, lr, wd))[0]
    assert t.t_slowest(start, low, high, lr, wd, delta) == pytest.approx(slow, rel=1e-3)
    assert slow <= t.t_max(start, low, high, lr, wd, delta)
    # the bound is the linear chain rho^2 - kappa L, which is exact when the start is far above
    kappa = t.kappa(lr, wd)
    expected = np.log((start - kappa * high) / (lr * low / np.sqrt(2 * delta) - kappa * high)) / (2 * lr * wd)
    assert t.t_max(start, low, high, lr, wd, delta) == pytest.approx(expected, rel=1e-12)


def test_relaxation_with_a_constant_gradient():
    path = recursion.run(5.0, 0.05, 0.01, recursion.constant(0.4), 4000)[:, 0]
    steps = np.array([0, 10, 500, 4000])
    assert t.rho_sq_at(steps, 5.0, 0.4, 0.05, 0.01) == pytest.approx(path[steps], rel=1e-3)
    assert t.kappa(0.05, 0.01) * 0.4 == pytest.approx(t.resting_rho_sq(0.4, 0.05, 0.01), rel=1e-3)


def test_already_past_means_no_time():
    kappa = t.kappa(0.1, 0.01)
    assert t.t_min(1.1 * kappa, 1.0, 2.0, 0.1, 0.01, 1e-4) == 0.0
    assert t.t_max(2.1 * kappa, 1.0, 2.0, 0.1, 0.01, 1e-7 * 0.1) == 0.0


@settings(max_examples=150, deadline=None)
@given(
    lr=st.floats(1e-3, 10),
    share=st.floats(1e-4, 1.0),
    ratio=st.floats(1.0, 30.0),
    low=POSITIVE,
    where=st.floats(0, 1),
    draws=st.lists(st.floats(0, 1), min_size=30, max_size=30),
)
def test_theorem_1_for_every_sequence(lr, share, ratio, low, where, draws):
    """Inside the exact condition no sequence of gradients leaves the interval; ``share`` 1 is its edge."""
    high = low * ratio
    # (2 p - p^2)(1 + ratio) = share, p = lr wd
    product = share / (1 + ratio) / (1 + np.sqrt(1 - share / (1 + ratio)))
    wd = product / lr * (1 - 1e-12)
    assert t.decay_is_slow_for_any_sequence(low, high, lr, wd)
    bottom, top = t.norm_interval_exact(low, high, lr, wd)
    assert top == pytest.approx(t.resting_rho_sq(high, lr, wd), rel=1e-12)
    law = recursion.given(low + (high - low) * np.round(np.asarray(draws)[:, None], 1))
    path = recursion.run(bottom + where * (top - bottom), lr, wd, law, 30)
    assert path.min() >= bottom * (1 - 1e-9)
    assert path.max() <= top * (1 + 1e-9)


@settings(max_examples=80, deadline=None)
@given(product=st.floats(0.01, 0.25), ratio=st.floats(1.01, 6.0), seed=st.integers(0, 99))
def test_wider_interval_outside_the_printed_condition(product, ratio, seed):
    """[c kappa l, c kappa max(L, M)] is kept even where Theorem 1's condition fails; an adversary reaches its end."""
    lr, low = 0.5, 1.0
    wd, high = product / lr, ratio
    bottom, top = t.norm_interval_exact(low, high, lr, wd)
    path = recursion.run(np.linspace(bottom, top, 9), lr, wd, recursion.either(low, high, seed), 300)
    assert bottom * (1 - 1e-9) <= path.min()
    assert path.max() <= top * (1 + 1e-9)
    if not t.decay_is_slow_for_any_sequence(low, high, lr, wd):
        kicked = recursion.run(bottom, lr, wd, recursion.adversary(low, high, bottom * (1 + 1e-9)), 1)[1, 0]
        assert kicked == pytest.approx(top, rel=1e-6)
        assert kicked > t.resting_rho_sq(high, lr, wd)


def test_the_counterexample_of_the_printed_condition():
    lr, wd, low, high = 1.0, 0.2, 1.0, 2.0
    assert t.decay_is_slow(low, high, lr, wd)
    assert not t.decay_is_slow_for_any_sequence(low, high, lr, wd)
    kappa = t.kappa(lr, wd)
    assert t.norm_interval(low, high, lr, wd) == (kappa, 2 * kappa)
    start = t.resting_rho_sq(low, lr, wd)
    path = recursion.run(np.full(64, start), lr, wd, recursion.either(low, high, 0), 5000) / kappa
    assert path.max() > 2.13
    assert path.max() > 1.01 * t.resting_rho_sq(high, lr, wd) / kappa == pytest.approx(1.01 * 2.1082, rel=1e-4)


def test_conditions_speak():
    with pytest.raises(OutsideConditions, match=r"decay_is_slow \(2 lr wd L <= l\) fails at low=1, high=10, lr=1"):
        t.norm_interval(1.0, 10.0, 1.0, 0.1)
    with pytest.raises(OutsideConditions, match="starts_above_high_end"):
        t.t_max(0.1, 1.0, 2.0, 0.1, 0.01, 1e-9)
    with pytest.raises(OutsideConditions, match="jump_must_be_reached"):
        t.t_max(100.0, 1.0, 2.0, 0.1, 0.01, 0.5)
    with pytest.raises(OutsideConditions, match="jump_can_be_reached"):
        t.t_min(100.0, 1.0, 2.0, 0.1, 0.01, 0.5)
    with pytest.raises(OutsideConditions, match="decay_keeps_half"):
        t.norm_interval_exact(1.0, 2.0, 1.0, 0.5)
    assert issubclass(OutsideConditions, UserError)


def test_arrays_have_nan_and_a_reason_at_those_places_only():
    starts = np.array([100.0, 0.1, np.nan])
    times = t.t_min(starts, 0.3, 3.0, 0.03, 1e-3, 1e-6)
    assert np.isfinite(times).tolist() == [True, False, False]
    why = t.t_min.reasons(starts, 0.3, 3.0, 0.03, 1e-3, 1e-6)
    assert why[0] == ""
    assert "starts_above_low_end" in why[1]
    assert "rho0_sq=0.1" in why[1]
    assert why[2] == ""  # an unmeasured value breaks no condition, it has no answer either
    assert t.t_min.reasons(100.0, 0.3, 3.0, 0.03, 1e-3, 1e-6) == ""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: t.next_rho_sq(-1.0, 1.0, 0.1, 0.1), "next_rho_sq: rho_sq is -1; it has to be positive"),
        (lambda: t.next_rho_sq(1.0, 1.0, 0.0, 0.1), "lr is 0"),
        (lambda: t.next_rho_sq(1.0, np.array([1.0, -2.0]), 0.1, 0.1), "eg is -2"),
        (lambda: t.kappa(0.1, 0.0), "wd is 0; it has to be positive"),
        (lambda: t.kappa(2.0, 0.5), "lr \\* wd is 1; it has to be below 1"),
        (lambda: t.jump_rho_sq(1.0, 1.0, 0.1, 0.1), "delta is 1"),
        (lambda: t.norm_interval(2.0, 1.0, 0.1, 0.1), "low is above high"),
    ],
)
def test_impossible_values_are_refused_in_one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_kinds_of_arguments():
    assert type(t.kappa(0.1, 0.01)) is float
    assert t.kappa(np.array([0.1, 0.2]), 0.01).dtype == np.float64
    tensor = t.next_rho_sq(torch.tensor([1.0, 2.0]), 1.0, 0.1, torch.tensor(0.01))
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float64
    assert tensor[1].item() == pytest.approx(t.next_rho_sq(2.0, 1.0, 0.1, 0.01), rel=1e-9)
    assert bool(t.decay_is_slow(torch.tensor(1.0), 2.0, 0.1, 0.1)) is True
    pair = t.norm_interval(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 1e9]), 0.02, 0.01)
    assert torch.isnan(pair[1]).tolist() == [False, True]


def test_time_to_interval_bounds_the_approach():
    lr, wd, high = 0.2, 0.02, 2.0
    top = t.resting_rho_sq(high, lr, wd)
    start = 50 * top
    path = recursion.run(start, lr, wd, recursion.constant(high), 4000)[:, 0]
    arrival = int(np.argmax(path < 1.05 * top))
    bound = t.time_to_interval(start, high, lr, wd, 0.05)
    assert arrival <= bound == pytest.approx(np.log(49 / 0.05) / (-2 * np.log(1 - lr * wd)), rel=1e-9)
    assert arrival > 0.5 * bound

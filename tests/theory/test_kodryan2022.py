"""Closed forms of Kodryan et al. 2022 against literal steps on vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.theory import OutsideConditions
from scaleinv.theory import kodryan2022 as t


def literal_step(parts, grads, lr):
    """Projected step (eq. 6) on the whole vector; returns the new parts."""
    radius = np.sqrt(sum((p**2).sum() for p in parts))
    moved = [p - lr * g for p, g in zip(parts, grads)]
    size = np.sqrt(sum((p**2).sum() for p in moved))
    return [p * radius / size for p in moved]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), lr=st.floats(1e-3, 30.0), groups=st.integers(1, 5))
def test_sum_rule_combination_and_feedback_are_exact(seed, lr, groups):
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal(rng.integers(2, 6)) * np.exp(rng.normal()) for _ in range(groups)]
    grads = []
    for p in parts:
        g = rng.standard_normal(p.shape)
        g -= (g @ p) / (p @ p) * p
        grads.append(g * np.exp(rng.normal()) / np.sqrt(p @ p))
    sizes = np.array([p @ p for p in parts])
    elrs = lr / sizes
    esses = elrs * np.sqrt(sizes) * np.array([np.sqrt(g @ g) for g in grads])
    total = lr / sizes.sum()
    assert t.total_elr(elrs) == pytest.approx(total, rel=1e-12)
    whole = np.sqrt(sum(g @ g for g in grads))
    ess = total * np.sqrt(sizes.sum()) * whole
    assert t.total_ess(esses, elrs) == pytest.approx(ess, rel=1e-12)
    new = literal_step(parts, grads, lr)
    expected = lr / np.array([p @ p for p in new])
    assert t.next_elrs(elrs, esses) == pytest.approx(expected, rel=1e-9)
    assert t.total_elr(t.next_elrs(elrs, esses)) == pytest.approx(total, rel=1e-9)
    cosine = sum(p @ q for p, q in zip(parts, new)) / sizes.sum()
    assert t.cosine(ess) == pytest.approx(cosine, abs=1e-12)


def one_group(x, y, a):
    """A literal projected step of f = x^2/(x^2+y^2) with elr = a on the unit circle."""
    gx, gy = 2 * x * y * y, -2 * y * x * x
    x, y = x - a * gx, y - a * gy
    size = np.hypot(x, y)
    return x / size, y / size


@pytest.mark.parametrize("a", [1.05, 1.5, 4.0])
def test_the_orbit_of_one_group(a):
    share = t.level(a, 1.0)
    x, y = np.sqrt(share), np.sqrt(1 - share)
    once = one_group(x, y, a)
    assert once == pytest.approx((-x, y), abs=1e-14)  # period 2: x flips
    assert x * once[0] + y * once[1] == pytest.approx(t.equilibrium_cosine(a), rel=1e-13)
    ess = np.tan(np.arccos(t.equilibrium_cosine(a)))
    assert t.equilibrium_ess(a) == pytest.approx(ess, rel=1e-12)
    shift = 1e-6
    moved = []
    for s in (share + shift, share - shift):
        u, _ = one_group(np.sqrt(s), np.sqrt(1 - s), a)
        moved.append(u * u)
    slope = (moved[0] - moved[1]) / (2 * shift)
    assert t.orbit_multiplier(a, 1.0) == pytest.approx(slope, abs=1e-8)
    assert abs(slope) < 1


@pytest.mark.parametrize("a", [0.1, 0.5, 0.8])
def test_contraction(a):
    x, y = one_group(1e-7, np.sqrt(1 - 1e-14), a)
    assert abs(x / y) / 1e-7 == pytest.approx(t.contraction(a, 1.0), abs=1e-9)


def test_levels_scale_with_alpha():
    assert t.level(0.5, 4.0) == 1.0
    assert t.level(0.2, 4.0) == 0.0
    assert t.threshold(4.0) == 0.25
    alphas = np.array([1.0, 2.5])
    k = 1.4
    assert t.convergence_threshold(alphas) == pytest.approx(1 / 3.5)
    assert 3.5 * t.equilibrium_level(k) == pytest.approx(t.level(k / 3.5, 3.5), rel=1e-14)
    elrs = t.equilibrium_elrs(k / 3.5, alphas)
    assert t.total_elr(elrs) == pytest.approx(k / 3.5, rel=1e-14)  # eq. 12 obeys eq. 7
    assert elrs * alphas == pytest.approx([k, k], rel=1e-14)


@pytest.mark.parametrize("k", [1.01, np.sqrt(2), 1.7, 2.0, 5.0])
def test_neutral_centre(k):
    jacobian = t.feedback_jacobian(k)
    assert np.linalg.det(jacobian) == pytest.approx(1.0, abs=1e-12)
    values = np.linalg.eigvals(jacobian)
    assert np.abs(values) == pytest.approx([1, 1], abs=1e-7)
    assert np.abs(np.angle(values)).max() == pytest.approx(t.feedback_phase(k), abs=1e-7)
    assert t.feedback_phase(np.sqrt(2)) == pytest.approx(np.pi / 2)
    assert t.feedback_phase(2.0) == pytest.approx(2 * np.pi / 3)
    assert t.feedback_jacobian(np.array([1.5, 2.0])).shape == (2, 2, 2)


def test_outside_conditions():
    with pytest.raises(OutsideConditions, match="does_not_converge_together"):
        t.equilibrium_level(0.9)
    with pytest.raises(OutsideConditions, match="is_not_critical"):
        t.level(0.5, 2.0)
    with pytest.raises(OutsideConditions, match="converges"):
        t.contraction(3.0, 1.0)
    assert np.isnan(t.equilibrium_ess(np.array([0.5, 1.5]))).tolist() == [True, False]
    with pytest.raises(UserError, match="alphas is 0"):
        t.convergence_threshold(np.array([1.0, 0.0]))


def test_regimes():
    assert [t.toy_regime(k) for k in (0.99, 1.0, 1.01, 1.9, 1.91, 9.9, 10.0)] == [1, None, 2, 2, None, None, 3]


def test_window_change_is_the_feedback():
    rng = np.random.default_rng(3)
    elrs, logs = rng.uniform(0.5, 2, 4), np.zeros((2, 4))
    first = elrs.copy()
    for _ in range(50):
        esses = rng.uniform(0, 3, 4)
        logs[0] += np.log1p(esses**2)
        logs[1] += np.log1p(t.total_ess(esses, elrs) ** 2)
        elrs = t.next_elrs(elrs, esses)
    assert np.abs(logs[0] - logs[1]) / 50 == pytest.approx(t.window_change(first, elrs, 50), rel=1e-9)

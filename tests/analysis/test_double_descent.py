"""Bumps that are there and bumps that are noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import autoregressive, made_run

from scaleinv.analysis.double_descent import _bump, _noise_law, _smooth, double_descent, run_double_descent

EPOCHS = np.arange(1, 101)
FALL = 0.1 + 0.5 * np.exp(-EPOCHS / 4)
BUMP = 0.1 * np.exp(-((EPOCHS - 40) ** 2) / 200)


def noise(seed: int, phi: float = 0.0) -> np.ndarray:
    return autoregressive(len(EPOCHS), phi, np.random.default_rng(seed))


def test_a_bump_is_found_where_it_is() -> None:
    for seed in range(5):
        found = double_descent(EPOCHS, FALL + BUMP + 0.01 * noise(seed))
        assert found.verdict == "double descent", found.reason
        assert found.turns[0] < found.turns[1] < found.turns[2]
        assert found.turns[1] == pytest.approx(40, abs=5)
        assert found.first_descent == pytest.approx(FALL[1] - FALL[20], abs=0.05)
        assert 0.06 < found.interval.low < min(found.rise, found.fall) < found.interval.high < 0.13


@pytest.mark.parametrize("phi", [0.0, 0.5])
@pytest.mark.parametrize("curve", [FALL, 0.1 + 0.3 * np.exp(-EPOCHS / 30)])
def test_noise_is_no_double_descent(phi: float, curve: np.ndarray) -> None:
    found = [double_descent(EPOCHS, curve + 0.02 * noise(seed, phi)) for seed in range(6)]
    assert sum(f.verdict == "double descent" for f in found) <= 1


def test_single_evaluations_that_went_wrong_are_no_bump() -> None:
    for seed in range(5):
        errors = FALL + 0.01 * noise(seed)
        errors[[50, 51, 80]] += 0.3
        assert double_descent(EPOCHS, errors).verdict != "double descent"


def test_slow_wandering_is_left_undecided() -> None:
    found = [double_descent(EPOCHS, FALL + 0.05 * noise(seed, 0.95)) for seed in range(8)]
    assert sum(f.verdict == "double descent" for f in found) <= 1
    assert sum("may do as much" in f.reason for f in found) >= 5


def test_a_calm_fall_has_none() -> None:
    for curve in (FALL, FALL + 0.001 * EPOCHS):  # overfitting is not a second descent
        found = double_descent(EPOCHS, curve + 0.001 * noise(3))
        assert found.verdict == "none", found.reason
    # up and down without a first descent
    found = double_descent(EPOCHS, 0.1 + BUMP + 0.001 * noise(4))
    assert (found.verdict, found.first_descent < 0.01) == ("none", True)


def test_too_little_to_say() -> None:
    found = double_descent(EPOCHS[:10], FALL[:10])
    assert (found.verdict, found.values) == ("undecided", 10)
    holes = np.where(EPOCHS % 9 == 0, FALL, np.nan)
    assert double_descent(EPOCHS, holes).values == 11
    constant = double_descent(EPOCHS, np.full(100, 0.3))
    assert (constant.verdict, constant.noise) == ("none", 0.0)


def slow_bump(s: np.ndarray) -> float:
    return max(min(s[b] - s[: b + 1].min(), s[b] - s[b:].min()) for b in range(len(s)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 9), st.floats(0.1, 10))
def test_the_statistic_is_the_slow_one(seed: int, n: int, width: int, scale: float) -> None:
    x = np.random.default_rng(seed).normal(size=n)
    smooth = _smooth(x, width)
    slow = [np.median(x[max(0, i - (width - 1) // 2) : i + width // 2 + 1]) for i in range(n)]
    assert smooth == pytest.approx(slow, abs=1e-12)
    height, (a, b, c) = _bump(smooth)
    assert height == pytest.approx(slow_bump(smooth), abs=1e-12)
    assert a <= b <= c
    assert min(smooth[b] - smooth[a], smooth[b] - smooth[c]) == pytest.approx(height, abs=1e-12)
    assert _bump(scale * smooth - 1)[0] == pytest.approx(scale * height, abs=1e-9)


@pytest.mark.parametrize("phi", [0.0, 0.4, 0.7])
def test_the_law_of_the_noise(phi: float) -> None:
    laws = [
        _noise_law(0.02 * autoregressive(300, phi, np.random.default_rng(s)) + 0.1 * np.exp(-np.arange(300) / 50))
        for s in range(60)
    ]
    sigma, correlation = np.mean(laws, axis=0)
    assert correlation == pytest.approx(phi + 1 / np.sqrt(300), abs=0.08)
    assert sigma == pytest.approx(0.02, rel=0.3)


def test_of_a_run() -> None:
    errors = np.concatenate([[0.9], FALL + BUMP + 0.005 * noise(0)])  # epoch 0 is before training
    found = run_double_descent(made_run({("test", "total", "error_recomputed_bn"): errors}, first=0))
    assert found.verdict == "double descent"
    assert found.first_descent > 0.5  # from the error before training


def test_the_first_descent_may_be_made_within_one_epoch() -> None:
    flat = 0.1 + BUMP + 0.002 * noise(0)
    errors = np.concatenate([[0.9], flat])
    assert double_descent(np.arange(1, len(errors)), flat).verdict == "none"
    assert (
        run_double_descent(made_run({("test", "total", "error_recomputed_bn"): errors}, first=0)).verdict
        == "double descent"
    )

"""Means with errors, drifts and ranks, on series whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scaleinv.analysis.statistics import autocorrelation_time, drift, mean, rank_correlation_with_time

Floats = np.ndarray


def autoregressive(n: int, phi: float, rng: np.random.Generator) -> Floats:
    """x_i = phi x_{i-1} + noise of unit variance, stationary from the start."""
    noise = rng.normal(size=n)
    x = np.empty(n)
    x[0] = noise[0] / math.sqrt(1 - phi**2)
    for i in range(1, n):
        x[i] = phi * x[i - 1] + noise[i]
    return x


def covariance(n: int, phi: float) -> Floats:
    k = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return phi**k / (1 - phi**2)


def true_error(weights: Floats, phi: float) -> float:
    """Standard deviation of a weighted sum of the series, exactly."""
    return math.sqrt(weights @ covariance(len(weights), phi) @ weights)


def drift_weights(n: int) -> Floats:
    weights, k = np.zeros(n), n // 3
    weights[:k], weights[-k:] = -1 / k, 1 / k
    return weights


@pytest.mark.parametrize(("n", "phi"), [(400, 0.0), (400, 0.5), (400, 0.8), (1000, 0.9), (60, 0.3), (30, 0.3)])
def test_errors_of_correlated_series_are_true_within_a_fifth(n: int, phi: float) -> None:
    rng = np.random.default_rng(7)
    series = [autoregressive(n, phi, rng) for _ in range(200)]
    for estimate, weights in ((mean, np.full(n, 1 / n)), (drift, drift_weights(n))):
        found = [estimate(x) for x in series]
        truth = true_error(weights, phi)
        rms = math.sqrt(np.mean([f.error**2 for f in found]))
        assert rms == pytest.approx(truth, rel=0.2), estimate
        # the values themselves scatter by the truth (200 draws: 5 %), and 3 standard errors are rarely exceeded
        assert np.std([f.value for f in found]) == pytest.approx(truth, rel=0.2)
        assert np.mean([abs(f.value) > 3 * f.error for f in found]) <= 0.04


def test_a_naive_error_would_be_far_off() -> None:
    x = autoregressive(1000, 0.9, np.random.default_rng(0))
    assert mean(x).error > 3 * x.std() / math.sqrt(len(x))
    assert autocorrelation_time(x) == pytest.approx(19, rel=0.5)


def test_a_short_window_is_not_claimed_to_be_better_than_it_is() -> None:
    rng = np.random.default_rng(1)  # 30 epochs of correlation time 9: three correlation times
    found = [mean(autoregressive(30, 0.8, rng)).error for _ in range(300)]
    truth = true_error(np.full(30, 1 / 30), 0.8)
    assert 0.7 * truth < math.sqrt(np.mean(np.square(found))) < 1.2 * truth


def test_a_trend_does_not_hide_in_its_own_error() -> None:
    rng = np.random.default_rng(2)
    x = -0.1 * np.arange(30) + rng.normal(0, 0.1, 30)
    found = drift(x)
    assert found.value == pytest.approx(-2.0, abs=0.15)  # 20 epochs between the middles of the thirds
    assert found.error < 0.12
    exact = drift(np.arange(30.0))
    assert exact.value == 20
    assert exact.error == pytest.approx(0, abs=1e-12)


def test_small_series() -> None:
    assert math.isnan(mean(np.zeros(0)).value)
    assert mean(np.array([4.0])).value == 4.0
    assert math.isnan(mean(np.array([4.0])).error)
    assert (mean(np.full(9, 3.0)).value, mean(np.full(9, 3.0)).error) == (3.0, 0.0)
    assert math.isnan(drift(np.arange(5.0)).value)
    assert drift(np.arange(6.0)).value == 4.0
    assert math.isnan(rank_correlation_with_time(np.arange(2.0)))
    assert autocorrelation_time(np.arange(3.0)) == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_make_no_drift(bad: float) -> None:
    x = np.arange(12.0)
    x[5] = bad
    assert math.isnan(drift(x).value)
    assert math.isnan(drift(x).error)


def test_rank_correlation_is_spearmans() -> None:
    scipy = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    for n in (3, 10, 57):
        x = rng.normal(size=n)
        assert rank_correlation_with_time(x) == pytest.approx(scipy.spearmanr(np.arange(n), x)[0], abs=1e-12)
    assert rank_correlation_with_time(np.exp(-np.arange(9.0))) == pytest.approx(-1)


finite = st.floats(-1e3, 1e3).map(lambda v: round(v, 3))


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.integers(6, 60), elements=finite), st.floats(-50, 50), st.floats(0.1, 10))
def test_shift_and_scale(x: Floats, shift: float, scale: float) -> None:
    a, b = mean(x), mean(scale * x + shift)
    assert b.value == pytest.approx(scale * a.value + shift, rel=1e-9, abs=1e-8)
    c, d = drift(x), drift(scale * x + shift)
    assert d.value == pytest.approx(scale * c.value, rel=1e-9, abs=1e-8)
    assert autocorrelation_time(x) >= 1
    assert a.error >= 0
    assert c.error >= 0
    assert drift(x[::-1]).value == pytest.approx(-c.value, rel=1e-9, abs=1e-9)
    assert abs(rank_correlation_with_time(x)) <= 1 + 1e-12

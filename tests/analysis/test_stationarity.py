"""Equilibrium is shown, not assumed; levels agree or differ by their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import autoregressive, made_run

from scaleinv.analysis.stationarity import burn_in, compare_levels, loss_level, stationarity
from scaleinv.analysis.statistics import Estimate, batch_means, mean, sample_mean, t_quantile


def test_a_level_is_stationary_and_a_trend_drifts() -> None:
    rng = np.random.default_rng(0)
    level = 0.5 * np.exp(0.1 * autoregressive(200, 0.5, rng))
    found = stationarity(level)
    assert found.verdict == "stationary", found.reason
    assert found.level.value == pytest.approx(0.5 * math.exp(0.005), abs=4 * found.level.error)
    assert found.batch_error == pytest.approx(found.level.error, rel=0.5)
    assert stationarity(level * np.geomspace(1.5, 1, 200)).verdict == "drifting"
    # a power law, as in convergence, however little it scatters
    assert stationarity(8.0 / np.arange(30, 61)).verdict == "drifting"


def test_what_does_not_decide() -> None:
    rng = np.random.default_rng(1)
    noisy = np.exp(1.0 * autoregressive(30, 0.7, rng))
    assert stationarity(noisy).verdict == "undecided"
    assert "too few" in stationarity(np.full(8, 1.0)).reason
    assert "finite" in stationarity(np.array([1.0] * 20 + [math.inf])).reason
    assert "positive" in stationarity(np.array([1.0] * 20 + [0.0])).reason
    assert stationarity(np.array([1.0] * 20 + [0.0]), relative=False, tolerance=0.5).verdict != "drifting"
    # wanders as slowly as it is long: calm, yet its scatter is not known
    slow = 1 + 0.01 * np.sin(np.linspace(0, np.pi, 40))
    assert "too few to know" in stationarity(slow).reason


def test_the_answers_are_right_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    stationary = [stationarity(np.exp(0.1 * autoregressive(120, 0.4, rng))) for _ in range(150)]
    assert np.mean([f.verdict == "drifting" for f in stationary]) <= 0.01
    assert np.mean([f.verdict == "stationary" for f in stationary]) >= 0.5
    off = [abs(f.level.value - math.exp(0.005)) / f.level.error for f in stationary]
    assert np.mean(np.array(off) <= 2) == pytest.approx(0.954, abs=0.06)
    moving = [stationarity(np.exp(0.2 * autoregressive(120, 0.4, rng) + np.linspace(0, -1, 120))) for _ in range(50)]
    assert all(f.verdict == "drifting" for f in moving)


def test_of_a_run_its_last_half() -> None:
    loss = np.concatenate([np.geomspace(9, 0.5, 30), 0.5 * np.exp(0.05 * np.random.default_rng(3).normal(size=30))])
    run = made_run({("online", "total", "loss"): loss})
    found = loss_level(run)
    assert (found.window, found.values, found.verdict) == ((31, 60), 30, "stationary")
    assert loss_level(run, 1, 60).verdict != "stationary"
    assert loss_level(run, 1, 30).verdict == "drifting"
    assert loss_level(run, 41, 50).values == 10


def slow_burn_in(x: np.ndarray) -> int:
    costs = [np.var(x[d:]) / (len(x) - d) for d in range(len(x) // 2 + 1)]
    return int(np.argmin(costs))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 60), st.floats(0.1, 10), st.floats(-5, 5))
def test_burn_in_is_the_slow_one_and_has_no_scale(seed: int, n: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) + 5 * np.exp(-np.arange(n) / 3)
    assert burn_in(x) == slow_burn_in(x)
    assert burn_in(scale * x + shift) == burn_in(x)


def test_burn_in_finds_the_approach() -> None:
    x = np.random.default_rng(4).normal(0, 0.1, 200) + np.where(np.arange(200) < 40, 3.0, 0.0)
    assert 38 <= burn_in(x) <= 45
    assert burn_in(np.arange(3.0)) == 0


def test_levels() -> None:
    a, b, c = Estimate(1.0, 0.01), Estimate(1.05, 0.01), Estimate(1.5, 0.02)
    assert compare_levels([a, b]).verdict == "same"
    found = compare_levels([b, c, a])
    assert (found.verdict, found.extremes) == ("different", (2, 1))
    assert found.ratio.value == pytest.approx(1.5)
    assert found.ratio.error == pytest.approx(1.5 * math.hypot(0.01, 0.02 / 1.5))
    assert compare_levels([a, Estimate(1.2, 0.1)]).verdict == "undecided"
    assert compare_levels([a, Estimate(1.2, math.nan)]).verdict == "undecided"
    assert compare_levels([a]).verdict == "undecided"
    assert compare_levels([a, Estimate(0.0, 0.1)]).verdict == "undecided"


def test_batch_means_agree_with_the_correlation_time() -> None:
    rng = np.random.default_rng(5)
    series = [autoregressive(900, 0.6, rng) for _ in range(60)]
    ratio = [batch_means(x).error / mean(x).error for x in series]
    assert np.mean(ratio) == pytest.approx(1, abs=0.15)
    assert math.isnan(batch_means(np.zeros(3)).error)
    assert batch_means(np.arange(6.0), 2).value == 2.5
    assert batch_means(np.arange(7.0), 2).value == 3.5  # the first value fills no batch


def test_students_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 4, 5, 9, 30, 201):
        for confidence in (0.5, 0.95, 0.999):
            assert t_quantile(confidence, freedom) == pytest.approx(
                stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9
            )


def test_mean_of_independent_values() -> None:
    assert sample_mean(np.array([1.0, 3.0])) == Estimate(2.0, 1.0)
    assert math.isnan(sample_mean(np.array([1.0])).error)
    assert math.isnan(sample_mean(np.zeros(0)).value)
    assert 1.5 in Estimate(1.0, 0.5).interval(1.0)
    assert 1.6 not in Estimate(1.0, 0.5).interval(1.0)

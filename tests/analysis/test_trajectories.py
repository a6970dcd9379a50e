"""Curves whose relation is known: the same, shifted, bent; with the noise of a run."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import autoregressive, made_run

from scaleinv.analysis.trajectories import Trajectory, at_loss, compare, mean_ratio, spectrum, trajectory
from scaleinv.errors import UserError


def path(
    factor: float = 100.0,
    seed: int = 0,
    *,
    n: int = 60,
    noise: float = 0.03,
    slope: float = 1.0,
    low: float = 1e-3,
    elr: float = 1e-3,
    phi: float = 0.4,
) -> Trajectory:
    """eg = factor loss^slope along a loss that falls from 1 to ``low``, both with noise."""
    rng = np.random.default_rng(seed)
    loss = np.geomspace(1, low, n) * np.exp(0.1 * rng.normal(size=n))
    eg = factor * loss**slope * np.exp(noise * autoregressive(n, phi, rng))
    error = 0.1 + 0.2 * np.sqrt(loss) + 0.002 * rng.normal(size=n)
    return Trajectory("", elr, "train", np.arange(n), loss, eg, error)


def test_a_run_becomes_a_trajectory() -> None:
    n = 6
    loss = np.array([2.0, 1.0, 0.5, math.inf, 0.0, 0.1])
    run = made_run(
        {
            ("train", "total", "loss"): loss,
            ("train", "total", "eg"): np.arange(1.0, n + 1),
            ("test", "total", "error_recomputed_bn"): np.linspace(0.9, 0.1, n)[:5],
        }
    )
    found = trajectory(run)
    assert found.epochs.tolist() == [1, 2, 3, 6]
    assert found.eg.tolist() == [1, 2, 3, 6]
    assert found.test_error[:3] == pytest.approx(np.linspace(0.9, 0.1, n)[:3])
    assert found.split == "train"
    assert math.isnan(found.test_error[3])
    assert found.since(3).loss.tolist() == [0.5, 0.1]
    assert len(trajectory(run, "online").loss) == 0


def test_without_exact_metrics_the_means_of_epochs_are_taken() -> None:
    n = 6
    values = {("online", "total", "loss"): np.linspace(2, 1, n), ("online", "total", "eg"): np.linspace(5, 4, n)}
    found = trajectory(made_run(values))
    assert found.split == "online"
    assert found.loss.tolist() == np.linspace(2, 1, n).tolist()
    assert found.eg.tolist() == np.linspace(5, 4, n).tolist()
    assert not len(trajectory(made_run(values), "train").loss)


def test_the_same_curve_is_the_same() -> None:
    verdicts = [compare(path(seed=2 * k), path(seed=2 * k + 1)) for k in range(60)]
    assert np.mean([v.verdict == "same" for v in verdicts]) >= 0.95
    assert not any(v.verdict == "different" for v in verdicts)
    pulls = np.array([v.offset.value / v.offset.error for v in verdicts])
    assert np.mean(np.abs(pulls) <= 2) >= 0.85
    assert np.std(pulls) == pytest.approx(1, abs=0.3)


def test_a_shift_is_found_with_its_size() -> None:
    found = compare(path(150, 0), path(100, 1))
    assert found.verdict == "different"
    assert found.offset.value == pytest.approx(math.log(1.5), abs=3 * found.offset.error)
    assert found.interval.low < math.log(1.5) < found.interval.high
    assert found.distance == pytest.approx(math.log(1.5), abs=0.05)
    assert compare(path(150, 0), path(100, 1), tolerance=1.0).verdict == "same"
    turned = compare(path(100, 1), path(150, 0))
    assert turned.offset.value == pytest.approx(-found.offset.value, rel=1e-9)
    # a shift the noise does not resolve against the tolerance is neither
    assert compare(path(108, 0, noise=0.15), path(100, 1, noise=0.15)).verdict == "undecided"


def test_curves_that_cross_are_different_though_their_mean_offset_is_none() -> None:
    steep = path(100 * 10**0.45, 0, slope=1.3)  # meets the other in the middle of the range, at loss 10^-1.5
    found = compare(steep, path(100, 1))
    assert abs(found.offset.value) < 0.1
    assert found.verdict == "different"
    assert found.distance > 0.4
    assert [round(g.value) for g in (found.gaps[0], found.gaps[-1])] == [-1, 1]


def test_only_a_range_of_losses() -> None:
    bent = path(100, 0)
    bent = dataclasses.replace(bent, eg=np.where(bent.loss > 0.1, 2.0, 1.0) * bent.eg)
    assert compare(bent, path(100, 1)).verdict == "different"
    found = compare(bent, path(100, 1), losses=(0.0, 0.05))
    assert found.verdict == "same", found.reason
    assert found.losses.high == pytest.approx(0.05)


def test_what_cannot_be_compared() -> None:
    far = path(low=1e-1)
    far = dataclasses.replace(far, loss=1e3 * far.loss)
    assert "overlap" in compare(path(), far).reason
    assert "too few" in compare(path(), path(n=4)).reason
    assert compare(path(), path(n=0)).verdict == "undecided"
    cluster = Trajectory(
        "", 1e-3, "train", np.arange(8), np.array([2.0, *[0.01] * 7]), np.full(8, 1.0), np.full(8, 0.1)
    )
    assert "gaps" in compare(cluster, path()).reason


def test_test_errors_are_compared_as_they_are() -> None:
    assert compare(path(seed=0), path(seed=1), quantity="test_error").verdict == "same"
    worse = path(seed=0)
    worse = dataclasses.replace(worse, test_error=worse.test_error + 0.05)
    found = compare(worse, path(seed=1), quantity="test_error")
    assert found.verdict == "different"
    assert found.offset.value == pytest.approx(0.05, abs=0.003)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(0.1, 10))
def test_rescaling_both_axes_changes_nothing(seed: int, loss: float, eg: float) -> None:
    a, b = path(120, seed), path(100, seed + 1)
    before = compare(a, b)
    a, b = (dataclasses.replace(p, loss=loss * p.loss, eg=eg * p.eg) for p in (a, b))
    after = compare(a, b)
    assert after.verdict == before.verdict
    assert after.offset.value == pytest.approx(before.offset.value, abs=1e-9)
    assert after.distance == pytest.approx(before.distance, abs=1e-6)


def slow_crossings(p: Trajectory, level: float) -> list[float]:
    """By hand: where consecutive points embrace the level, interpolated in the logarithms."""
    found = []
    for i in range(len(p.loss) - 1):
        a, b = p.loss[i], p.loss[i + 1]
        if (a <= level) != (b <= level):
            share = (math.log(a) - math.log(level)) / (math.log(a) - math.log(b))
            found.append(math.exp(math.log(p.eg[i]) + share * (math.log(p.eg[i + 1]) - math.log(p.eg[i]))) / level)
    return found


def test_ratio_at_a_loss() -> None:
    p = path(100, 3, noise=0.05)
    for found in at_loss(p, [0.5, 0.1, 0.01]):
        assert found.ratio == pytest.approx(100, rel=4 * found.error)
        assert found.spread == pytest.approx(0.05, rel=0.6)
        slow = slow_crossings(p, found.loss)
        assert found.crossings == len(slow)
        assert np.mean(slow) == pytest.approx(found.ratio, rel=0.1)
    below = at_loss(p, [1e-5])[0]
    assert math.isnan(below.ratio)
    assert below.crossings == 0


def test_ratio_at_a_loss_with_few_points() -> None:
    few = path(100, n=8, low=1e-4)
    for found in at_loss(few, [0.1, 0.01]):
        assert found.ratio == pytest.approx(math.exp(np.mean(np.log(slow_crossings(few, found.loss)))), rel=1e-12)
        assert math.isnan(found.error)


def test_mean_ratio() -> None:
    p = path(100, n=200)
    found = mean_ratio(p)
    assert found.value == pytest.approx(math.log(100), abs=4 * found.error)
    inside = (p.loss > 0.01) & (p.loss < 0.1)
    assert mean_ratio(p, (0.01, 0.1)).value == pytest.approx(np.mean(np.log(p.eg / p.loss)[inside]))
    assert math.isnan(mean_ratio(p, (10.0, 20.0)).value)


def test_spectrum() -> None:
    paths = [path(100 / (1 + k), k, elr=10.0 ** (k - 4)) for k in range(4)]
    found = spectrum(paths[::-1], [0.5, 0.1, 0.01, 1e-5])
    assert found.elrs == (1e-4, 1e-3, 1e-2, 1e-1)
    assert found.used == (0.5, 0.1, 0.01)
    assert found.inversions == 0
    assert found.extremes.value == pytest.approx(4, rel=4 * found.extremes.error / 4)
    paths[2] = path(120, 2, elr=1e-2)
    assert spectrum(paths, [0.1]).inversions == 1
    nothing = spectrum(paths, [1e-6])
    assert nothing.used == ()
    assert math.isnan(nothing.extremes.value)
    with pytest.raises(UserError, match="each of its own ELR"):
        spectrum([paths[0], paths[0]], [0.1])

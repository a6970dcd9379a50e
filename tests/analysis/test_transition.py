"""Passages, growth and critical fits with known answers; the published times of a ResNet-18."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import made_run

from scaleinv.analysis.statistics import Estimate
from scaleinv.analysis.transition import (
    Passage,
    Peak,
    first_passage,
    fit_divergence,
    gradient_peak,
    growth,
    transition_peak,
)
from scaleinv.errors import UserError

#: epochs to a train loss of 1e-2, ResNet-18 on CIFAR-10, three seeds where there are (follow-up of the authors, 2024)
PUBLISHED = [(1e-4, 17), (1e-4, 20), (1.5e-4, 23), (1.5e-4, 25), (2e-4, 25), (2e-4, 27), (2.5e-4, 37), (2.5e-4, 40)]
PUBLISHED += [(3e-4, 81), (3e-4, 90), (3.5e-4, 336), (3.5e-4, 511), (3.7e-4, 501), (3.7e-4, 1101), (3.8e-4, 1541)]
PUBLISHED += [(3.9e-4, 2621)]


def passage(elr: float, time: float | None, seed: int = 0, horizon: int = 1000) -> Passage:
    reached = time is not None
    return Passage(elr, seed, math.ceil(time) if reached else None, time if reached else math.nan, horizon, 1e-2)


def law(elr: float, critical: float = 1e-3, exponent: float = 1.5, a: float = 10.0) -> float:
    return a * (1 - elr / critical) ** -exponent


def test_first_passage() -> None:
    loss = np.array([1.0, 0.1, 0.001, 0.5, 1e-4])
    found = first_passage(made_run({("online", "total", "loss"): loss}, elr=3e-3, seed=2))
    assert (found.epoch, found.seed, found.elr, found.horizon) == (3, 2, 3e-3, 5)
    assert found.time == pytest.approx(2.5)
    never = first_passage(made_run({("online", "total", "loss"): loss[:2]}))
    assert (never.epoch, never.horizon) == (None, 2)
    assert math.isnan(never.time)
    assert first_passage(made_run({("online", "total", "loss"): np.array([1e-3])})).time == 1
    bad = np.array([math.nan, math.inf, 1e-3])
    assert first_passage(made_run({("online", "total", "loss"): bad})).time == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=30))
def test_the_interpolated_time_lies_in_its_epoch(losses: list[float]) -> None:
    found = first_passage(made_run({("online", "total", "loss"): np.array(losses)}))
    below = [i + 1 for i, x in enumerate(losses) if x < 1e-2]
    assert found.epoch == (below[0] if below else None)
    if below:
        assert found.epoch - 1 <= found.time <= found.epoch


def test_growth_of_a_divergence_and_of_none() -> None:
    elrs = np.linspace(1e-4, 9.5e-4, 12)
    runs = [passage(e, law(e) * (1 + 0.05 * s), s) for e in elrs for s in range(3)]
    runs += [passage(1.1e-3, None, s) for s in range(3)]
    found = growth(runs)
    assert found.verdict == "grows"
    assert found.ratio.value == pytest.approx(law(9.5e-4) / law(0.6 * 9.5e-4), rel=0.05)
    assert len(found.by_seed) == 3
    flat = [passage(e, 20.0, s) for e in elrs for s in range(3)] + [passage(1.1e-3, None, s) for s in range(3)]
    assert growth(flat).verdict == "does not grow"
    assert growth(flat).ratio.value == pytest.approx(1)


def test_growth_needs_both_sides() -> None:
    assert growth([passage(1e-4, 10), passage(2e-4, 30)]).verdict == "undecided"  # no run beyond
    assert growth([passage(1.5e-4, 10), passage(2e-4, 30), passage(3e-4, None)]).verdict == "undecided"
    assert growth([passage(1e-4, None)]).verdict == "undecided"
    found = growth([passage(1e-4, 10), passage(2e-4, 40), passage(3e-4, None)])
    assert found.verdict == "grows"  # of a single seed its value alone
    assert found.ratio.value == pytest.approx(4 ** (math.log(2 / 1.2) / math.log(2)))
    seeds = [passage(1e-4, 10, s) for s in (0, 1)] + [passage(2e-4, 10 * r, s) for s, r in ((0, 1.5), (1, 12))]
    assert growth([*seeds, passage(3e-4, None, 0), passage(3e-4, None, 1)]).verdict == "undecided"


def test_the_critical_law_is_recovered() -> None:
    rng = np.random.default_rng(0)
    elrs = np.linspace(3e-4, 9.8e-4, 12)
    inside = 0
    for _ in range(30):
        runs = [passage(e, law(e) * math.exp(0.1 * rng.normal())) for e in elrs]
        found = fit_divergence([*runs, passage(1.2e-3, None)])
        inside += (1e-3 in found.critical_interval) and (1.5 in found.exponent_interval)
        assert found.verdict == "diverges", found.reason
    assert inside >= 24
    assert found.critical == pytest.approx(1e-3, rel=0.03)
    assert found.exponent == pytest.approx(1.5, abs=0.4)
    assert found.scatter == pytest.approx(0.1, rel=0.6)


def slow_cost(found: object, runs: list[Passage], critical: float, exponent: float) -> float:
    """The best prefactor by a grid."""
    best = math.inf
    for log_a in np.linspace(-30, 30, 60001):
        cost = 0.0
        for p in runs:
            if p.epoch is not None:
                cost += (math.log(p.time) - log_a + exponent * math.log(critical - p.elr)) ** 2
            elif p.elr < critical:
                cost += max(0.0, math.log(p.horizon) - log_a + exponent * math.log(critical - p.elr)) ** 2
        best = min(best, cost)
    return best


def test_the_cost_is_the_slow_one() -> None:
    from scaleinv.analysis.transition import _cost

    runs = [passage(e, law(e)) for e in (4e-4, 6e-4, 8e-4, 9e-4)] + [passage(9.5e-4, None, horizon=4000)]
    reached = runs[:4]
    e, y = np.array([p.elr for p in reached]), np.log([p.time for p in reached])
    for critical in (9.2e-4, 1.1e-3):
        fast = _cost(critical, np.array([1.0, 2.0]), e, y, np.array([9.5e-4]), np.log([4000.0]))
        assert fast[0] == pytest.approx(slow_cost(None, runs, critical, 1.0), abs=1e-4)


def test_the_published_times_diverge() -> None:
    found = fit_divergence([passage(e, t, horizon=3000) for e, t in PUBLISHED])
    assert found.verdict == "diverges", found.reason
    assert 3.9e-4 < found.critical < 4.3e-4
    assert 1.0 < found.exponent < 2.5
    assert growth([*(passage(e, t) for e, t in PUBLISHED), passage(5e-4, None)]).ratio.value > 20


def test_no_divergence_is_claimed_without_one() -> None:
    elrs = np.linspace(1e-4, 1e-3, 8)
    flat = fit_divergence([passage(e, 20 * (1 + 0.02 * (-1) ** i)) for i, e in enumerate(elrs)])
    assert flat.verdict == "undecided"
    few = fit_divergence([passage(e, law(e)) for e in (8e-4, 9e-4, 9.5e-4)])
    assert "too few" in few.reason
    # runs that never came there push the critical ELR away from below them
    loose = [passage(e, 20.0) for e in (6e-4, 7e-4, 8e-4, 9e-4)]
    assert fit_divergence([*loose, passage(1.0e-3, None)]).censored == 1


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_the_unit_of_the_rate_does_not_matter(unit: float) -> None:
    runs = [passage(e, law(e)) for e in (4e-4, 6e-4, 8e-4, 9e-4, 9.5e-4)] + [passage(1.2e-3, None)]
    a = fit_divergence(runs)
    b = fit_divergence([Passage(unit * p.elr, p.seed, p.epoch, p.time, p.horizon, p.threshold) for p in runs])
    assert b.critical == pytest.approx(unit * a.critical, rel=1e-9)
    assert b.exponent == pytest.approx(a.exponent)


def peaked(level: float, elr: float, n: int = 40) -> object:
    rng = np.random.default_rng(round(1e6 * elr))
    loss = np.geomspace(9, 0.1, n)
    eg = 600 * np.exp(-np.arange(n)) + level * np.exp(-((np.arange(n) - 20) ** 2) / 20) + 1 + 0.01 * rng.random(n)
    return made_run({("online", "total", "loss"): loss, ("online", "total", "eg"): eg}, elr=elr)


def test_peak_along_a_run() -> None:
    run = peaked(50, 1e-3)
    at_start = gradient_peak(run)
    assert (at_start.epoch, at_start.inner) == (1, False)
    found = gradient_peak(run, below=2.3)
    assert (found.epoch, found.inner) == (21, True)
    assert found.eg == pytest.approx(51, rel=0.01)
    assert found.loss == pytest.approx(np.geomspace(9, 0.1, 40)[20])
    assert math.isnan(gradient_peak(run, below=1e-3).eg)
    with pytest.raises(UserError, match="no effective gradient"):
        gradient_peak(made_run({("online", "total", "loss"): np.ones(3)}))


def test_peak_over_rates() -> None:
    def peak(elr: float, eg: float, loss: float = 1.0) -> Peak:
        return Peak(elr, 0, 1.0, 1, 1.0, False, Estimate(eg, 0.1), Estimate(loss, 0.1))

    peaks = [peak(1e-1, 1e4, 11.0), peak(1e-4, 1.0), peak(1e-3, 50.0), peak(1e-2, 30.0)]
    found = transition_peak(peaks, below=5.0)
    assert (found.elr, found.between.low, found.between.high, found.decided) == (1e-3, 1e-4, 1e-2, True)
    assert len(found.eg) == 3
    assert transition_peak(peaks).elr == 1e-1
    assert not transition_peak(peaks).decided  # nothing beyond it
    assert not transition_peak([*peaks[1:3], peak(1e-2, 49.9)]).decided
    with pytest.raises(UserError, match="one seed"):
        transition_peak([peak(1e-3, 1.0), peak(1e-3, 1.0)])
    with pytest.raises(UserError, match="no run ends below"):
        transition_peak(peaks, below=0.1)

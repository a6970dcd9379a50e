"""Levels of the cosines and the gap between them, on made-up runs of known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import autoregressive, made_run

from scaleinv.analysis.similarity import CosineLevel, cosine_gap, cosine_level, cosines
from scaleinv.analysis.statistics import Estimate
from scaleinv.errors import UserError


def run(elr: float, distance: np.ndarray, seed: int = 0) -> object:
    start = np.exp(-elr * np.arange(1, len(distance) + 1))
    rows = {("weights", "total", "cos_previous_epoch"): 1 - distance, ("weights", "total", "cos_start"): start}
    return made_run(rows, elr=elr, seed=seed)


def frozen(elr: float, seed: int = 0, n: int = 60) -> object:
    """Falls as 1/t, grows as the ELR."""
    rng = np.random.default_rng([seed, round(1e7 * elr)])
    return run(elr, 10 * elr / np.arange(5, 5 + n) * np.exp(0.05 * autoregressive(n, 0.3, rng)), seed)


def moving(elr: float, seed: int = 0, n: int = 60) -> object:
    rng = np.random.default_rng([seed, round(1e7 * elr)])
    return run(elr, np.minimum(0.9, 50 * elr) * np.exp(0.05 * autoregressive(n, 0.3, rng)), seed)


LOW, HIGH = (1e-4, 2e-4, 4e-4, 8e-4), (1.6e-3, 3.2e-3)


def test_levels() -> None:
    found = cosine_level(frozen(1e-4))
    slow = np.log(1 - cosines(frozen(1e-4)).previous[30:])
    assert found.log_distance.value == pytest.approx(slow.mean(), abs=1e-9)
    assert found.log_distance.error < 0.03  # the fall itself is no scatter
    assert found.trend.value + 2 * found.trend.error < 0
    assert found.start == pytest.approx(math.exp(-60e-4))
    assert abs(cosine_level(moving(2e-3)).trend.value) < 3 * cosine_level(moving(2e-3)).trend.error
    short = cosine_level(frozen(1e-4), 58, 60)
    assert short.log_distance.value == pytest.approx(slow[-3:].mean(), abs=1e-9)
    with pytest.raises(UserError, match="no cosines"):
        cosines(made_run({}))
    stuck = cosine_level(run(1e-9, np.zeros(60)))
    assert stuck.log_distance.value == pytest.approx(math.log(1e-16))


def test_the_gap_is_where_freezing_ends() -> None:
    runs = [frozen(e) for e in LOW] + [moving(e) for e in HIGH]
    found = cosine_gap([cosine_level(r) for r in runs])
    assert found.verdict == "gap", found.reason
    assert (found.between.low, found.between.high) == (8e-4, 1.6e-3)
    assert found.freezing == (True, True, True, True, False, False)
    # 1 - cos = 10 e/t below (mean log t of epochs 31..60), 50 e above
    factor = 5 * math.exp(np.log(np.arange(35, 65)).mean())
    assert found.interval.low < factor < found.interval.high
    assert found.slope == pytest.approx(1, abs=0.15)


def test_seeds_are_averaged() -> None:
    levels = [cosine_level(f(e, s)) for f, rates in ((frozen, LOW), (moving, HIGH)) for e in rates for s in range(3)]
    found = cosine_gap(levels)
    assert found.verdict == "gap"
    assert len(found.levels) == 6
    assert found.levels[0].value == pytest.approx(np.mean([v.log_distance.value for v in levels[:3]]))


def test_smooth_growth_has_no_gap() -> None:
    found = cosine_gap([cosine_level(frozen(e)) for e in (*LOW, *HIGH)])
    assert found.verdict == "none", found.reason
    assert all(found.freezing)
    saturating = cosine_gap([cosine_level(moving(e)) for e in (4e-4, 2e-3, 1e-2, 1e-1, 1.0)])
    assert saturating.verdict == "none"


def test_too_little_is_undecided() -> None:
    assert cosine_gap([cosine_level(frozen(e)) for e in LOW[:3]]).verdict == "undecided"
    vague = [
        CosineLevel(e, 0, Estimate(math.log(d), 0.5), Estimate(0.0, 1.0), 0.5)
        for e, d in zip((*LOW, *HIGH), (1e-4, 2e-4, 4e-4, 8e-4, 8e-3, 1e-2))
    ]
    found = cosine_gap(vague)
    assert found.verdict == "undecided"
    assert found.interval.low < 2 < found.interval.high
    unknown = [CosineLevel(e, 0, Estimate(math.nan, math.nan), Estimate(math.nan, math.nan), 0.5) for e in LOW]
    assert cosine_gap(unknown).freezing == (None,) * 4


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1), st.permutations(range(6)))
def test_units_and_order_change_nothing(unit: float, scale: float, order: list[int]) -> None:
    levels = [cosine_level(r) for r in [frozen(e) for e in LOW] + [moving(e) for e in HIGH]]
    before = cosine_gap(levels)
    moved = [
        CosineLevel(
            unit * v.elr, v.seed, Estimate(v.log_distance.value + math.log(scale), v.log_distance.error), v.trend, 0
        )
        for v in (levels[i] for i in order)
    ]
    after = cosine_gap(moved)
    assert (after.verdict, after.freezing) == (before.verdict, before.freezing)
    assert after.factor == pytest.approx(before.factor, rel=1e-6)
    assert after.between.low == pytest.approx(unit * before.between.low)

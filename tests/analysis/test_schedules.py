"""Schedules whose differences are known, against scipy and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import made_run

from scaleinv.analysis.schedules import compare_schedules, errors_by_seed, final_error
from scaleinv.errors import UserError

Table = dict[str, dict[int, float]]


def table(means: dict[str, float], seeds: int = 5, noise: float = 0.002, common: float = 0.02, seed: int = 0) -> Table:
    """Errors with a large part that the seeds share and a small one of their own."""
    rng = np.random.default_rng(seed)
    shared = common * rng.normal(size=seeds)
    return {name: {s: m + shared[s] + noise * rng.normal() for s in range(seeds)} for name, m in means.items()}


def test_pairing_shows_what_the_seeds_hide() -> None:
    found = compare_schedules(table({"constant": 0.12, "cosine": 0.10, "step": 0.1001}))
    assert [place.name for place in found.ranking][2] == "constant"
    assert set(found.unbeaten) == {"cosine", "step"}
    assert found.pair("cosine", "constant").better == "cosine"
    assert found.pair("step", "cosine").better is None
    assert found.ranking[0].not_distinguishable == (found.ranking[1].name,)
    # the errors themselves overlap
    assert found.ranking[0].interval.high > found.ranking[2].interval.low


def test_numbers_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    errors = table({"a": 0.1, "b": 0.104}, seeds=6)
    found = compare_schedules(errors).pair("a", "b")
    x, y = (np.array(list(errors[name].values())) for name in "ab")
    theirs = stats.ttest_rel(x, y)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    interval = theirs.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    turned = compare_schedules(errors).pair("b", "a")
    assert (turned.difference.value, turned.interval.low) == (-found.difference.value, -found.interval.high)
    signs = [abs(sum(s * d for s, d in zip(signs, x - y))) for signs in itertools.product((1, -1), repeat=6)]
    assert found.p_signs == np.mean(np.array(signs) >= abs(sum(x - y)) * (1 - 1e-12))


def test_holm_allows_fewer_statements_than_single_pairs() -> None:
    rng = np.random.default_rng(0)
    false = single = 0
    for _ in range(200):  # five equal schedules, ten pairs
        errors = {name: dict(enumerate(0.1 + 0.01 * rng.normal(size=5))) for name in "abcde"}
        found = compare_schedules(errors)
        false += any(p.better for p in found.pairs)
        single += any(p.p < 0.05 for p in found.pairs)
    assert false <= 20  # 5 % and its scatter
    assert single > 3 * false


def test_only_common_seeds_and_what_is_refused() -> None:
    errors = table({"a": 0.1, "b": 0.2}, seeds=6)
    del errors["a"][0]
    errors["b"][99] = 0.3
    assert compare_schedules(errors).seeds == (1, 2, 3, 4, 5)
    with pytest.raises(UserError, match="at least two"):
        compare_schedules({"a": {0: 0.1}})
    with pytest.raises(UserError, match="share 0 seeds"):
        compare_schedules({"a": {0: 0.1}, "b": {1: 0.1}})
    errors["a"][3] = math.nan
    with pytest.raises(UserError, match="seed 3 is unknown"):
        compare_schedules(errors)
    with pytest.raises(UserError, match="not both"):
        compare_schedules(table({"a": 0.1, "b": 0.2})).pair("a", "c")


def test_equal_differences() -> None:
    same = {"a": dict.fromkeys(range(4), 0.1), "b": dict.fromkeys(range(4), 0.1), "c": dict.fromkeys(range(4), 0.3)}
    found = compare_schedules(same)
    assert (found.pair("a", "b").p, found.pair("a", "b").better) == (1.0, None)
    assert (found.pair("a", "c").p, found.pair("a", "c").better) == (0.0, "a")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.permutations(range(5)))
def test_scale_and_order_change_nothing(seed: int, scale: float, order: list[int]) -> None:
    errors = table({"a": 0.1, "b": 0.102, "c": 0.11}, seed=seed)
    before = compare_schedules(errors)
    turned = {name: {s: scale * errors[name][s] for s in order} for name in ("c", "a", "b")}
    after = compare_schedules(turned)
    assert [p.name for p in after.ranking] == [p.name for p in before.ranking]
    assert after.unbeaten == before.unbeaten
    assert after.pair("a", "b").p == pytest.approx(before.pair("a", "b").p, rel=1e-6)


def test_many_seeds_are_sampled() -> None:
    errors = table({"a": 0.1, "b": 0.1005}, seeds=20)
    found = compare_schedules(errors).pairs[0]
    assert found.p_signs == pytest.approx(found.p, abs=0.05)


def test_from_runs() -> None:
    def run(seed: int, last: float) -> object:
        return made_run({("test", "total", "error_recomputed_bn"): np.array([0.5, 0.3, last])}, seed=seed)

    runs = {"a": [run(0, 0.1), run(1, 0.2)], "b": [run(0, 0.3)]}
    assert errors_by_seed(runs) == {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.3}}
    assert final_error(run(0, 0.1), evaluations=2) == pytest.approx(0.2)
    assert math.isnan(final_error(made_run({})))
    with pytest.raises(UserError, match="no seed of its own"):
        errors_by_seed({"a": [run(0, 0.1), run(0, 0.2)]})

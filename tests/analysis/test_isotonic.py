"""Shape-restricted fits against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scaleinv.analysis.double_descent import falling, rising, valley

values = arrays(np.float64, st.integers(1, 25), elements=st.integers(-20, 20).map(float))


def slow_falling(y: np.ndarray) -> np.ndarray:
    """By the min-max formula: max over ends of min over starts... of means."""
    n = len(y)
    means = np.array([[y[a : b + 1].mean() if a <= b else np.nan for b in range(n)] for a in range(n)])
    return np.array([min(max(means[a, b] for b in range(i, n)) for a in range(i + 1)) for i in range(n)])


def error(y: np.ndarray, fit: np.ndarray) -> float:
    return float(np.sum((y - fit) ** 2))


@settings(max_examples=60, deadline=None)
@given(values)
def test_falling_is_the_min_max_formula(y: np.ndarray) -> None:
    assert falling(y) == pytest.approx(slow_falling(y), abs=1e-9)
    assert rising(y) == pytest.approx(-falling(-y), abs=1e-9)
    assert np.all(np.diff(falling(y)) <= 0)


@settings(max_examples=60, deadline=None)
@given(values)
def test_valley_is_the_best_of_all_cuts(y: np.ndarray) -> None:
    best = min(error(y, np.concatenate([falling(y[:k]), rising(y[k:])])) for k in range(len(y) + 1))
    assert error(y, valley(y)) == pytest.approx(best, abs=1e-9)
    assert error(y, valley(y)) <= min(error(y, falling(y)), error(y, rising(y))) + 1e-9
    assert valley(2 * y + 1) == pytest.approx(2 * valley(y) + 1, abs=1e-9)


def test_scikit_learn_agrees() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    y = np.random.default_rng(0).normal(size=200).cumsum()
    assert falling(y) == pytest.approx(isotonic.isotonic_regression(y, increasing=False), abs=1e-9)
    assert len(valley(np.zeros(0))) == 0

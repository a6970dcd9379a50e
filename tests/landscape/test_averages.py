"""Means of iterates on the toy circle, where convexity is known, and against a slow average."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.landscape.nets import fingerprint, surface, toy, toy_state, turned
from tests.landscape.test_surface import slow_values

from scaleinv.errors import UserError
from scaleinv.landscape.averages import average, convexity, mean_point
from scaleinv.landscape.paths import blend
from scaleinv.landscape.surface import values

pytestmark = pytest.mark.numerics


def test_convex_near_the_minimum_concave_near_the_maximum() -> None:
    """sin^2 t is convex for |t| < pi/4 and concave around pi/2."""
    s = toy([0.0, 1.0])
    low = convexity(s, [toy_state(t) for t in (-0.6, -0.2, 0.3, 0.7)])
    assert low.convex
    assert low.share_above == 0.0
    assert np.all(low.middle < 0)
    assert low.average.excess < 0
    assert low.excess == pytest.approx(0.0, abs=1e-15)
    assert len(low.pairs) == 6
    assert low.segments.shape == (6, 5)
    assert low.angles == pytest.approx(np.array([0.4, 0.9, 1.3, 0.5, 0.9, 0.4]))
    high = convexity(s, [toy_state(math.pi / 2 + t) for t in (-0.5, 0.1, 0.6)], pairs=[(0, 2), (0, 1)], points=9)
    assert not high.convex
    assert high.share_above == 1.0
    assert np.all(high.middle > 0)
    assert high.average.excess > 0
    # the middle of the first chord is at pi/2 + 0.05
    ends = math.cos(0.5) ** 2, math.cos(0.6) ** 2
    assert high.segments[0, 4] - sum(ends) / 2 == pytest.approx(math.cos(0.05) ** 2 - sum(ends) / 2, rel=1e-12)
    assert high.excess[0] >= high.segments[0, 4] - sum(ends) / 2


def test_mean_of_points_on_the_circle() -> None:
    """Two directions, of different norms: the mean points between them, shrunk by the cosine of half their angle."""
    s = toy([0.0, 1.0])
    state, norm = mean_point(s, [toy_state(0.1, 2.0), toy_state(0.9, 5.0)])
    assert math.atan2(*state["x"].tolist()) == pytest.approx(0.5, rel=1e-12)
    assert s.radius(state) == pytest.approx(2.0)
    assert norm == pytest.approx(2.0 * math.cos(0.4))
    found = average(s, [toy_state(0.1), toy_state(0.9)])
    assert found.values.train_loss == pytest.approx(math.sin(0.5) ** 2, rel=1e-12)
    assert [m.train_loss for m in found.members] == pytest.approx([math.sin(0.1) ** 2, math.sin(0.9) ** 2])
    assert found.shrink == pytest.approx(math.cos(0.4))
    assert found.excess == pytest.approx(math.sin(0.5) ** 2 - (math.sin(0.1) ** 2 + math.sin(0.9) ** 2) / 2)


def test_average_equals_a_slow_one() -> None:
    s = surface("mlp", images=49)
    points = [turned(s.weights(), s.names, 0.3, seed) for seed in range(3)]
    before = fingerprint(s.model)
    found = average(s, points)
    assert fingerprint(s.model) == before
    radii = [math.sqrt(sum(float((p[n] ** 2).sum()) for n in s.names)) for p in points]
    mean = {n: sum(p[n] / r for p, r in zip(points, radii)) / 3 for n in s.names}
    size = math.sqrt(sum(float((v**2).sum()) for v in mean.values()))  # type: ignore[operator, union-attr]
    state = {**points[0], **{n: v * radii[0] / size for n, v in mean.items()}}
    assert found.shrink == pytest.approx(size, rel=1e-12)
    slow = slow_values(s, state)  # type: ignore[arg-type]
    assert found.values.train_loss == pytest.approx(slow.train_loss, rel=1e-9)
    assert found.values.test_loss == pytest.approx(slow.test_loss, rel=1e-9)
    for n in s.names:
        torch.testing.assert_close(found.weights[n], state[n])


def test_segments_of_the_test_loss() -> None:
    """Train columns are those of the cheap measure; test columns are values at the blended points."""
    s = surface("mlp", images=48)
    points = [turned(s.weights(), s.names, 0.6, seed) for seed in range(3)]
    plain, both = convexity(s, points), convexity(s, points, test=True)
    assert plain.test_segments is None
    assert math.isnan(plain.test_share_above)
    assert both.test_segments is not None
    np.testing.assert_allclose(both.segments, plain.segments, rtol=1e-12)
    rho = s.radius(points[0])
    for row, (i, j) in zip(both.test_segments, both.pairs):
        slow = [values(s, blend(s, points[i], points[j], k / 4, rho)[0]).test_loss for k in range(5)]
        assert row == pytest.approx(slow, rel=1e-9)
    above = [max(row[1:-1]) > max(row[0], row[-1]) for row in both.test_segments]
    assert both.test_share_above == np.mean(above)
    members = [m.test_loss for m in both.average.members]
    assert both.average.test_excess == pytest.approx(both.average.values.test_loss - sum(members) / 3)


def test_counters_are_kept() -> None:
    s = surface("mlp", images=16)
    name = "norms.0.num_batches_tracked"
    a, b = s.weights(), s.weights()
    a[name], b[name] = torch.tensor(7), torch.tensor(10)
    state, _ = mean_point(s, [a, b])
    assert int(state[name]) == 7


def test_refusals() -> None:
    s = toy([0.0, 1.0])
    with pytest.raises(UserError, match="at least two"):
        convexity(s, [toy_state(0.1)])
    with pytest.raises(UserError, match="at least 3"):
        convexity(s, [toy_state(0.1), toy_state(0.2)], points=2)
    with pytest.raises(UserError, match="no points"):
        mean_point(s, [])

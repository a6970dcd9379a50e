"""Paths against a loss known in closed form and against the slow values of each point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.landscape.nets import fingerprint, surface, toy, toy_state, turned
from tests.landscape.test_surface import slow_values

from scaleinv.errors import UserError
from scaleinv.landscape.paths import angle, barrier, linear_path

pytestmark = pytest.mark.numerics


def test_known_path() -> None:
    """On the circle the point at fraction t of the chord lies at an angle known by trigonometry."""
    s = toy([0.0, 1.0], alpha=2.0)
    a, b = toy_state(-0.4, 3.0), toy_state(1.1, 0.5)  # the second end has another norm
    path = linear_path(s, a, b)
    t = np.linspace(0, 1, 21)
    x = (1 - t) * math.sin(-0.4) + t * math.sin(1.1)
    y = (1 - t) * math.cos(0.4) + t * math.cos(1.1)
    assert path.train_loss == pytest.approx(2 * x**2 / (x**2 + y**2), rel=1e-12, abs=1e-14)
    assert path.chord == pytest.approx(np.hypot(x, y), rel=1e-12)
    assert path.angle == pytest.approx(1.5, rel=1e-12)
    assert path.rho == pytest.approx(3.0, rel=1e-14)
    assert path.barrier().height == 0.0
    assert path.barrier().ends == pytest.approx((2 * math.sin(0.4) ** 2, 2 * math.sin(1.1) ** 2))
    # over the hill at theta = pi/2, symmetrically: the barrier is the hill above the ends, half way
    over = linear_path(s, toy_state(1.0), toy_state(math.pi - 1.0)).barrier("train_loss")
    assert over.height == pytest.approx(2 * math.cos(1.0) ** 2, rel=1e-12)
    assert over.at == 0.5


def test_opposite_ends_have_no_path() -> None:
    s = toy([0.0, 1.0])
    path = linear_path(s, {"x": torch.tensor([0.0, 1.0]).double()}, {"x": torch.tensor([0.0, -1.0]).double()}, points=3)
    assert math.isnan(path.train_loss[1])
    assert path.train_loss[0] == 0.0
    assert math.isnan(path.barrier().height)
    assert path.angle == pytest.approx(math.pi)


def test_barrier_is_over_the_line() -> None:
    assert barrier(np.array([1.0, 1.0, 0.0])).height == 0.5
    assert barrier(np.array([1.0, 0.2, 0.0])).height == 0.0
    sag = barrier(np.array([0.0, 0.1, 0.9, 1.0]))
    assert (sag.height, sag.at) == (pytest.approx(0.9 - 2 / 3), pytest.approx(2 / 3))


def test_path_equals_slow_points() -> None:
    """Every point against the network by hand; the states interpolated in the other order of operations."""
    s = surface("mlp", images=49)
    a = s.weights()
    b = {n: 1.7 * t if n in s.names else t for n, t in turned(a, s.names, 0.8, 3).items()}
    b["head.weight"] = 1.1 * b["head.weight"]  # heads are interpolated too
    before = fingerprint(s.model)
    path = linear_path(s, a, b, points=5)
    assert fingerprint(s.model) == before
    rho = math.sqrt(sum(float((a[n] ** 2).sum()) for n in s.names))
    other = math.sqrt(sum(float((b[n] ** 2).sum()) for n in s.names))
    inner = 0.0
    for n in s.names:
        inner += float((a[n] * b[n]).sum())
    for k, t in enumerate(np.linspace(0, 1, 5)):
        mixed = {n: (1 - t) / rho * a[n] + t / other * b[n] for n in s.names}
        size = math.sqrt(sum(float((v**2).sum()) for v in mixed.values()))
        state = {n: v * rho / size for n, v in mixed.items()}
        state |= {n: (1 - t) * a[n] + t * b[n] for n in a if n.startswith("head")}
        slow = slow_values(s, state)
        for quantity in ("train_loss", "train_error", "test_loss", "test_error"):
            assert getattr(path, quantity)[k] == pytest.approx(getattr(slow, quantity), rel=1e-8), (k, quantity)
        assert path.chord[k] == pytest.approx(size, rel=1e-12)
    assert path.angle == pytest.approx(math.acos(inner / rho / other), rel=1e-9)
    assert angle(s, a, b) == path.angle


def test_path_to_itself_is_flat() -> None:
    s = surface("convnet", images=32, dtype=torch.float32, norm_eps=1e-5)
    path = linear_path(s, s.weights(), s.weights(), points=3)
    assert np.ptp(path.train_loss) < 1e-5 * path.train_loss[0]  # nothing but float32 rounding of the norm
    assert path.angle == 0.0
    assert path.barrier("train_error").height == 0.0


def test_refusals() -> None:
    s = surface("mlp", images=16)
    with pytest.raises(UserError, match="at least 2"):
        linear_path(s, s.weights(), s.weights(), points=1)
    with pytest.raises(UserError, match="choose one of"):
        linear_path(toy([0.0, 1.0]), toy_state(0.1), toy_state(0.2), points=2).barrier("loss")

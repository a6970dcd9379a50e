"""Vectors on spheres: closed forms in float64, tiny angles in float32, properties, independent slow references."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scaleinv import geometry

pytestmark = pytest.mark.numerics

SHAPES = ((4, 3, 3, 3), (7,), (5, 2))
quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31 - 1)  # torch uses the low 32 bits of a seed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, dtype: torch.dtype = torch.float64, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    g = generator(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in shapes]


def flat(x: Sequence[Tensor]) -> np.ndarray:
    """The concatenation, in float64 (the slow and obvious form)."""
    return np.concatenate([t.detach().double().numpy().ravel() for t in x])


def exact_angle(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Kahan's formula on unit vectors in long double."""
    u, v = (flat(t).astype(np.longdouble) for t in (a, b))
    u, v = u / np.sqrt(u @ u), v / np.sqrt(v @ v)
    return float(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))


def turned(x: Sequence[Tensor], v: Sequence[Tensor], theta: float, stretch: float = 1.0) -> list[Tensor]:
    """``x`` turned by ``theta`` in the plane of ``x`` and the tangent direction ``v``, times ``stretch``; float64."""
    r, s = np.linalg.norm(flat(x)), np.linalg.norm(flat(v))
    return [stretch * (math.cos(theta) * xi.double() + math.sin(theta) * r / s * vi.double()) for xi, vi in zip(x, v)]


# -- norms and products ------------------------------------------------------------------------------------------------


def test_norms_and_products_are_those_of_the_concatenation() -> None:
    a, b = draw(0), draw(1)
    assert float(geometry.norm(a)) == pytest.approx(np.linalg.norm(flat(a)), rel=1e-14)
    assert float(geometry.norm(a[:1])) == pytest.approx(np.linalg.norm(flat(a[:1])), rel=1e-14)
    assert [float(n) for n in geometry.norms(a)] == pytest.approx([np.linalg.norm(flat([t])) for t in a], rel=1e-14)
    assert float(geometry.dot(a, b)) == pytest.approx(flat(a) @ flat(b), rel=1e-13)
    assert geometry.norm(a).shape == geometry.dot(a, b).shape == ()


@pytest.mark.parametrize("shape", [(3_000_000,), (3000, 1000), (512, 512, 3, 3), (1, 2_000_000), (2_000_000, 1)])
def test_large_float32_norms_do_not_lose_digits(shape: tuple[int, ...]) -> None:
    # torch's own float32 norm is up to 4e-4 off here, enough to let a sphere drift
    x = torch.rand(shape, generator=generator(0))
    exact = float(torch.linalg.vector_norm(x.double()))
    assert float(geometry.norm([x])) == pytest.approx(exact, rel=2e-7)
    assert float(geometry.norm([x, x])) == pytest.approx(math.sqrt(2) * exact, rel=2e-7)


@pytest.mark.parametrize("size", [100, 2**13, 2**17, 2**20])
def test_norms_of_equal_numbers_do_not_lose_digits(size: int) -> None:
    # the worst case: all roundings go the same way, 7e-6 in torch's own norm of 2^13 numbers
    x = torch.full((size,), 0.1)
    exact = float(x.double().norm())
    for found in (geometry.norm([x]), geometry.norms([x])[0], geometry.row_norms(x[None])[0, 0]):
        assert float(found) == pytest.approx(exact, rel=3e-7)


def test_large_channels_last_norms_do_not_lose_digits() -> None:
    x = torch.rand(512, 512, 3, 3, generator=generator(1)).contiguous(memory_format=torch.channels_last)
    assert float(geometry.norm([x])) == pytest.approx(float(x.double().norm()), rel=2e-7)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3, 3), (6, 1), (2, 300_000)])
def test_row_norms(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=generator(2))
    rows = geometry.row_norms(x)
    assert rows.shape == (shape[0], *[1] * (len(shape) - 1))
    np.testing.assert_allclose(
        rows.numpy().ravel(), np.linalg.norm(x.double().numpy().reshape(shape[0], -1), axis=1), 3e-7
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_half_precision_are_not_rounded_to_it(dtype: torch.dtype) -> None:
    x = draw(3, dtype)
    assert geometry.norm(x).dtype == torch.float32
    assert float(geometry.norm(x)) == pytest.approx(np.linalg.norm(flat(x)), rel=1e-6)


def test_empty_and_mismatched_lists_are_refused() -> None:
    a = draw(0)
    with pytest.raises(ValueError, match="empty"):
        geometry.norm([])
    with pytest.raises(ValueError, match="empty"):
        geometry.retract_([], 1.0)
    pairs: list[Callable[[list[Tensor], list[Tensor]], object]] = [
        geometry.dot,
        geometry.tangent,
        geometry.project_tangent_,
        geometry.angle,
    ]
    for function in pairs:
        with pytest.raises(ValueError, match="same length"):
            function(a, a[:-1])
        with pytest.raises(ValueError, match="same length"):
            function([], [])
        with pytest.raises(ValueError, match="differ in shape"):
            function(a, [a[0], a[1][:1], a[2]])  # would broadcast
    with pytest.raises(ValueError, match="same length"):
        geometry.parallel_transport(a, a[:-1], a)


# -- angles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [1e-12, 1e-6, 1e-3, 0.5, math.pi / 2, 3.0, math.pi - 1e-6, math.pi])
@pytest.mark.parametrize("stretch", [1.0, 1.3, 1e-3, 250.0])
def test_float64_angles_are_the_closed_form(theta: float, stretch: float) -> None:
    x = draw(0)
    y = turned(x, geometry.tangent(draw(1), x), theta, stretch)
    # data rounding alone turns y by about 1e-16 rad
    assert float(geometry.angle(x, y)) == pytest.approx(theta, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("theta", [1e-6, 1e-5, 1e-4, 1e-2, 1.0, 2.5, math.pi - 1e-3])
@pytest.mark.parametrize("stretch", [1.0, 1.01, 0.7, 3.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_float32_angles_keep_their_digits(theta: float, stretch: float, seed: int) -> None:
    x = draw(seed, torch.float32)
    y = [t.float() for t in turned(x, geometry.tangent(draw(seed + 100), [t.double() for t in x]), theta, stretch)]
    assert float(geometry.angle(x, y)) == pytest.approx(exact_angle(x, y), rel=3e-7)


def test_the_cosine_would_not_do() -> None:
    x = draw(0, torch.float32)
    y = [t.float() for t in turned(x, geometry.tangent(draw(1), [t.double() for t in x]), 1e-4)]
    cosine = geometry.dot(x, y) / (geometry.norm(x) * geometry.norm(y))
    wrong = float(torch.acos(cosine.clamp(max=1.0)))
    assert abs(wrong - 1e-4) > 1e-5
    assert float(geometry.angle(x, y)) == pytest.approx(1e-4, rel=1e-2)  # float32 rounding of y turns it by itself


def test_angles_of_vectors_whose_squares_leave_float32() -> None:
    a = [torch.tensor([3e-25, 0.0]), torch.tensor([0.0])]
    b = [torch.tensor([4e25, 0.0]), torch.tensor([4e25])]
    assert float(geometry.angle(a, b)) == pytest.approx(math.pi / 4, rel=1e-6)


def test_angle_without_a_direction_is_nan() -> None:
    zero, one = [torch.zeros(3)], [torch.ones(3)]
    assert math.isnan(geometry.angle(zero, one))
    assert math.isnan(geometry.angle(one, zero))
    assert float(geometry.angle(one, one)) == 0.0
    assert float(geometry.angle(one, [-one[0]])) == pytest.approx(math.pi, rel=1e-7)


@quick
@given(seeds, seeds, st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_angle_is_symmetric_and_scale_invariant(seed: int, other: int, p: float, q: float) -> None:
    a, b = draw(seed), draw(other + 2**31)
    found = float(geometry.angle(a, b))
    assert 0 <= found <= math.pi
    assert found == pytest.approx(exact_angle(a, b), rel=1e-12, abs=1e-14)
    assert found == pytest.approx(float(geometry.angle(b, a)), rel=1e-12, abs=1e-14)
    assert found == pytest.approx(float(geometry.angle([p * t for t in a], [q * t for t in b])), rel=1e-9, abs=1e-14)


# -- tangents and retraction -------------------------------------------------------------------------------------------


@quick
@given(seeds, seeds)
def test_tangents_are_orthogonal_and_projection_is_idempotent(seed: int, other: int) -> None:
    x, v = draw(seed), draw(other + 2**31)
    u = geometry.tangent(v, x)
    assert abs(float(geometry.dot(u, x))) <= 1e-13 * float(geometry.norm(v) * geometry.norm(x))
    np.testing.assert_allclose(flat(geometry.tangent(u, x)), flat(u), atol=1e-14)
    back = flat(u) + (flat(v) @ flat(x)) / (flat(x) @ flat(x)) * flat(x)
    np.testing.assert_allclose(back, flat(v), atol=1e-13)  # what was taken away is radial
    w = [t.clone() for t in v]
    geometry.project_tangent_(w, x)
    np.testing.assert_array_equal(flat(w), flat(u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_retraction_keeps_the_direction(dtype: torch.dtype) -> None:
    x = draw(5, dtype)
    before = [t.clone() for t in x]
    geometry.retract_(x, 3.0)
    eps = torch.finfo(dtype).eps
    assert float(geometry.norm(x)) == pytest.approx(3.0, rel=4 * eps)
    assert float(geometry.angle(before, x)) < 2 * eps
    geometry.retract_(x, torch.tensor(0.5, dtype=dtype))
    assert float(geometry.norm(x)) == pytest.approx(0.5, rel=4 * eps)


# -- transport ---------------------------------------------------------------------------------------------------------


def schilds_ladder(v: np.ndarray, x: np.ndarray, y: np.ndarray, side: float) -> np.ndarray:
    """Transport along the great circle by geodesic parallelograms on the unit sphere; error O(side)."""

    def exp(p: np.ndarray, u: np.ndarray) -> np.ndarray:
        s = np.linalg.norm(u)
        return p if s == 0 else np.cos(s) * p + np.sin(s) / s * u

    def log(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        u = q - (q @ p) * p
        return np.arctan2(np.linalg.norm(u), q @ p) / np.linalg.norm(u) * u

    rungs = 64
    whole, here, carried = log(x, y), x, side * v
    for k in range(rungs):
        there = exp(x, whole * (k + 1) / rungs)
        tip = exp(here, carried)
        middle = exp(tip, log(tip, there) / 2)
        carried = log(there, exp(here, 2 * log(here, middle)))
        here = there
    return carried / side


def transport_equation(v: np.ndarray, x: np.ndarray, y: np.ndarray, steps: int = 400) -> np.ndarray:
    """Runge-Kutta solution of dv/dt = -<v, x'> x along the great circle (unit sphere)."""
    theta = 2 * np.arctan2(np.linalg.norm(x - y), np.linalg.norm(x + y))
    e = y - (y @ x) * x
    e /= np.linalg.norm(e)

    def rate(t: float, w: np.ndarray) -> np.ndarray:
        point, speed = np.cos(t) * x + np.sin(t) * e, -np.sin(t) * x + np.cos(t) * e
        return -(w @ speed) * point

    h, t, w = theta / steps, 0.0, v.copy()
    for _ in range(steps):
        k1 = rate(t, w)
        k2 = rate(t + h / 2, w + h / 2 * k1)
        k3 = rate(t + h / 2, w + h / 2 * k2)
        k4 = rate(t + h, w + h * k3)
        w, t = w + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), t + h
    return w


def unit_triple(seed: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Two points of the unit sphere and a tangent vector at the first."""
    g = generator(seed)
    x, y = (geometry.random_direction(draw(0, shapes=((3, 2), (4,))), g) for _ in range(2))
    return geometry.random_tangent(x, g, 1.7), x, y


@pytest.mark.parametrize("seed", range(4))
def test_transport_solves_its_equation(seed: int) -> None:
    v, x, y = unit_triple(seed)
    moved = flat(geometry.parallel_transport(v, x, y))
    np.testing.assert_allclose(moved, transport_equation(flat(v), flat(x), flat(y)), atol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_schilds_ladder_converges_to_transport(seed: int) -> None:
    v, x, y = unit_triple(seed)
    moved = flat(geometry.parallel_transport(v, x, y))
    coarse, fine = (schilds_ladder(flat(v), flat(x), flat(y), s) for s in (1e-3, 2.5e-4))
    assert np.linalg.norm(fine - moved) == pytest.approx(np.linalg.norm(coarse - moved) / 4, rel=0.1)
    np.testing.assert_allclose(fine + (fine - coarse) / 3, moved, atol=1e-4)  # Richardson


@pytest.mark.parametrize("seed", range(3))
def test_transport_agrees_with_geoopt(seed: int) -> None:
    geoopt = pytest.importorskip("geoopt")
    v, x, y = unit_triple(seed)
    theirs = geoopt.Sphere().transp(*(torch.from_numpy(flat(t)) for t in (x, y, v)))
    np.testing.assert_allclose(flat(geometry.parallel_transport(v, x, y)), theirs.numpy(), atol=1e-12)


@quick
@given(seeds, st.floats(1e-3, 1e3))
def test_transport_is_an_isometry_of_tangent_spaces(seed: int, radius: float) -> None:
    g = generator(seed)
    like = draw(0)
    x, y = geometry.random_direction(like, g, radius), geometry.random_direction(like, g, radius)
    u, v = geometry.random_tangent(x, g, 2.0), geometry.random_tangent(x, g, 3.0)
    pu, pv = geometry.parallel_transport(u, x, y), geometry.parallel_transport(v, x, y)
    assert float(geometry.dot(pu, pv)) == pytest.approx(float(geometry.dot(u, v)), abs=1e-11)
    assert float(geometry.norm(pu)) == pytest.approx(2.0, rel=1e-12)
    assert abs(float(geometry.dot(pu, y))) < 1e-11 * radius
    np.testing.assert_allclose(flat(geometry.parallel_transport(pu, y, x)), flat(u), atol=1e-11)


def test_transport_carries_the_velocity_to_the_velocity() -> None:
    _, x, y = unit_triple(9)
    there, back = geometry.tangent(y, x), geometry.tangent(x, y)  # of one length, sin(angle)
    forward = flat(geometry.parallel_transport(there, x, y))
    np.testing.assert_allclose(forward, -flat(back), atol=1e-13)


# -- random points -----------------------------------------------------------------------------------------------------


def test_random_directions_are_uniform_and_repeatable() -> None:
    like = [torch.zeros(2, 2), torch.zeros(1)]
    g = generator(0)
    points = np.stack([flat(geometry.random_direction(like, g, 2.0)) for _ in range(4000)])
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 2.0, rtol=1e-6)
    n, d = points.shape
    standard_error = 2 / math.sqrt(d * n)
    assert np.abs(points.mean(axis=0)).max() < 4.5 * standard_error
    second = points.T @ points / n  # (4/d) times the identity; sd of an entry below 4/sqrt(n)/d^.5
    assert np.abs(second - 4 / d * np.eye(d)).max() < 4.5 * 4 / d / math.sqrt(n)
    again = geometry.random_direction(like, generator(0), 2.0)
    np.testing.assert_array_equal(flat(again), points[0])


def test_random_tangents_are_tangent() -> None:
    x = draw(0)
    v = geometry.random_tangent(x, generator(1), 0.3)
    assert abs(float(geometry.dot(v, x))) < 1e-14 * float(geometry.norm(x))
    assert float(geometry.norm(v)) == pytest.approx(0.3, rel=1e-14)
    assert [t.dtype for t in geometry.random_tangent(draw(0, torch.float32), generator(1))] == [torch.float32] * 3

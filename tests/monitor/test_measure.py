"""The sums of a step and what follows from them, against float64 and obvious."""

from __future__ import annotations

import math
from itertools import cycle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import rounding
from tests.rounding import U
from torch import Tensor

from scaleinv.monitor import measure
from scaleinv.monitor.measure import SUMS, accumulate, accumulate_steps, gradient_sums, step_sums
from scaleinv.monitor.quantities import COLUMN, derive
from scaleinv.monitor.rates import Rates, common

pytestmark = pytest.mark.numerics

SGD = Rates(0.1, 0.01, "sgd")


def quantities(before: list[Tensor], after: list[Tensor], slopes: list[Tensor], rate: Rates = SGD) -> dict[str, float]:
    """Of all tensors as one group."""
    left = accumulate_steps([step_sums(b, a, g) for b, a, g in zip(before, after, slopes)])
    right = accumulate([gradient_sums(b, g) for b, g in zip(before, slopes)], 2)
    sums = torch.cat([left, right], dim=1).numpy().astype(np.float64).sum(axis=0, keepdims=True)
    row = derive(sums, [rate], [True])[0]
    made_later = ("pull", "growth", "update_rms", "spectral")
    return {name: float(row[i]) for name, i in COLUMN.items() if name not in made_later}


def slow(before: list[Tensor], after: list[Tensor], slopes: list[Tensor], rate: Rates = SGD) -> dict[str, float]:
    """The definitions, in float64 on concatenated vectors."""
    w, x, g = (torch.cat([t.double().flatten() for t in ts]) for ts in (before, after, slopes))
    d, rho = x - w, float(w.norm())
    u = w / rho
    tangential = d - (d @ u) * u
    angle = math.atan2(float(tangential.norm()), rho + float(d @ u))
    norm = float(g.norm())
    return {
        "rho": rho, "g": norm, "eg": norm * rho, "lr": rate.lr, "elr": rate.lr / rho**2, "ess": rate.lr * norm / rho,
        "angle": angle, "radial": float(d @ u), "tangential": float(tangential.norm()),
        "decay": rate.lr * rate.wd * rho,
        "alignment": float(-(d @ g) / (d.norm() * norm)), "g_radial": float(g @ w) / (norm * rho),
    }  # fmt: skip


def vectors(shapes: list[tuple[int, ...]], seed: int, size: float) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    before = [torch.randn(s, generator=draw) for s in shapes]
    after = [b + size * torch.randn(b.shape, generator=draw) for b in before]
    return before, after, [torch.randn(s, generator=draw) for s in shapes]


def bounds(wanted: dict[str, float], n: int) -> dict[str, float]:
    """How far each quantity may be from :func:`slow`'s ``wanted``, for n numbers in float32.

    Each is made of dot products, of which each is wrong by ``of`` of the sum of its absolute terms; of a positive one
    the square root is taken. A step's parts are sums of terms of any sign, of which only their size is known, and the
    step itself is rounded by u; what is left of ``c w`` in the tangential part is rounding of its numbers.
    """
    of = rounding.of_positive_sum(n)
    step = math.hypot(wanted["tangential"], wanted["radial"])
    after = math.hypot(wanted["tangential"], wanted["rho"] + wanted["radial"])
    found = {name: 2 * of * abs(value) for name, value in wanted.items()}
    found["radial"] += (of + U) * step
    found["tangential"] += 4 * U * step
    # atan2: errors of both parts, and of rho, over the length of the weights after the step
    parts = found["radial"] + found["tangential"] + of * wanted["rho"]
    found["angle"] = parts / after if after > 0 else math.inf
    found["alignment"] += of + 2 * U
    found["g_radial"] += of
    return found


def agree(found: dict[str, float], wanted: dict[str, float], n: int) -> None:
    allowed = bounds(wanted, n)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=allowed[name]), name


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-2, 1.0, 30.0]),
)
def test_as_the_definitions(shapes: list[tuple[int, ...]], seed: int, size: float) -> None:
    parts = vectors(shapes, seed, size)
    agree(quantities(*parts), slow(*parts), sum(w.numel() for w in parts[0]))


def turned(turn: float, shrink: float) -> tuple[Tensor, Tensor]:
    """Weights before and after a step that turns and shrinks them, in float64."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(100, 100, generator=draw, dtype=torch.float64)
    t = torch.randn(100, 100, generator=draw, dtype=torch.float64)
    t -= (t * w).sum() / (w * w).sum() * w
    t *= w.norm() / t.norm()
    return w, (1 - shrink) * (math.cos(turn) * w + math.sin(turn) * t)


@pytest.mark.parametrize("shrink", [0.0, 1e-6, 1e-3, 0.3])
@pytest.mark.parametrize("turn", [1e-6, 1e-4, 1e-2, 1.0])
def test_small_angles_beside_radial_changes(turn: float, shrink: float) -> None:
    """In float32 an angle of 1e-6 rad is right to a few per cent of the rounding of the weights themselves."""
    before, after = (t.float() for t in turned(turn, shrink))
    n, of = before.numel(), rounding.of_positive_sum(before.numel())
    found = quantities([before], [after], [before])["angle"]
    exact = slow([before], [after], [before])["angle"]
    # Of the float32 weights as they are. The tangential part and rho: a dot product each, under a square root. The
    # numbers c w are rounded, which turns w by that much of c. And c is wrong by 2 of before its correction: that is
    # taken out up to the error of three dot products.
    c = shrink / (1 - shrink)
    bound = of * exact + min(1.0, c) * rounding.turn_of_rounded_weights(exact / c if c > 0 else math.inf, n, 1)
    bound += 3 * of * (2 * of * c) ** 2 / (2 * exact)
    assert found == pytest.approx(exact, rel=1e-12, abs=bound)
    # of the weights that were meant: those before and after are rounded
    assert found == pytest.approx(turn, rel=1e-12, abs=bound + rounding.turn_of_rounded_weights(turn, n, 2))


@pytest.mark.parametrize("chunk", [1 << 18, 1000])
def test_small_angles_with_a_kernel_that_adds_in_order(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dot products that are wrong by 1e-5 leave the angle right by 2e-5, not wrong by 1e-5 of the radial change."""
    errors = cycle([1e-5, -1e-5])
    exact_dot = torch.dot

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (exact_dot(a.double(), b.double()) * (1 + next(errors))).to(a.dtype)

    before, after = (t.float() for t in turned(1e-6, 0.3))
    exact = slow([before], [after], [before])["angle"]
    monkeypatch.setattr(measure, "CHUNK", chunk)
    monkeypatch.setattr(torch, "dot", dot)
    found = quantities([before], [after], [before])["angle"]
    c = 0.3 / 0.7
    rounded = c * rounding.turn_of_rounded_weights(exact / c, before.numel(), 1)
    # c is wrong by 2e-5 of itself, and of its square 3e-5 are left
    assert found == pytest.approx(exact, rel=2e-5, abs=rounded + 3e-5 * (2e-5 * c) ** 2 / (2 * exact))


def test_chunks_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = vectors([(37, 11), (5,), (64,)], 1, 0.1)
    whole = quantities(*parts)
    monkeypatch.setattr(measure, "CHUNK", 16)
    assert quantities(*parts) == pytest.approx(whole, rel=1e-5, abs=1e-6)


def test_any_order_in_memory() -> None:
    before, after, slopes = vectors([(4, 3, 5, 5)], 2, 0.1)
    plain = quantities(before, after, slopes)
    last = [[t.to(memory_format=torch.channels_last) for t in part] for part in (before, after, slopes)]
    assert quantities(*last) == pytest.approx(plain, rel=1e-5, abs=1e-6)
    mixed = quantities(last[0], last[1], slopes)
    assert mixed == pytest.approx(plain, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    parts = [[t.to(dtype) for t in part] for part in vectors([(30, 20), (7,)], 3, 0.5)]
    assert quantities(*parts) == pytest.approx(slow(*parts), rel=2e-5, abs=2e-6)


def test_sparse_gradient() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True)
    table(torch.tensor([1, 3, 3])).square().sum().backward()
    g = table.weight.grad
    assert g is not None
    assert g.is_sparse
    w = table.weight.detach()
    found = quantities([w], [w - 0.1 * g.to_dense()], [g])
    assert found == pytest.approx(slow([w], [w - 0.1 * g.to_dense()], [g.to_dense()]), rel=1e-5, abs=1e-6)


def test_a_step_that_is_none_and_a_weight_that_is_zero() -> None:
    w, zero = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(4)
    still = quantities([w], [w.clone()], [w])
    assert (still["angle"], still["radial"], still["tangential"]) == (0.0, 0.0, 0.0)
    born = quantities([zero], [zero + 1], [zero + 1])
    assert born["rho"] == 0
    assert math.isnan(born["angle"])  # it had no direction
    assert born["tangential"] == pytest.approx(2.0)


def test_not_finite_stays_not_finite() -> None:
    w = torch.ones(4)
    bad = torch.tensor([1.0, float("nan"), 1.0, 1.0])
    found = quantities([w], [bad], [bad])
    assert math.isnan(found["angle"])
    assert math.isnan(found["g"])


def test_laws() -> None:
    sums = np.array([[4.0, 0.0, 0.01, 0.0, -0.1, 9.0, 0.0]])  # rho 2, tangential 0.1, g 3
    assert SUMS[0] == "ww"
    value = {
        law: derive(sums, [Rates(0.5, 0.0, law)], [True])[0, COLUMN["elr"]] for law in ("sgd", "normalised", "measured")
    }
    assert value["sgd"] == pytest.approx(0.5 / 4)
    assert value["normalised"] == pytest.approx(0.5 / 2)
    assert value["measured"] == pytest.approx(0.1 / (2 * 6))
    assert np.isnan(derive(sums, [Rates(0.5, 0.0, "sgd")], [False])[0, COLUMN["elr"]])


def test_rates_of_a_mixed_group() -> None:
    one, two = Rates(0.1, 0.0, "sgd"), Rates(0.2, 0.0, "sgd")
    assert common([one, one]) == one
    mixed = common([one, two])
    assert np.isnan(mixed.lr)
    assert mixed.law == "sgd"
    assert common([one, Rates(0.1, 0.0, "normalised")]).law == "mixed"
    assert mixed.wd == 0.0

"""Steps that are measured together: small tensors in one call, large ones by numpy, quick steps read at once."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from tests.monitor.monitor_nets import FREE, net, train
from torch import Tensor

from scaleinv import Monitor
from scaleinv.monitor import host, small
from scaleinv.monitor import monitor as module
from scaleinv.monitor.extras import TouchedRows
from scaleinv.monitor.host import HostStep
from scaleinv.monitor.small import SmallStep, small_places

pytestmark = pytest.mark.numerics

SHAPES = [(7,), (1,), (40, 30), (300, 5), (3, 4, 5, 5)]


def moved(shapes: list[tuple[int, ...]], dtype: torch.dtype, radial: float, turn: float) -> tuple[Any, Any]:
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(s, generator=draw, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]
    for w in weights:
        w.grad = torch.randn(w.shape, generator=draw, dtype=torch.float64).to(dtype)
    after = [
        (w.detach().double() * (1 - radial) + turn * torch.randn(w.shape, generator=draw, dtype=torch.float64)).to(
            dtype
        )
        for w in weights
    ]
    return weights, after


def wanted(before: Tensor, after: Tensor, gradient: Tensor) -> list[float]:
    w, x, g = (t.detach().double().flatten() for t in (before, after, gradient))
    d = x - w
    ww, dw = float(w @ w), float(d @ w)
    rest = d - dw / ww * w
    tt = float(rest @ rest) if len(w) > 1 else 0.0
    return [ww, dw, tt, dw * dw / ww, float(g @ d), float(g @ g), float(g @ w)]


def compare(found: Any, before: Tensor, after: Tensor, gradient: Tensor, eps: float) -> None:
    ww, dw, tt, qq, *others = found
    # of several chunks the spread of their c is in qq
    found = [ww, dw, tt + (qq - dw * dw / ww), dw * dw / ww, *others]
    right = wanted(before, after, gradient)
    d = (after.detach().double() - before.detach().double()).norm().item()
    w, g, size = math.sqrt(right[0]), math.sqrt(right[5]), before.numel()
    # the rounding of a sum of products, and of tt that of c, which is second order where the step is radial
    reach = 4 * eps * math.sqrt(size) + 4 * eps
    scale = [w * w, d * w, max(right[2], 1e-2 * d * d * (right[2] > 0.0), d * d * reach), d * d, g * d, g * g, g * w]
    for value, exact, unit in zip(found, right, scale):
        # the difference of two numbers of a dtype is rounded by neither way of taking it in float64, in float32 it is
        assert abs(value - exact) <= reach * unit + eps * w * (w if unit == w * w else d) * 4


@pytest.mark.parametrize(("radial", "turn"), [(1e-3, 1e-2), (0.2, 1e-6), (0.0, 0.3)], ids=["both", "radial", "turn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_of_small_tensors(dtype: torch.dtype, radial: float, turn: float) -> None:
    weights, after = moved(SHAPES, dtype, radial, turn)
    before = [w.detach().clone() for w in weights]
    step = SmallStep(small_places(weights)[dtype], weights)
    step.look()
    with torch.no_grad():
        for w, x in zip(weights, after):
            w.copy_(x)
        rows = step.sums()
    assert sorted(step.places) == list(range(len(SHAPES)))
    for place, row in zip(step.places, rows):
        compare(row, before[place], after[place], weights[place].grad, 2.3e-16)


@pytest.mark.parametrize(("radial", "turn"), [(1e-3, 1e-2), (0.2, 1e-4), (0.0, 0.3)], ids=["both", "radial", "turn"])
@pytest.mark.parametrize("chunk", [1 << 16, 64])
def test_sums_of_large_tensors(chunk: int, radial: float, turn: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CHUNK", chunk)
    for dtype in (torch.float32, torch.float64):
        (weight,), (after,) = moved([(60, 50)], dtype, radial, turn)
        before = weight.detach().clone()
        step = HostStep(weight, keep=True)
        with torch.no_grad():
            step.look()
            assert step.before is not None
            assert torch.equal(step.before, before)
            weight.copy_(after)
            found = step.sums()
        compare(found, before, after, weight.grad, torch.finfo(dtype).eps)


def test_a_gradient_that_the_step_wrote_into_is_told_of() -> None:
    weights, after = moved([(5, 6), (4,)], torch.float32, 0.0, 0.1)
    step = SmallStep(small_places(weights)[torch.float32], weights)
    with torch.no_grad():
        step.look()
        weights[0].copy_(after[0])
        weights[0].grad.mul_(2.0)
        rows = dict(zip(step.places, step.sums()))
    assert math.isnan(rows[0][4])
    assert not math.isnan(rows[1][4])


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("together", [1, 8, 16])
def test_steps_read_together_are_those_read_one_by_one(
    together: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers and alerts are the same however many steps wait."""
    monkeypatch.setattr(module, "QUICK", 1e9)
    monkeypatch.setattr(module, "TOGETHER", together)
    found = []
    for limit in (1, together):
        monkeypatch.setattr(module, "TOGETHER", limit)
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        monitor = Monitor(model, optimizer, groups=FREE, every=every)
        train(model, optimizer, 45 * every, monitor)
        optimizer.param_groups[0]["lr"] = 30.0
        train(model, optimizer, 15 * every, monitor)
        waits = len(monitor._waiting)
        found.append((monitor.history(), [a.to_dict() for a in monitor.alerts], waits))
        monitor.close()
    (one, told, _), (two, also, waits) = found
    assert waits < together
    assert also == told
    assert told  # a rate three hundred times too large is told
    for name, column in one.items():
        assert np.allclose(column, two[name], rtol=1e-12, atol=0.0, equal_nan=True), name


def test_steps_that_wait_are_read_where_the_loop_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK", 1e9)
    monkeypatch.setattr(module, "_LATEST", 0.05)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 7, monitor)
    deadline = time.monotonic() + 20
    while len(monitor._history) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(monitor._history) == 7
    monitor.close()


def test_a_function_gets_every_row_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK", 1e9)
    rows: list[dict[str, float]] = []
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=[rows.append])
    train(model, optimizer, 7, monitor)
    assert [row["step"] for row in rows] == list(range(7))
    monitor.close()


def test_many_small_tensors_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of the gradients are held for so many numbers only; the others are measured one by one."""
    monkeypatch.setattr(small, "TOGETHER", 100)
    tensors = [torch.randn(60) for _ in range(3)]
    assert small_places(tensors) == {torch.float32: [0]}


def test_steps_logged_now_and_then_are_read_together_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps between them that are not logged do not have them read."""
    monkeypatch.setattr(module, "QUICK", 1e9)
    monkeypatch.setattr(module, "TOGETHER", 4)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=3)
    seen = []
    for _ in range(60):
        train(model, optimizer, 1, monitor)
        seen.append(len(monitor._waiting))
    assert max(seen) == 3
    assert seen.count(0) < 40
    monitor.close()
    assert monitor.history()["step"].tolist() == list(range(0, 60, 3))


def test_no_product_is_long_enough_for_the_threads_of_a_blas() -> None:
    """OpenBLAS splits products of 10000 float64 and more between threads, which wait for cores that train."""
    lengths = []

    class Spy(np.ndarray[Any, Any]):
        def __matmul__(self, other: Any) -> Any:
            lengths.append(len(self))
            return self.view(np.ndarray) @ np.asarray(other)

    x = np.random.default_rng(0).standard_normal(30_000)
    assert math.isclose(host.dot(x.view(Spy), x), float(np.sum(x * x)), rel_tol=1e-14)
    assert max(lengths) < 10_000


def test_rows_that_have_all_had_a_gradient_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = TouchedRows.look
    monkeypatch.setattr(TouchedRows, "look", lambda self, g: looks.append(len(self.touched)) or look(self, g))
    model = torch.nn.ParameterList([torch.randn(3, 4), torch.randn(5, 4)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    monitor = Monitor(model, optimizer, every=1)
    for _ in range(12):
        for w in model:
            w.grad = torch.randn(w.shape)
        model[1].grad[2:] = 0
        optimizer.step()
    monitor.close()
    assert looks.count(3) == 1
    assert looks.count(5) == 12
    assert [a.kind for a in monitor.alerts].count("rows-decay") == 1

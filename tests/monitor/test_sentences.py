"""What a Monitor says near the thresholds of its rules: singular and plural, ratios that round to 1, none by zero."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scaleinv import Monitor
from scaleinv.monitor import summary
from scaleinv.monitor.breakdowns import Window
from scaleinv.monitor.forecast import Forecast
from scaleinv.monitor.rules.ahead import out_of_time, window_text
from scaleinv.monitor.rules.broken import first_step, is_off
from scaleinv.monitor.rules.past import BACK


def told_of(*ratios: float) -> list[str]:
    return summary._first_steps(SimpleNamespace(first_steps=dict(enumerate(ratios))))  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [0.801, 0.95, 0.9996, 1.0, 1.0004, 1.004, 1.19])
def test_a_first_step_near_its_formula_is_no_fault(ratio: float) -> None:
    (line,) = told_of(ratio, 1.0)
    assert not is_off(ratio)
    assert "times" not in line
    assert line.startswith("first step: 2 tensors moved as far as the optimizer's formula says, within ")
    assert int(line.split()[-2]) >= 100 * abs(ratio - 1) - 1e-6


@pytest.mark.parametrize(("ratio", "shown"), [(0.1, "0.1"), (0.79, "0.79"), (1.21, "1.21"), (3.162, "3.16")])
def test_a_first_step_off_its_formula_is_told_beside_the_others(ratio: float, shown: str) -> None:
    off, rest = told_of(ratio, 1.0, 1.02)
    assert off == f"first step: 1 tensor moved {shown} times as far as the optimizer's formula says"
    assert rest == "first step: 2 tensors moved as far as the optimizer's formula says, within 2 %"
    reading: Any = SimpleNamespace(firsts={"a": ratio, "b": 1.0}, record=SimpleNamespace(step=0))
    (alert,) = first_step(None, None, reading)  # type: ignore[arg-type]
    assert f"is {shown} times as long" in alert.reason
    assert "(1 of 2 tensors is off by more than 20 %)" in alert.reason


def test_of_no_first_step_nothing_is_said() -> None:
    assert told_of() == []
    assert told_of(math.nan)[0].startswith("first step: 1 tensor moved nan times")


def forecast_of(name: str, ratio: float, left: float, phase: Any = "steady") -> Forecast:
    return Forecast(name, ratio, 1.0, 0.1, phase, 0.0, equilibrium_angle=1.0, equilibrium_rho=1.2,
                    time_to_equilibrium=left)  # fmt: skip


def answer_of(*found: Forecast, total: int | None = None) -> str:
    groups = [SimpleNamespace(kind=summary.FREE, name=f.group) for f in found]
    monitor: Any = SimpleNamespace(groups=groups, step=1, records=[0], every=1, total_steps=total)
    return " ".join(summary._answer(monitor, {f.group: f for f in found}))


def test_one_group_turns_and_two_groups_turn() -> None:
    one = answer_of(forecast_of("a", 1.001, 0.3, "B"), total=2)
    assert one.startswith("1 step, 1 logged (every step); 1 group, 1 scale-invariant.")
    assert "1 of 1 group turns within 20 % of its equilibrium rotation (measured / predicted: 1)" in one
    assert "the slowest norm needs less than a step to its equilibrium, 1 is left" in one
    assert "Phase B in 1 group: its norm falls, its ELR grows." in one
    two = answer_of(forecast_of("a", 0.81, 1.0), forecast_of("b", 1.19, 0.0))
    assert "2 of 2 groups turn within 20 % of their equilibrium rotation (measured / predicted: 0.81 to 1.19)" in two
    assert "the slowest norm needs 1 step to its equilibrium." in two
    # what is shown agrees with what is counted
    assert "0 of 1 group turn within 20 % of their equilibrium rotation (measured / predicted: 1.24)" in answer_of(
        forecast_of("a", 1.24, 0.0)
    )
    assert "the slowest norm does not come near its equilibrium" in answer_of(forecast_of("a", 1.0, math.inf))


@pytest.mark.parametrize(
    ("needs", "left", "said"),
    [
        (100.4, 100, None),  # both would be told as 100
        (109.0, 100, None),
        (111.0, 100, "in the 100 steps left"),
        (2.0, 1, "in the 1 step left"),
        (math.inf, 5, "in the 5 steps left"),
        (0.0, 0, None),
    ],
)
def test_what_comes_after_the_end_is_longer_than_what_is_left(needs: float, left: int, said: str | None) -> None:
    monitor: Any = SimpleNamespace(total_steps=left, forecasts=lambda: [forecast_of("a", 1.0, needs)])
    reading: Any = SimpleNamespace(record=SimpleNamespace(step=0))
    alerts = list(out_of_time(monitor, SimpleNamespace(rows=BACK), reading))  # type: ignore[arg-type]
    assert [said in a.reason for a in alerts] == ([] if said is None else [True])
    assert not any("any;" in str(a) or "inf" in str(a) for a in alerts)


@pytest.mark.parametrize(
    ("ends", "checked", "said"),
    [
        ((0.1, 0.6), (0, 0), "less than a step"),
        ((0.1, 1.0), (1, 1), "0.1 to 1 step (1 of 1 such window held so far)"),
        ((3.0, 3.001), (0, 0), "3 steps"),
        ((3.0, 90.0), (1, 2), "3 to 90 steps (1 of 2 such windows held so far)"),
    ],
)
def test_windows_are_told_without_fractions_of_steps(ends: Any, checked: Any, said: str) -> None:
    assert window_text(Window(*ends, elr=1.0, seen=5, told=checked[1], held=checked[0])) == said


def trained(rates: list[float], sizes: list[float]) -> Monitor:
    """A matrix with random gradients of the sizes given."""
    torch.manual_seed(0)
    model = nn.Linear(12, 12, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, every=1)
    for rate, size in zip(rates, sizes):
        optimizer.param_groups[0]["lr"] = rate
        model.weight.grad = size * torch.randn(12, 12)
        optimizer.step()
    monitor.records  # noqa: B018  everything is read
    return monitor


def test_a_turn_that_stands_out_by_its_learning_rate_is_told_so() -> None:
    """The rate falls to a hundredth and the turn stays: by its rate it is a hundred times the median, as it is 1."""
    monitor = trained([0.1] * 40 + [0.001], [0.1] * 40 + [11.0])
    (alert,) = [a for a in monitor.alerts if a.kind == "spike-angle"]
    times = float(alert.reason.partition(" times its median")[0].rpartition(" is ")[2])
    assert 60 < times < 200
    assert "taken to the present learning rate" in alert.reason
    assert alert.numbers["angle"] / alert.numbers["median"] == pytest.approx(times, rel=0.01)
    (other,) = [a for a in monitor.alerts if a.kind == "spike-eg"]
    size = other.numbers["g"]  # that of the gradient, as the matrix has a scale
    assert size == pytest.approx(132, rel=0.15)
    assert other.reason.startswith(f"gradient norm {size:.3g} is ")


def test_the_first_turn_after_none_is_no_spike() -> None:
    """A rate held at zero, then raised: there is nothing to compare with."""
    monitor = trained([0.0] * 12 + [1.0] * 4, [0.4] * 16)
    assert float(np.nanmax(monitor.history()["total/angle"])) > 0.2
    assert [a for a in monitor.alerts if a.kind.startswith("spike")] == []


def test_an_optimizer_that_another_has_replaced_is_told_once() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = Monitor(model, optimizer, every=7)
    for i in range(400):
        if i == 30:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        loss = model(torch.ones(4, 8)).pow(2).mean()
        loss.backward()
        monitor.loss(loss)
        optimizer.step()
        if i == 128:
            assert not [a for a in monitor.alerts if a.kind == "no-step"]
    (alert,) = [a for a in monitor.alerts if a.kind == "no-step"]
    assert alert.step == 30
    assert alert.reason == "I saw no step of optimizer 1 (Adam) in 100 rounds"
    assert "a Monitor of its own" in alert.remedy
    assert len(monitor._losses) < 100  # what nobody reads is not kept


def test_losses_of_accumulated_batches_are_no_lack_of_steps() -> None:
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = Monitor(model, optimizer, every=1)
    for i in range(600):
        loss = model(torch.ones(4, 8)).pow(2).mean()
        (loss / 60).backward()
        monitor.loss(loss)
        if i % 60 == 59 and i < 480:
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.alerts == []


@pytest.mark.parametrize("batches", [100, 150, 900])
@pytest.mark.parametrize("every", [1, None])
def test_many_batches_before_the_very_first_step_are_no_lack_of_steps(batches: int, every: int | None) -> None:
    """The weights rest meanwhile; those that a step moves which no hook sees do not."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))  # whose statistics move
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = Monitor(model, optimizer, every=every)
    losses = []
    for i in range(3 * batches):
        loss = model(torch.ones(4, 4) * i).pow(2).mean()
        (loss / batches).backward()
        monitor.loss(loss)
        losses.append(loss.item())
        if i % batches == batches - 1:
            optimizer.step()
            optimizer.zero_grad()
    assert [a.kind for a in monitor.alerts] == []
    means = np.array(losses).reshape(3, batches).mean(1)
    np.testing.assert_allclose(monitor.history()["loss"], means[monitor.history()["step"].astype(int)], rtol=1e-6)


def test_weights_that_rest_for_a_thousand_losses_are_told() -> None:
    """The optimizer holds a copy of what is trained, say."""
    model = nn.Linear(4, 4)
    monitor = Monitor(model, torch.optim.SGD(model.parameters(), lr=0.01))
    for i in range(2000):
        monitor.loss(1.0)
        assert len(monitor.alerts) == (i >= 999)
    assert monitor.alerts[0].reason == "I saw no step of optimizer 1 (SGD) in 1000 rounds"


@pytest.mark.parametrize("until", [36, 40, 43])
def test_a_layer_that_is_set_free_was_frozen_on_purpose(until: int) -> None:
    """Steps are read together, later: what counts is whether the tensor asked for a gradient then."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, every=1)
    for i in range(80):
        if i == until:
            model[0].weight.requires_grad_(True)
        optimizer.zero_grad()
        (model(torch.randn(16, 8)) - 1).pow(2).mean().backward()
        optimizer.step()
    assert [str(a) for a in monitor.alerts] == []

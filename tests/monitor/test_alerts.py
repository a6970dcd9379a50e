"""Each alert on a run that has the trouble, and none on a run that has not."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net, train
from torch import nn
from torch.nn import functional

from scaleinv import Monitor, Sphere
from scaleinv.monitor import Alert
from scaleinv.monitor.forecast import forecast, jump_window, phase_of, slope
from scaleinv.theory import equilibrium


def kinds(monitor: Monitor) -> list[str]:
    return [a.kind for a in monitor.alerts]


def run(steps: int = 40, change: object = None, model: nn.Module | None = None, **options: object) -> Monitor:
    model = net() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    settings = {"groups": FREE, **options}
    monitor = Monitor(model, optimizer, every=1, **settings)  # type: ignore[arg-type]
    train(model, optimizer, steps, monitor, change=None if change is None else lambda i: change(i, model, optimizer))
    return monitor


def test_a_healthy_run_says_nothing() -> None:
    assert run(80, inputs=batches(1)[0][0], groups=None).alerts == []


def test_first_tensor_that_is_not_finite() -> None:
    def poison(i: int, model: nn.Module, _: object) -> None:
        if i == 5:
            model[3].weight.grad[0, 0] = float("nan")

    monitor = run(9, poison)
    first = monitor.alerts[0]
    assert (first.kind, first.step, first.group) == ("non-finite", 5, "3.weight")
    assert "the gradient of 3.weight is the first that is not finite; all was finite at step 4" in first.reason
    assert kinds(monitor).count("non-finite") <= 2  # once for the gradient, and once more if another tensor comes first
    assert math.isnan(monitor.history()["3.weight/rho"][-1])


def test_not_finite_loss_alone() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 2, monitor)
    monitor.loss(float("nan"))
    optimizer.step()
    assert [a.reason for a in monitor.alerts] == ["the loss is not finite; all was finite at step 1"]


def test_spikes_come_with_their_loss() -> None:
    def push(i: int, model: nn.Module, _: object) -> None:
        if i == 35:
            model[0].weight.grad.mul_(300)

    monitor = run(38, push)
    spikes = {a.kind: a for a in monitor.alerts}
    assert set(spikes) == {"spike-eg", "spike-angle"}
    assert spikes["spike-eg"].group == "0.weight"
    assert spikes["spike-eg"].step == 35
    assert spikes["spike-eg"].numbers["eg"] > 100 * spikes["spike-eg"].numbers["median"]
    assert spikes["spike-eg"].forecast == "the loss has not followed yet"


def test_spikes_that_come_again_and_again_are_told_sparingly() -> None:
    def push(i: int, model: nn.Module, _: object) -> None:
        if i > 20 and i % 40 in (0, 1):
            model[0].weight.grad.mul_(300)

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)  # nothing but the pushes
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 260, monitor, change=lambda i: push(i, model, optimizer))
    eg = [a for a in monitor.alerts if a.kind == "spike-eg"]
    assert [a.step for a in eg] == [40, 80, 160]  # of those at 40, 80, 120, 160, 200 and 240
    assert "spike number 4; the next is told at 8" in eg[-1].reason


@pytest.mark.parametrize(
    ("cause", "told"), [("cut", "gets no gradient"), ("zero", "gradient is zero"), ("lr", "learning rate is 0")]
)
def test_a_group_that_never_turns(cause: str, told: str) -> None:
    def spoil(_: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if cause == "cut":
            model[3].weight.grad = None
        elif cause == "zero":
            model[3].weight.grad.zero_()

    model = net()
    if cause == "lr":
        optimizer = torch.optim.SGD(
            [{"params": [model[3].weight], "lr": 0.0}, {"params": [*model[:3].parameters(), *model[4:].parameters()]}],
            lr=0.1,
        )
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 20, monitor, change=lambda i: spoil(i, model, optimizer))
    assert [(a.kind, a.group) for a in monitor.alerts] == [("still", "3.weight")]
    assert told in monitor.alerts[0].reason
    assert monitor.alerts[0].step == 7


def test_steps_below_the_rounding() -> None:
    model = net(dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    model[6].weight.data.zero_()
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 10, monitor, dtype=torch.bfloat16, change=lambda i: None)
    # the head was zero and takes any step, however small
    assert [(a.kind, a.group) for a in monitor.alerts if a.group == "0.weight"] == [("still", "0.weight")]
    assert "below the rounding of torch.bfloat16" in monitor.alerts[0].reason


def test_decay_on_the_dead() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    monitor = run(3, model=model, inputs=batches(1)[0][0], groups=None)
    assert [(a.kind, a.group, a.step) for a in monitor.alerts] == [("dead-decay", "0.bias", 0)]
    assert "halves every 6.93e+03 steps" in monitor.alerts[0].forecast


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3, momentum=0.9), "halves every 693 steps"),
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3, momentum=0.9, dampening=0.9), "every 6.93e+03 steps"),
        (lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=1e-3), "halves every 6.93e+03 steps"),
        (lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=1e-3), ""),  # its normalisation makes a step of any decay
    ],
)
def test_the_dead_shrink_at_the_pace_of_their_optimizer(make, told) -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = make(model.parameters())
    monitor = Monitor(model, optimizer, inputs=batches(1)[0][0], every=1)
    train(model, optimizer, 3, monitor)
    dead = next(a for a in monitor.alerts if a.kind == "dead-decay")
    assert told in dead.forecast
    assert bool(told) == bool(dead.forecast)


def test_the_way_to_equilibrium_is_ten_times_shorter_with_momentum() -> None:
    """The same columns, told as SGD at 0.1 and as SGD at 0.01 with momentum 0.9."""
    n = 40
    common = {"step": np.arange(n), "rho": np.full(n, 9.0), "eg": np.full(n, 2.0), "elr": np.full(n, 1e-3)}
    common |= {"angle": np.full(n, 1e-3), "tangential": np.full(n, 1e-3), "radial": np.zeros(n)}
    found = []
    for lr, momentum in ((0.1, 0.0), (0.01, 0.9)):
        optimizer = torch.optim.SGD([torch.zeros(3)], lr=lr, weight_decay=0.01, momentum=momentum)
        columns = {**common, "lr": np.full(n, lr)}
        found.append(forecast("w", columns, optimizer, optimizer.param_groups[0], 3, "sgd"))
    plain, other = found
    # the next order of the norm at rest is lr wd, 1e-3
    assert other.time_to_equilibrium == pytest.approx(plain.time_to_equilibrium, rel=1e-2)


def test_a_group_that_has_a_scale_is_found_out() -> None:
    monitor = run(20, groups=["0.weight", "6.weight"])
    assert [(a.kind, a.group) for a in monitor.alerts] == [("not-scale-free", "6.weight")]


def test_eps_at_a_small_norm() -> None:
    def shrink(i: int) -> None:
        if i == 10:
            model[3].weight.data.mul_(2e-3)  # the variance falls below eps = 1e-5

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-8)  # the ELR grows by 1/4e-6
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 25, monitor, change=shrink)
    found = {a.kind: a for a in monitor.alerts}
    assert found["eps"].group == "3.weight"
    assert found["eps"].numbers["rho"] < found["eps"].numbers["rho_first"]


def test_boundary_ahead_and_crossed() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, weight_decay=0.5)
    first = Monitor(model, optimizer, groups=FREE, every=1)
    start = copy.deepcopy(model.state_dict())
    train(model, optimizer, 60, first)
    elr = first.history()["total/elr"]
    assert elr[-1] > 2 * elr[0]
    model.load_state_dict(start)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, boundary=1.5 * elr[0])
    train(model, optimizer, 60, monitor)
    boundary = [a for a in monitor.alerts if a.kind == "boundary"]
    assert len(boundary) == 1  # told when it came near, not again
    told = float(boundary[0].forecast.split("about ")[1].split()[0])
    crossed = int(np.argmax(monitor.history()["total/elr"] > 1.5 * elr[0]))
    assert boundary[0].step + told == pytest.approx(crossed, abs=0.3 * crossed)


def test_out_of_time() -> None:
    monitor = run(40, total_steps=50)
    alert = next(a for a in monitor.alerts if a.kind == "out-of-time")
    assert alert.numbers["time_to_equilibrium"] > alert.numbers["left"]
    assert "out-of-time" not in kinds(run(40, total_steps=10**9))


def test_alerts_go_to_sinks_and_through_state() -> None:
    seen: list[Alert] = []

    from scaleinv.monitor.sinks import Call

    class Ears(Call):
        def alert(self, alert: Alert) -> None:
            seen.append(alert)

    monitor = run(20, groups=["6.weight"], sinks=Ears(lambda row: None))
    assert seen == monitor.alerts
    assert "6.weight" in str(monitor.summary())
    other = Monitor(monitor.model, monitor.optimizers[0], groups=["6.weight"], every=1)
    other.load_state_dict(monitor.state_dict())
    assert other.alerts == monitor.alerts
    train(monitor.model, monitor.optimizers[0], 12, other)
    assert len(other.alerts) == len(monitor.alerts)  # not told twice
    assert str(seen[0]).startswith("step 7, 6.weight: the group does not look scale-invariant")


# -- forecasts ---------------------------------------------------------------------------------------------------------


def recursion(lr: float, wd: float, eg: np.ndarray, rho0: float) -> tuple[np.ndarray, np.ndarray]:
    """rho and angle of plain SGD for given effective gradients (Lobacheva et al. 2021, eq. 4)."""
    rho, angle, r = [], [], rho0
    for e in eg:
        rho.append(r)
        angle.append(math.atan(lr * e / ((1 - lr * wd) * r * r)))
        r = math.sqrt((1 - lr * wd) ** 2 * r * r + (lr * e) ** 2 / r**2)
    return np.array(rho), np.array(angle)


def columns(lr: float, rho: np.ndarray, eg: np.ndarray, angle: np.ndarray) -> dict[str, np.ndarray]:
    n = len(rho)
    return {
        "step": np.arange(n, dtype=float), "rho": rho, "eg": eg, "angle": angle, "elr": lr / rho**2,
        "lr": np.full(n, lr), "tangential": rho * np.tan(angle), "radial": np.zeros(n),
    }  # fmt: skip


def test_forecast_of_the_recursion_comes_true() -> None:
    """From phase B: the norm reaches its equilibrium when said, the large step comes within the window."""
    lr, wd = 0.05, 1e-2
    draw = np.random.default_rng(0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr, weight_decay=wd)
    for start in (4.0, 8.0):
        eg = draw.uniform(0.6, 1.4, 20_000)
        rho, angle = recursion(lr, wd, eg, start)
        seen = 60
        f = forecast("w", {k: v[:seen] for k, v in columns(lr, rho, eg, angle).items()}, optimizer,
                     optimizer.param_groups[0], 100, "sgd")  # fmt: skip
        assert f.phase == "B"
        assert f.equilibrium_angle == pytest.approx(math.sqrt(2 * lr * wd), rel=1e-6)
        rest = np.sqrt(np.mean(rho[-5000:] ** 2))
        assert f.equilibrium_rho == pytest.approx(rest, rel=0.05)
        near = seen + int(np.argmax(np.abs(rho[seen:] ** 2 / f.equilibrium_rho**2 - 1) < 0.1))
        assert f.time_to_equilibrium == pytest.approx(near - seen, rel=0.1)
        jump = seen + int(np.argmax(angle[seen:] > f.jump_angle))
        assert f.t_min <= jump - seen + 1
        assert f.t_max >= jump - seen
        assert f.break_angle == pytest.approx(4 * f.equilibrium_angle)
        assert not (angle[seen : seen + int(f.break_earliest)] > f.break_angle).any() if f.break_earliest > 0 else True


def test_window_outside_its_conditions_says_why() -> None:
    found = jump_window(0.1, 0.5, 2.0, 0.05, 1e-2)
    assert "t_max" not in found
    assert found["why"] == "no latest time of the next large step: the theorem asks for rho0^2 > kappa L"


def test_forecast_knows_what_it_does_not_know() -> None:
    rho = np.full(20, 2.0)
    data = columns(0.1, rho, np.ones(20), np.full(20, 0.01))
    for make, told in (
        (lambda p: torch.optim.SGD(p, lr=0.1), "no weight decay"),
        (lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.1), "no equilibrium formula for Adagrad"),
        (lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1), "no equilibrium formula for Adam"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), "SGD without momentum only"),
    ):
        optimizer = make([torch.zeros(1)])
        f = forecast("w", data, optimizer, optimizer.param_groups[0], 50, "sgd")
        assert told in f.why
    adamw = torch.optim.AdamW([torch.zeros(1)], lr=0.1, weight_decay=0.1, betas=(0.8, 0.99))
    f = forecast("w", data, adamw, adamw.param_groups[0], 50, "normalised")
    wanted = equilibrium("adamw", 0.1, 0.1, beta1=0.8, dimension=50)
    assert (f.equilibrium_angle, f.equilibrium_rho) == (wanted.angle, wanted.norm)
    assert f.equilibrium_elr == pytest.approx(0.1 / wanted.norm)


def test_phases() -> None:
    step = np.arange(30.0)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(30)
    flat, up, down = np.ones(30) + noise, np.exp(1e-3 * step) + noise, np.exp(-1e-3 * step) + noise
    angle = np.full(30, 0.01)
    assert [phase_of(angle, *slope(step, r), 30) for r in (flat, up, down)] == ["steady", "A", "B"]
    jump = angle.copy()
    jump[-2] = 0.2
    assert phase_of(jump, *slope(step, up), 30) == "C"
    assert phase_of(angle[:5], *slope(step[:5], up[:5]), 5) == ""
    assert slope(step, up)[0] == pytest.approx(1e-3, rel=0.05)


# -- silence: the trouble is near, but not there -----------------------------------------------------------------------


def test_no_spike_below_ten_times() -> None:
    def push(i: int, model: nn.Module, _: object) -> None:
        if i == 35:
            model[0].weight.grad.mul_(4)

    assert kinds(run(38, push)) == []


def test_not_still_where_one_step_in_eight_turns() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)

    def stop(i: int) -> None:
        if i % 7:
            model[3].weight.grad.zero_()

    train(model, optimizer, 30, monitor, change=stop)
    assert kinds(monitor) == []


def test_nothing_turns_at_learning_rate_zero_and_that_is_not_told_of_one_group() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # a warm-up's first steps, say
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 20, monitor)
    assert kinds(monitor) == []


def test_no_decay_on_the_dead_without_decay() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, inputs=batches(1)[0][0], every=1)
    train(model, optimizer, 12, monitor)
    assert {g.name: g.kind for g in monitor.groups}["0.bias"] == "dead"
    assert kinds(monitor) == []


def test_eps_is_silent_while_the_variance_is_far_above_it() -> None:
    def shrink(i: int) -> None:
        if i == 10:
            model[3].weight.data.mul_(0.3)

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 25, monitor, change=shrink)
    assert "eps" not in kinds(monitor)


def test_boundary_is_silent_far_below_it_and_where_the_elr_falls() -> None:
    assert "boundary" not in kinds(run(60, boundary=1e3))
    # near it, but the norm grows without weight decay, so the ELR falls
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    first = Monitor(model, optimizer, groups=FREE, every=1)
    start = copy.deepcopy(model.state_dict())
    train(model, optimizer, 40, first)
    elr = first.history()["total/elr"]
    assert elr[-1] < elr[0]
    model.load_state_dict(start)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, boundary=1.1 * elr[0])
    train(model, optimizer, 40, monitor)
    assert "boundary" not in kinds(monitor)


def test_dead_tensors_have_no_spikes() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    def push(i: int, model: nn.Module, _: object) -> None:
        if i == 35:
            model[0].bias.grad.mul_(1e4)

    assert kinds(run(38, push, model, inputs=batches(1)[0][0], groups=None)) == ["dead-decay"]


@pytest.mark.parametrize("every", [5, 20])
def test_parts_of_one_sphere_are_not_said_to_change_between_steps(every: int) -> None:
    draw = torch.Generator().manual_seed(1)
    weights = [nn.Parameter(torch.randn(32, 16, generator=draw)), nn.Parameter(torch.randn(4, 32, generator=draw))]
    model = nn.ParameterList(weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sphere = Sphere(optimizer, [[p] for p in weights], elr=0.3, granularity="total")
    monitor = Monitor(model, sphere, groups=[[p] for p in weights], every=every)
    x, y = torch.randn(256, 16, generator=draw), torch.randint(4, (256,), generator=draw)
    for _ in range(300):
        batch = torch.randint(256, (32,), generator=draw)
        hidden = functional.batch_norm(x[batch] @ weights[0].T, None, None, training=True).relu()
        outputs = functional.batch_norm(hidden @ weights[1].T, None, None, training=True)
        sphere.zero_grad()
        loss = functional.cross_entropy(outputs, y[batch])
        loss.backward()
        monitor.loss(loss)
        sphere.step()
    monitor.close()
    assert not [alert for alert in monitor.alerts if alert.kind == "outside-change"]

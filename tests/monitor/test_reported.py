"""Loops that people reported, made small: each asserts what is right, with further members of its kind."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net, train
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim import lr_scheduler as lrs

from scaleinv import Monitor, Sphere, UserError
from scaleinv.monitor.sinks.base import Tracker


def step(model: nn.Module, optimizer: Optimizer, batch: tuple[Tensor, Tensor], monitor: Monitor | None = None) -> None:
    loss = functional.cross_entropy(model(batch[0]), batch[1])
    optimizer.zero_grad()
    loss.backward()
    if monitor is not None:
        monitor.loss(loss)
    optimizer.step()


def kinds(monitor: Monitor) -> set[str]:
    return {a.kind for a in monitor.alerts}


# -- wrong numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_alignment_under_fused_and_grad_scaler(kind: str) -> None:
    found = []
    for scaled in (False, True):
        model = net()
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        monitor = Monitor(model, optimizer, groups=FREE, every=1)
        for x, y in batches(4):
            optimizer.zero_grad()
            scaler.scale(functional.cross_entropy(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append(monitor.history()["0.weight/alignment"])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    if kind == "SGD":
        np.testing.assert_allclose(found[1], 1.0, rtol=1e-6)


def test_the_total_is_in_the_unit_of_its_groups() -> None:
    model = net()
    pairs = [{"params": [model[0].weight], "lr": 1e-3}, {"params": [model[3].weight], "lr": 1.1e-3}]
    optimizer = torch.optim.AdamW(pairs, weight_decay=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 10)
    h = monitor.history()
    rate = h["total/elr"] * h["total/rho"]
    assert ((rate > 1e-3) & (rate < 1.1e-3)).all()
    text = str(monitor.summary())
    assert "ELR [lr/rho]" in text
    assert "angle [rad/step]" in text


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_on_a_sphere_the_total_has_the_unit_of_its_groups(kind: Any) -> None:
    model = net()
    free = {name: [dict(model.named_parameters())[name]] for name in FREE}
    sphere = Sphere(kind(model.parameters(), lr=0.1), free, elr=0.01, granularity="group")
    monitor = Monitor(model, sphere, groups=free, every=1)
    train(model, sphere, 3)
    h = monitor.history()
    power = 2 if kind is torch.optim.SGD else 1
    for name in FREE:
        np.testing.assert_allclose(h[f"{name}/elr"], 0.01, rtol=1e-6)
    rates = [0.01 * h[f"{name}/rho"] ** power for name in FREE]
    acted = h["total/elr"] * h["total/rho"] ** power
    assert ((acted >= np.min(rates, axis=0) * (1 - 1e-6)) & (acted <= np.max(rates, axis=0) * (1 + 1e-6))).all()


def test_groups_of_different_laws_have_no_common_elr() -> None:
    model = net()
    pair = [torch.optim.SGD([model[0].weight], lr=0.1), torch.optim.Adam([model[3].weight], lr=0.1)]
    monitor = Monitor(model, pair, groups=FREE, every=1)
    for batch in batches(3):
        model.zero_grad()
        functional.cross_entropy(model(batch[0]), batch[1]).backward()
        for one in pair:
            one.step()
    h = monitor.history()
    assert np.isnan(h["total/elr"]).all()
    assert np.isfinite(h["0.weight/elr"]).all()
    assert (h["total/angle"] > 0).all()


@pytest.mark.parametrize("more", [{}, {"nesterov": True}, {"dampening": 0.9}, {"dampening": 0.5}])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_part_of_the_step_that_decay_is(momentum: float, more: dict[str, Any]) -> None:
    """Against a buffer of decay alone, kept beside the run, from the first step on."""
    if not momentum and more:
        return
    model, lr, wd = net(), 0.1, 0.01
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=wd, **more)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    buffer: Any = None
    parts = []
    for batch in batches(60):
        put = wd * model[0].weight.detach().double()
        first = buffer is None
        buffer = put.clone() if first else momentum * buffer + (1 - more.get("dampening", 0.0)) * put
        part = lr * (put + momentum * buffer if more.get("nesterov") else buffer)
        parts.append(float((part * model[0].weight.detach()).sum() / model[0].weight.detach().norm()))
        step(model, optimizer, batch)
    np.testing.assert_allclose(monitor.history()["0.weight/decay"], parts, rtol=0.03)


def test_the_three_forces_add_up_to_the_change_of_the_norm() -> None:
    for kind, options in (("SGD", {"momentum": 0.9}), ("AdamW", {})):
        model = net(dtype=torch.float64)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.05, weight_decay=0.05, **options)
        monitor = Monitor(model, optimizer, groups=FREE, every=1)
        train(model, optimizer, 20, dtype=torch.float64)
        h = monitor.history()
        for name in (*FREE, "total"):
            change = h[f"{name}/growth"] + h[f"{name}/pull"] - h[f"{name}/decay"]
            if name != "total":
                np.testing.assert_allclose(change[:-1], np.diff(h[f"{name}/rho"]), rtol=1e-9, atol=1e-12)
            assert (h[f"{name}/growth"] >= 0).all()
    # plain SGD on a scale-invariant weight pulls nowhere
    model = net(dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.05)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 5, dtype=torch.float64)
    h = monitor.history()
    assert (np.abs(h["0.weight/pull"]) < 1e-3 * h["0.weight/growth"] + 1e-6).all()


def test_nan_between_logged_rows_names_no_tensor_and_in_the_next_row_the_right_one() -> None:
    for every in (7, 1):
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        monitor = Monitor(model, optimizer, every=every)

        def poison(i: int, model: nn.Module = model) -> None:
            if i == 50:
                model[3].weight.grad[0, 0] = float("nan")

        train(model, optimizer, 60, change=poison)
        first = monitor.alerts[0]
        assert (first.kind, first.severity) == ("non-finite", "error")
        if every == 1:
            assert (first.step, first.group) == (50, "3.weight")
        else:
            assert (first.step, first.group) == (56, "total")
            assert "which was the first was not logged; all was finite at step 49" in first.reason
            assert "0.weight" not in str(first)


def test_nan_of_a_backward_pass_names_where_it_comes_from() -> None:
    """All layers before it have NaN gradients too, since gradients flow backwards."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, every=1)
    model[5].register_full_backward_hook(lambda *_: (torch.full((24, 16), float("nan")),))
    train(model, optimizer, 1)
    (alert,) = monitor.alerts
    assert alert.group == "4.bias"
    assert "gradients of 6 tensors up to 4.bias are not finite, those behind it are" in alert.reason


@pytest.mark.parametrize("wrong", [None, 3, "adam", object()])
def test_what_is_no_optimizer_is_refused_in_one_line(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"the optimizer is a .*, not a torch\.optim\.Optimizer"):
        Monitor(net(), wrong)
    with pytest.raises(UserError, match="holds no parameter"):
        Monitor(net(), [])


def test_parameters_that_the_optimizer_forgot_are_named() -> None:
    model = net()
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if n != "3.weight"], lr=0.1)
    monitor = Monitor(model, optimizer, inputs=batches(1)[0][0], every=1)
    assert "no optimizer here holds them: 3.weight" in str(monitor.summary())
    train(model, optimizer, 3)
    assert "1 parameter asks for gradients and no optimizer here holds them: 3.weight" in str(monitor.summary())
    model[3].weight.requires_grad_(False)  # on purpose
    assert "3.weight" not in str(monitor.summary().notes)


# -- not measured ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 10])
def test_an_optimizer_that_steps_every_fifth_time_is_measured(every: int | None) -> None:
    model = net()
    first = torch.optim.SGD(model[:3].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3:].parameters(), lr=0.1)
    monitor = Monitor(model, [first, second], groups=FREE, every=every)
    for i, batch in enumerate(batches(400)):
        model.zero_grad()
        functional.cross_entropy(model(batch[0]), batch[1]).backward()
        first.step()
        if i % 5 == 4:
            second.step()
    h = monitor.history()
    for name in FREE:
        assert np.isfinite(h[f"{name}/angle"]).sum() >= (4 if every is None else 20)
    assert "no step" not in str(monitor.summary())


def test_an_optimizer_that_never_steps_is_told_in_one_line() -> None:
    model = net()
    pair = [torch.optim.SGD(model[:3].parameters(), lr=0.1), torch.optim.Adam(model[3:].parameters())]
    monitor = Monitor(model, pair, groups=FREE, every=10)
    train(model, pair[0], 120)
    assert "I saw no step of optimizer 2 (Adam)" in str(monitor.summary())
    assert [a.kind for a in monitor.alerts if a.kind == "no-step"] == ["no-step"]


def test_a_step_without_hooks_is_told() -> None:
    """As a compiled or captured one: the losses come, the weights move, and no hook is called."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, every=1)
    for x, y in batches(110):
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        monitor.loss(loss)
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(p.grad, alpha=0.1)
    assert "I saw no step of optimizer 1 (SGD)" in str(monitor.summary())
    assert kinds(monitor) == {"no-step"}


class Sam(Optimizer):
    """Sharpness-aware minimisation as people copy it: two steps around a base optimizer."""

    def __init__(self, params: Any, base: Any, radius: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"radius": radius, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        norm = torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.data.clone()
                p.add_(p.grad, alpha=float(0.05 / norm))

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old"]
        self.base_optimizer.step()


def test_sam_is_measured_at_its_base() -> None:
    model = net()
    optimizer = Sam(model.parameters(), torch.optim.SGD, lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    for x, y in batches(5):
        for part in (optimizer.first_step, optimizer.second_step):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            part()
    h = monitor.history()
    assert h["step"].tolist() == list(range(5))
    np.testing.assert_allclose(np.tan(h["0.weight/angle"]), h["0.weight/ess"], rtol=1e-3)
    assert "outside-change" not in kinds(monitor)


class Lookahead(Optimizer):
    """Slow weights around a fast optimizer; torch's hooks are not set up, as in packages that skip its constructor."""

    def __init__(self, optimizer: Optimizer, k: int = 3) -> None:
        self.optimizer, self.k, self.done = optimizer, k, 0
        self.param_groups, self.defaults, self.state = optimizer.param_groups, {}, optimizer.state
        self.slow = [p.detach().clone() for g in self.param_groups for p in g["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step()
        self.done += 1
        if self.done % self.k == 0:
            for slow, p in zip(self.slow, (p for g in self.param_groups for p in g["params"])):
                slow.add_(p - slow, alpha=0.5)
                p.copy_(slow)


def test_lookahead_is_measured_with_its_slow_weights() -> None:
    model = net()
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1))
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    scheduler = lrs.StepLR(optimizer.optimizer, 100)
    for batch in batches(6):
        before = model[0].weight.detach().double().clone()
        step(model, optimizer, batch)
        scheduler.step()
        after = model[0].weight.detach().double()
        wanted = torch.linalg.vector_norm(after / after.norm() - before / before.norm())
        assert monitor.history()["0.weight/angle"][-1] == pytest.approx(2 * math.asin(float(wanted) / 2), rel=1e-4)
    assert "outside-change" not in kinds(monitor)
    np.testing.assert_allclose(monitor.history()["0.weight/lr"], 0.1)
    monitor.close()
    assert "step" not in optimizer.__dict__


def test_a_subclass_that_calls_the_step_of_its_base_is_one_step() -> None:
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)  # wraps SGD.step, so that hooks are called twice

    class Mine(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    model = net()
    optimizer = Mine(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 5)
    assert monitor.step == 5
    assert monitor.history()["step"].tolist() == [0, 1, 2, 3, 4]


def test_hooks_that_are_registered_later_are_measured_too() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    norm = model[0].weight.norm().item()

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)

    def renormalise(*_: Any) -> None:
        with torch.no_grad():
            model[0].weight.mul_(norm / model[0].weight.norm())

    optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(renormalise)
    other = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 5)
    for one in (monitor, other):
        h = one.history()
        assert h["step"].tolist() == list(range(5))
        whole = np.sqrt(sum(h[f"{g.name}/g"] ** 2 for g in one.groups))
        np.testing.assert_allclose(whole, 1e-3, rtol=1e-3)
        np.testing.assert_allclose(h["0.weight/rho"], norm, rtol=1e-6)
        assert "outside-change" not in kinds(one)


# -- predictions under schedules ---------------------------------------------------------------------------------------


def test_measured_and_predicted_are_compared_step_by_step() -> None:
    """A decay by 10 within the window: the prediction is that of the rows, not of the last rate."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1.0)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    scheduler = lrs.LambdaLR(optimizer, lambda k: 1.0 if k < 150 else 0.9 ** (k - 150))
    for batch in batches(180):
        step(model, optimizer, batch)
        scheduler.step()
    (f,) = [f for f in monitor.forecasts() if f.group == "0.weight"]
    rates = monitor.history()["0.weight/lr"][-32:]
    assert f.equilibrium_angle == pytest.approx(
        math.sqrt(float(np.mean(2 * rates * 1.0 * 0.1 / 1.9))), rel=0.05
    )  # by the leading order of adamw_angle
    assert f.schedule == "by LambdaLR"


@pytest.mark.parametrize("told", ["found", "given", "function", "by hand"])
def test_the_schedule_to_come_decides_whether_the_end_comes_first(told: str) -> None:
    """With a constant rate the norm would be at rest in time; by the schedule it never is."""

    def factor(k: int) -> float:
        return max(0.0, 1.0 - k / 120)

    alive = []  # schedulers, as a loop holds them

    def run(scheduled: bool) -> Monitor:
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
        scheduler = lrs.LambdaLR(optimizer, factor) if scheduled and told != "by hand" else None
        alive.extend([scheduler] if scheduler else [])
        given = {"given": scheduler, "function": lambda k: 1e-2 * factor(k)}.get(told) if scheduled else None
        steps = 120 if scheduled else 1200
        monitor = Monitor(model, optimizer, groups=FREE, every=1, total_steps=steps, schedule=given)
        for k, batch in enumerate(batches(40)):
            step(model, optimizer, batch)
            if scheduler is not None:
                scheduler.step()
            elif scheduled:
                optimizer.param_groups[0]["lr"] = 1e-2 * factor(k + 1)
        return monitor

    steady = {f.group: f for f in run(False).forecasts()}["0.weight"]
    falling = {f.group: f for f in run(True).forecasts()}["0.weight"]
    assert bool(alive) == (told != "by hand")
    assert steady.schedule == ""
    assert math.isfinite(steady.time_to_equilibrium)
    words = {"found": "by LambdaLR", "given": "by LambdaLR", "function": "by the schedule given"}
    assert falling.schedule == words.get(told, "the learning rate extrapolated")
    assert falling.time_to_equilibrium > 80  # more than are left


def test_a_scheduler_that_is_asked_goes_on_as_if_it_had_not_been() -> None:
    def run(asked: bool) -> tuple[list[float], Monitor]:
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
        parts = [lrs.LinearLR(optimizer, 0.1, total_iters=10), lrs.CosineAnnealingLR(optimizer, 90)]
        scheduler = lrs.SequentialLR(optimizer, parts, [10])
        monitor = Monitor(model, optimizer, groups=FREE, every=1, total_steps=100)
        rates = []
        for k, batch in enumerate(batches(60)):
            step(model, optimizer, batch)
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
            if asked and k in (36, 48, 59):  # each time all objects of this process are looked through
                assert monitor.forecasts()[-1].schedule == "by SequentialLR"
        return rates, monitor

    assert run(True)[0] == run(False)[0]


# -- bad health --------------------------------------------------------------------------------------------------------


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.n, self.h = nn.Embedding(50, 16), nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.n(self.e(x).mean(1)))


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_frozen_rows_that_decay_are_named_with_their_end(kind: str) -> None:
    torch.manual_seed(0)
    model = Embedded()
    optimizer = getattr(torch.optim, kind)(model.e.parameters(), lr=5e-3, weight_decay=0.1)
    draw = torch.Generator().manual_seed(0)
    ids, labels = torch.randint(50, (256, 5), generator=draw), torch.randint(4, (256,), generator=draw)
    monitor = Monitor(model, optimizer, inputs=ids[:32], every=1)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(model(ids), labels).backward()
        model.e.weight.grad[:-1] = 0
        optimizer.step()
    (alert,) = [a for a in monitor.alerts if a.severity == "warning"]
    assert alert.kind == "rows-decay"
    assert alert.reason.startswith("49 of 50 rows get no gradient and shrink by decay alone, by exp(-0.0005) a step")
    assert alert.numbers["steps_left"] == pytest.approx(87.3 / 5e-4, rel=0.05)


def test_a_vocabulary_that_is_still_being_met_is_no_alert() -> None:
    torch.manual_seed(0)
    model = Embedded()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
    monitor = Monitor(model, optimizer, every=1)
    for k in range(45):
        ids = torch.full((8, 5), k)  # a new word a step
        optimizer.zero_grad()
        functional.cross_entropy(model(ids), torch.arange(8) % 4).backward()
        optimizer.step()
    assert "rows-decay" not in kinds(monitor)


@pytest.mark.parametrize("way", ["renormalised", "clipped", "loaded", "through data"])
def test_weights_changed_between_steps_are_told_and_no_phase_is(way: str) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    monitor = Monitor(model, optimizer, inputs=batches(1)[0][0], every=1)
    start = copy.deepcopy(model.state_dict())
    norm = model[0].weight.norm().item()
    for k, batch in enumerate(batches(60)):
        step(model, optimizer, batch)
        if k % 10 == 9:
            with torch.no_grad():
                if way == "renormalised":
                    model[0].weight.mul_(norm / model[0].weight.norm())
                elif way == "clipped":
                    model[0].weight.clamp_(-0.3, 0.3)
                elif way == "loaded":
                    model.load_state_dict(start)
                else:
                    model[0].weight.data.mul_(0.9)
    (alert,) = [a for a in monitor.alerts if a.kind == "outside-change" and a.group == "0.weight"]
    assert alert.step == 10
    assert "changed between steps" in alert.reason
    (f,) = [f for f in monitor.forecasts() if f.group == "0.weight"]
    assert f.phase == ""
    assert "only grows" not in str(monitor.summary().notes[0])


def test_a_norm_that_falls_between_logged_steps_without_decay_is_told() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    monitor = Monitor(model, optimizer, inputs=batches(1)[0][0], every=10)
    for k, batch in enumerate(batches(120)):
        step(model, optimizer, batch)
        if k % 20 == 4:
            with torch.no_grad():
                model[0].weight.mul_(0.9)
    assert "outside-change" in kinds(monitor)


class Trust(Optimizer):
    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.norm() > 0:
                    p.sub_(p.grad, alpha=group["lr"] * float(p.norm() / p.grad.norm()))


def test_parameters_that_never_move_are_named() -> None:
    model = net()
    nn.init.zeros_(model[6].bias)
    monitor = Monitor(model, (optimizer := Trust(model.parameters(), lr=0.01)), groups=FREE, every=1)
    train(model, optimizer, 30)
    (alert,) = [a for a in monitor.alerts if a.kind == "never-moves"]
    assert "6.bias" in alert.reason
    assert alert.reason.endswith("(zero at the start: an optimizer that scales by the norm cannot leave it)")


def test_a_dead_layer_that_decays_is_told_with_its_end() -> None:
    """AdamW's default decay turns it by rounding, 2e-8 rad a step."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)

    def cut(i: int) -> None:
        model[3].weight.grad.zero_()

    train(model, optimizer, 20, change=cut)
    (alert,) = [a for a in monitor.alerts if a.kind == "still"]
    assert alert.group == "3.weight"
    assert "its gradient is zero" in alert.reason
    assert "its norm halves every 6.93e+03 steps and is denormal (slow on a CPU) in 8.8" in alert.forecast


def test_norms_that_collapse_are_told_without_groups() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=10.0)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 120)
    assert {"0.weight", "3.weight"} <= {a.group for a in monitor.alerts if a.kind == "collapse"}


# -- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_a_factor_within_the_step_is_measured(base: Any, factor: float) -> None:
    class Own(base):  # type: ignore[misc]
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                group["lr"] *= factor
            super().step(closure)
            for group in self.param_groups:
                group["lr"] /= factor

    model = net()
    optimizer = Own(model.parameters(), lr=0.01)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 20)
    h = monitor.history()
    rho = h["0.weight/rho"]
    wanted = factor * 0.01 / (rho**2 if base is torch.optim.SGD else rho)
    np.testing.assert_allclose(h["0.weight/elr"], wanted, rtol=0.02)
    (alert,) = [a for a in monitor.alerts if a.kind == "law"]
    assert alert.numbers["acted"] == pytest.approx(0.01 * factor, rel=0.02)
    assert alert.severity == "note"


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adagrad", "RMSprop"])
def test_laws_that_hold_are_not_disputed(kind: str) -> None:
    model = net()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01, weight_decay=0.01)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 40)
    assert not kinds(monitor) & {"law", "first-step"}


def test_a_wrong_bias_correction_shows_in_the_first_step() -> None:
    class Uncorrected(Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 1e-3, "betas": (0.9, 0.999)})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                state = self.state[p]
                m = state.setdefault("m", torch.zeros_like(p)).lerp_(p.grad, 0.1)
                v = state.setdefault("v", torch.zeros_like(p)).mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                p.sub_(m / (v.sqrt() + 1e-12), alpha=1e-3)

    Uncorrected.__name__ = "AdamW8bit"  # a name that is known
    model = net()
    optimizer = Uncorrected(model.parameters())
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 3)
    (alert,) = [a for a in monitor.alerts if a.kind == "first-step"]
    assert alert.numbers["ratio"] == pytest.approx(0.1 / math.sqrt(0.001), rel=0.02)
    assert monitor.first_steps["0.weight"] == pytest.approx(3.162, rel=0.02)


def test_a_law_and_a_decay_of_ones_own() -> None:
    model = net()
    optimizer = Trust(model.parameters(), lr=0.01)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, law="relative", decay="none")
    train(model, optimizer, 3)
    h = monitor.history()
    np.testing.assert_allclose(h["0.weight/elr"], 0.01)
    np.testing.assert_allclose(np.tan(h["0.weight/angle"]), 0.01, rtol=1e-3)
    for wrong in ({"law": "adam"}, {"decay": "l2"}):
        with pytest.raises(UserError, match="choose one of"):
            Monitor(model, optimizer, **wrong)


# -- where it goes -----------------------------------------------------------------------------------------------------


def test_rows_are_on_the_disk_when_the_loop_pauses(tmp_path: Path) -> None:
    """Nobody closes, and no further row comes."""
    import time

    from scaleinv.monitor.sinks import RunFolder
    from scaleinv.runfolder.read import load_run

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(tmp_path / "run", seconds=0.3))
    train(model, optimizer, 7, monitor)
    for _ in range(100):
        if load_run(tmp_path / "run").table("online", "total", "rho").steps.tolist() == list(range(7)):
            break
        time.sleep(0.1)
    else:
        pytest.fail("rows were not written")
    monitor.close()


def test_the_folder_of_a_sphere_knows_its_elr(tmp_path: Path) -> None:
    import json

    model = net()
    free = {name: [dict(model.named_parameters())[name]] for name in FREE}
    sphere = Sphere(torch.optim.SGD(model.parameters(), lr=0.1), free, elr=0.01, granularity="group")
    with Monitor(model, sphere, groups=free, every=1, sinks=tmp_path / "run"):
        train(model, sphere, 3)
    (one,) = json.loads((tmp_path / "run" / "config.json").read_text())["config"]["optimizers"]
    assert one["sphere"]["elr"] == 0.01
    assert one["sphere"]["granularity"] == "group"
    assert set(one["sphere"]["radii"]) == set(FREE)
    wrapped = [g for g in one["groups"] if "elr" in g]
    assert len(wrapped) == 2
    assert all(g["elr"] == 0.01 and "lr" not in g for g in wrapped)
    assert [g["lr"] for g in one["groups"] if "elr" not in g] == [0.1]


class Kept(Tracker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.names: set[str] = set()

    def write(self, record: Any) -> None:
        self.names |= set(self.numbers(record))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, lambda n: n.split("/")[1] in ("loss", "total", *FREE)),
        ({"groups": "all"}, lambda n: True),
        ({"groups": True}, lambda n: True),
        ({"groups": False}, lambda n: n.split("/")[1] in ("loss", "total")),
        ({"groups": "total"}, lambda n: n.split("/")[1] in ("loss", "total")),
        ({"select": "elr$"}, lambda n: n.endswith("elr") and n.split("/")[1] in ("total", *FREE)),
        (
            {"groups": "all", "select": "bias", "invert": True},
            lambda n: "bias" not in n,
        ),
    ],
)
def test_what_trackers_get(options: dict[str, Any], wanted: Callable[[str], bool]) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    sink, everything = Kept(**options), Kept(groups="all")
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=[sink, everything])
    train(model, optimizer, 2, monitor)
    assert sink.names == {n for n in everything.names if wanted(n)}
    assert sink.names


def test_selections_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="choose free, all or total"):
        Tracker(groups="some")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is not a regular expression"):
        Tracker(select="(")


def test_a_tidy_table_and_the_columns_that_are_asked_for() -> None:
    pytest.importorskip("pandas")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, extra=("spectral", "update_rms"))
    weights = []
    for batch in batches(6):
        weights.append(float(torch.linalg.matrix_norm(model[0].weight.detach(), 2)))
        step(model, optimizer, batch, monitor)
    table = monitor.to_pandas(tidy=True)
    assert list(table.columns) == ["step", "epoch", "group", "kind", "quantity", "value"]
    one = table[(table.group == "0.weight") & (table.quantity == "spectral")]
    np.testing.assert_allclose(one.value, weights, rtol=2e-2)
    assert set(one.kind) == {"scale-invariant"}
    assert len(table[table.quantity == "loss"]) == 6
    h = monitor.history()
    step_length = np.hypot(h["0.weight/tangential"], h["0.weight/radial"])
    np.testing.assert_allclose(h["0.weight/update_rms"], step_length / math.sqrt(96))
    with pytest.raises(UserError, match="choose from update_rms, spectral"):
        Monitor(model, optimizer, extra="logits")


def test_notes_are_no_warnings_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="scaleinv")
    test_parameters_that_never_move_are_named()
    assert {r.levelname for r in caplog.records if "never move" in r.getMessage()} == {"INFO"}


class WandbRun:
    """W&B's rule: a row with a smaller step than the present one is dropped; ``commit=False`` joins the open row."""

    def __init__(self) -> None:
        self.step, self.open, self.rows, self.dropped = 0, {}, [], 0

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, row: dict[str, float], step: int | None = None, commit: bool | None = None) -> None:
        if step is not None and step < self.step:
            self.dropped += 1
            return
        if step is not None and step > self.step:
            self._commit()
            self.step = step
        self.open.update(row)
        if commit or (commit is None and step is None):
            self._commit()
            self.step += 1

    def _commit(self) -> None:
        if self.open:
            self.rows.append(self.open)
        self.open = {}


@pytest.mark.parametrize("habit", ["step=", "step= rarely", "no step", "epochs", "nothing"])
def test_no_row_of_the_user_is_dropped_by_wandb(habit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from scaleinv.monitor.sinks import Wandb

    monkeypatch.setattr("scaleinv.monitor.sinks.trackers.need", lambda *_: SimpleNamespace(run=None))
    run, model = WandbRun(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=5, sinks=Wandb(run))
    for i, batch in enumerate(batches(20)):
        if habit == "step=":
            run.log({"train": 1.0}, step=i)
        step(model, optimizer, batch, monitor)
        if habit == "step=" or (habit == "step= rarely" and i % 7 == 6):
            run.log({"val": 1.0}, step=i)
        elif habit == "no step":
            run.log({"val": 1.0})
        elif habit == "epochs" and i % 10 == 9:
            run.log({"val": 1.0}, step=i // 10)
    monitor.close()
    run._commit()
    assert run.dropped == 0
    seen = [row["scaleinv/step"] for row in run.rows if "scaleinv/step" in row]
    if habit in ("step=", "no step", "nothing"):
        assert sorted(set(seen)) == [0, 5, 10, 15]
    assert seen


def test_a_gradient_of_rounding_is_no_wrong_bias_correction() -> None:
    """The gradient of a bias before a batch norm is rounding, as small as Adam's eps: its first step is short."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-8)
    monitor = Monitor(model, optimizer, every=1)
    nn.functional.cross_entropy(model(torch.randn(32, 6)), torch.arange(32) % 3).backward()
    assert 0 < float(model[0].bias.grad.norm()) < 1e-7
    optimizer.step()
    assert "0.weight" in monitor.first_steps
    assert "0.bias" not in monitor.first_steps
    assert not monitor.alerts

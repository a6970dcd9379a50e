"""Right under everything people do in training loops: each case against the numbers read from the weights by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net, same_weights, train
from torch import Tensor, nn
from torch.nn import functional

from scaleinv import Monitor, Sphere

pytestmark = pytest.mark.numerics


class Hand:
    """The norm, gradient norm and angle of every tensor around each step, in float64; what a monitor has to say."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.rows = model, []

    def before(self, scale: float = 1.0) -> None:
        self.w = {n: p.detach().double().clone() for n, p in self.model.named_parameters()}
        self.g = {
            n: float("nan") if p.grad is None else float(p.grad.double().norm()) / scale
            for n, p in self.model.named_parameters()
        }

    def after(self) -> None:
        row = {}
        for n, p in self.model.named_parameters():
            w, x = self.w[n].flatten(), p.detach().double().flatten()
            u, v = w / w.norm(), x / x.norm()
            angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())
            row[n] = (float(w.norm()), self.g[n], float(angle))
        self.rows.append(row)

    def check(self, monitor: Monitor, steps: list[int] | None = None) -> None:
        h = monitor.history()
        assert h["step"].tolist() == (steps or list(range(len(self.rows))))
        for n in self.rows[0]:
            for j, quantity in enumerate(("rho", "g", "angle")):
                wanted = [row[n][j] for row in self.rows]
                np.testing.assert_allclose(
                    h[f"{n}/{quantity}"], wanted, rtol=1e-5, atol=1e-7, err_msg=f"{n} {quantity}"
                )


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def test_accumulation_and_clipping() -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    monitor, hand = Monitor(model, optimizer, groups=FREE, every=1), Hand(model)
    losses = []
    for i, batch in enumerate(batches(8)):
        loss = loss_of(model, batch)
        losses.append(loss.item())
        (loss / 2).backward()
        monitor.loss(loss)
        if i % 2:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            hand.before()
            optimizer.step()
            hand.after()
            optimizer.zero_grad()
    hand.check(monitor)
    assert monitor.history()["loss"] == pytest.approx(np.mean(np.reshape(losses, (4, 2)), axis=1))
    norms = [np.sqrt(sum(r[n][1] ** 2 for n in r)) for r in hand.rows]
    assert max(norms) < 0.0101


KINDS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "SGD nesterov foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, foreach=True),
    "SGD fused": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "SGD maximize": lambda p: torch.optim.SGD(p, lr=0.01, maximize=True),
    "AdamW single": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=False),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=0.01),
    "lr tensor": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01)),
}
LAW = {"SGD": "sgd", "Adadelta": "measured", "Adafactor": "relative", "Rprop": "measured", "ASGD": "measured"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer(kind: str) -> None:
    model = net()
    optimizer = KINDS[kind](model.parameters())
    monitor, hand = Monitor(model, optimizer, groups=FREE, every=1), Hand(model)
    for batch in batches(5):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        hand.before()
        optimizer.step()
        hand.after()
    hand.check(monitor)
    h = monitor.history()
    rho, elr, lr = (h[f"0.weight/{q}"] for q in ("rho", "elr", "lr"))
    law = LAW.get(kind.split()[0], "normalised")
    wanted = {"sgd": lr / rho**2, "normalised": lr / rho, "relative": lr}
    if law in wanted:
        np.testing.assert_allclose(elr, wanted[law], rtol=1e-6)
    else:
        np.testing.assert_allclose(elr * h["0.weight/eg"] * rho, h["0.weight/tangential"], rtol=1e-6)
    if kind == "SGD nesterov foreach":  # torch adds the momentum into the gradient itself: nothing left to compare with
        assert np.isnan(h["0.weight/alignment"]).all()
    else:
        assert (h["0.weight/alignment"] > (0.2 if kind != "SGD maximize" else 0.9)).all()


@pytest.mark.parametrize(
    ("package", "name", "options", "law"),
    [
        ("lion_pytorch", "Lion", {"lr": 1e-3, "weight_decay": 0.1}, "normalised"),
        ("schedulefree", "AdamWScheduleFree", {"lr": 1e-2, "weight_decay": 0.1}, "normalised"),
        ("schedulefree", "SGDScheduleFree", {"lr": 1e-1}, "sgd"),
    ],
)
def test_optimizers_of_other_packages(package: str, name: str, options: dict[str, float], law: str) -> None:
    model = net()
    optimizer = getattr(pytest.importorskip(package), name)(model.parameters(), **options)
    if hasattr(optimizer, "train"):
        optimizer.train()
    monitor, hand = Monitor(model, optimizer, groups=FREE, every=1), Hand(model)
    for batch in batches(9):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        hand.before()
        optimizer.step()
        hand.after()
    hand.check(monitor)
    h = monitor.history()
    rho = h["0.weight/rho"]
    np.testing.assert_allclose(h["0.weight/elr"], options["lr"] / (rho if law == "normalised" else rho**2), rtol=1e-6)
    assert "measured from the step" not in str(monitor.summary())
    if name == "Lion":
        assert monitor.forecasts()[0].equilibrium_angle > 0
    elif "weight_decay" in options:  # averages of the iterates have no rest
        assert monitor.forecasts()[0].why == f"no equilibrium formula for {name} as it is set"


def test_muon_beside_adamw_as_two_optimizers() -> None:
    model = net()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    pair = [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=0.01)]
    monitor, hand = Monitor(model, pair, groups=FREE, every=1), Hand(model)
    for batch in batches(5):
        loss = loss_of(model, batch)
        loss.backward()
        monitor.loss(loss)
        hand.before()
        for optimizer in pair:
            optimizer.step()
        hand.after()
        model.zero_grad()
    hand.check(monitor)
    h = monitor.history()
    np.testing.assert_allclose(h["0.weight/elr"], 0.02 / h["0.weight/rho"], rtol=1e-6)


def test_optimizers_that_step_at_different_times() -> None:
    """As a GAN's: the first steps every time, the second every second time."""
    model = net()
    first = torch.optim.SGD(model[:3].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3:].parameters(), lr=0.1)
    monitor = Monitor(model, [first, second], groups=FREE, every=1)
    for i, batch in enumerate(batches(6)):
        model.zero_grad()
        loss_of(model, batch).backward()
        first.step()
        if i % 2:
            second.step()
    h = monitor.history()
    assert np.isfinite(h["0.weight/angle"]).sum() == 5 + (monitor.step == 6)
    assert np.isfinite(h["3.weight/angle"]).sum() == 3
    assert np.isfinite(h["6.weight/rho"]).sum() == 3


@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler_unscales_and_skips(fused: bool) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    monitor, hand = Monitor(model, optimizer, groups=FREE, every=1), Hand(model)
    for i, batch in enumerate(batches(6)):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        scaler.scale(loss).backward()
        if i in (2, 3):
            model[0].weight.grad[0, 0] = float("inf")
        scale = scaler.get_scale()
        monitor.loss(loss)
        hand.before(scale)
        scaler.step(optimizer)
        scaler.update()
        if i not in (2, 3):
            hand.after()
    hand.check(monitor)
    assert monitor.step == 4
    if not fused:
        h = monitor.history()
        keep = h["0.weight/elr"] * h["0.weight/eg"]
        np.testing.assert_allclose(np.tan(h["0.weight/angle"]), keep, rtol=1e-3)


def test_skipped_steps_counted_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading GradScaler's flag would wait for the device, it travels with the numbers."""
    monkeypatch.setattr("scaleinv.monitor.probe._on_host", lambda tensor: False)
    test_grad_scaler_unscales_and_skips(True)


def test_unscaled_by_hand_before_clipping() -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    monitor, hand = Monitor(model, optimizer, groups=FREE, every=1), Hand(model)
    for batch in batches(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        hand.before()
        scaler.step(optimizer)
        scaler.update()
        hand.after()
    hand.check(monitor)


def test_autocast_and_low_precision_weights() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = net(dtype=dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        monitor, hand = Monitor(model, optimizer, every=1), Hand(model)
        for x, y in batches(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.cross_entropy(model(x.to(dtype)), y)
            loss.backward()
            monitor.loss(loss)
            hand.before()
            optimizer.step()
            hand.after()
        hand.check(monitor)


def test_param_groups_and_schedules() -> None:
    model = net()
    optimizer = torch.optim.SGD(
        [{"params": [model[0].weight], "lr": 0.2, "weight_decay": 0.1}, {"params": [*model[1:].parameters()]}], lr=0.1
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    monitor = Monitor(model, optimizer, groups={"both": FREE}, every=1)
    for batch in batches(4):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        scheduler.step()
    h = monitor.history()
    assert h["1.weight/lr"] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert np.isnan(h["both/lr"]).all()  # two learning rates: none of the group
    # the ELR of the rate that acted: without momentum the mean of the rates, weighted by the gradients
    assert ((h["both/elr"] * h["both/rho"] ** 2)[:2] > 0.1).all()
    assert ((h["both/elr"] * h["both/rho"] ** 2)[:2] < 0.2).all()
    assert h["both/elr"] * h["both/eg"] * h["both/rho"] == pytest.approx(h["both/tangential"], rel=0.1)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.layer_norm(self.table(x), (5,)))


def test_tied_weights_are_one() -> None:
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor, hand = Monitor(model, optimizer, every=1), Hand(model)
    for i in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(model(torch.tensor([i, 2, 3])), torch.tensor([1, i, 2])).backward()
        hand.before()
        optimizer.step()
        hand.after()
    hand.check(monitor)
    assert [g.name for g in monitor.groups] == ["table.weight"]


def test_frozen_unfrozen_and_added_parameters() -> None:
    model = net()
    model[3].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([*model[:6].parameters()], lr=0.1)
    monitor, hand = Monitor(model, optimizer, groups=FREE, every=1), Hand(model[:6])
    for i, batch in enumerate(batches(6)):
        if i == 2:
            model[3].weight.requires_grad_(True)
        if i == 4:
            optimizer.add_param_group({"params": [*model[6].parameters()], "lr": 0.3})
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        hand.before()
        optimizer.step()
        hand.after()
    hand.check(monitor)
    h = monitor.history()
    assert (h["3.weight/angle"][:2] == 0).all()
    assert (h["3.weight/angle"][2:] > 0).all()
    assert np.isnan(h["6.weight/rho"]).tolist() == [True] * 4 + [False] * 2
    assert h["6.weight/lr"][4:] == pytest.approx([0.3, 0.3])


def test_lbfgs_is_measured_at_the_start_of_its_step() -> None:
    def run(watched: bool) -> tuple[nn.Module, Monitor | None, Hand]:
        model = net(dtype=torch.float64)
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
        monitor = Monitor(model, optimizer, groups=FREE, every=1) if watched else None
        hand = Hand(model)
        for batch in batches(3, torch.float64):
            calls = 0

            def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
                nonlocal calls
                optimizer.zero_grad()
                loss = loss_of(model, batch)
                loss.backward()
                calls += 1
                if calls == 1:
                    hand.before()
                    hand.loss = loss.item()
                return loss

            optimizer.step(closure)
            assert calls > 1
            hand.after()
        return model, monitor, hand

    plain, _, _ = run(False)
    watched, monitor, hand = run(True)
    assert same_weights(plain, watched)
    assert monitor is not None
    hand.check(monitor)
    h = monitor.history()
    assert h["loss"][-1] == pytest.approx(hand.loss)
    np.testing.assert_allclose(h["0.weight/elr"] * h["0.weight/eg"] * h["0.weight/rho"], h["0.weight/tangential"])


def test_closure_of_an_ordinary_optimizer_gives_the_loss() -> None:
    for give in (lambda o, c: o.step(c), lambda o, c: o.step(closure=c)):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor, hand = Monitor(model, optimizer, groups=FREE, every=2), Hand(model)
        losses = []
        for i, batch in enumerate(batches(4)):

            def closure(
                batch: tuple[Tensor, Tensor] = batch, i: int = i, model: nn.Module = model, hand: Hand = hand,
                optimizer: torch.optim.Optimizer = optimizer, losses: list[float] = losses,
            ) -> Tensor:  # fmt: skip
                optimizer.zero_grad()
                loss = loss_of(model, batch)
                loss.backward()
                if i % 2 == 0:
                    hand.before()
                    losses.append(loss.item())
                return loss

            give(optimizer, closure)
            if i % 2 == 0:
                hand.after()
        hand.check(monitor, [0, 2])
        assert monitor.history()["loss"] == pytest.approx(losses)


@pytest.mark.parametrize("granularity", ["total", "group"])
def test_sphere(granularity: str) -> None:
    model = net()
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sphere = Sphere(inner, [model[0].weight, model[3].weight], elr=0.02, granularity=granularity)
    monitor, hand = Monitor(model, sphere, groups=FREE, every=1), Hand(model)
    for batch in batches(4):
        sphere.zero_grad()
        loss_of(model, batch).backward()
        hand.before()
        sphere.step()
        hand.after()
    hand.check(monitor)
    h = monitor.history()
    name = "total" if granularity == "total" else "0.weight"
    assert h[f"{name}/elr"] == pytest.approx([0.02] * 4, rel=1e-5)
    assert h[f"{name}/rho"] == pytest.approx([h[f"{name}/rho"][0]] * 4, rel=1e-6)
    twin = copy.deepcopy(sphere)  # a Sphere copies everything it has, also hooks
    twin.step()
    assert len(monitor.history()["step"]) == 4
    assert "on a sphere" in str(monitor.forecasts()[0].why)


@pytest.mark.slow
def test_compiled_model() -> None:
    model = net()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    monitor, hand = Monitor(compiled, optimizer, groups=FREE, every=1), Hand(model)
    for batch in batches(3):
        optimizer.zero_grad()
        loss_of(compiled, batch).backward()
        hand.before()
        optimizer.step()
        hand.after()
    hand.check(monitor)


def test_a_second_monitor_sees_the_same() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pair = [Monitor(model, optimizer, groups=FREE, every=1) for _ in range(2)]
    train(model, optimizer, 3)
    a, b = (m.history() for m in pair)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])

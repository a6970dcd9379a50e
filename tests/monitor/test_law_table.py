"""Optimizer by kind of decay by schedule: measured angle and norm against the predicted ones, on random gradients of a
scale-invariant weight, 3 %."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.timm_alone import load_timm
from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv import Monitor
from scaleinv.monitor.forecast import WINDOW, relaxed
from scaleinv.monitor.rates import RateBook
from scaleinv.theory import Equilibrium
from scaleinv.theory.traits import Measured

SHAPE, EG = (20, 20), 1.0
#: relative: terms of order lr wd/(1 - beta1) that the formulas drop are below 1 % at the rates below, and 32 logged
#: turns of 400 numbers scatter by 1/sqrt(2 * 400 * 32), below 1 %
CLOSE = 0.03


class Loop(Optimizer):
    """Base of small optimizers: ``update(p, g, state, group)`` gives the step at learning rate 1, without decay."""

    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, {"weight_decay": 0.0, **defaults})

    def decay(self, group: dict[str, Any]) -> float:
        return float(group["lr"] * group["weight_decay"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                update = self.update(p, p.grad, self.state[p], group)
                p.mul_(1 - self.decay(group)).sub_(update, alpha=group["lr"])

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        raise NotImplementedError


def adam(g: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> Tensor:
    b1, b2 = betas
    state["t"] = state.get("t", 0) + 1
    m = state.setdefault("m", torch.zeros_like(g)).mul_(b1).add_(g, alpha=1 - b1)
    v = state.setdefault("v", torch.zeros_like(g)).mul_(b2).addcmul_(g, g, value=1 - b2)
    return m / (1 - b1 ** state["t"]) / (v / (1 - b2 ** state["t"])).sqrt()


class AdamC(Loop):
    """Decay in proportion to lr/lr_max (corrected)."""

    def decay(self, group: dict[str, Any]) -> float:
        return float(group["lr"] * group["weight_decay"] * group["lr"] / group["max_lr"])

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        return adam(g, state, group["betas"])


class AdamWOfItsOwn(AdamC):
    """Independent decay: by wd, whatever the learning rate is."""

    def decay(self, group: dict[str, Any]) -> float:
        return float(group["weight_decay"])


class CautiousAdamW(Loop):
    """Decay where update and weight have one sign."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                u = adam(p.grad, self.state[p], group["betas"])
                p.sub_(group["lr"] * (u + group["weight_decay"] * p * (u * p > 0)))


class Prodigy(Loop):
    """Adam at the learning rate d lr."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rate = group["d"] * group["lr"]
            for p in group["params"]:
                u = adam(p.grad, self.state[p], group["betas"])
                p.mul_(1 - rate * group["weight_decay"]).sub_(u, alpha=rate)


class DAdaptAdam(Prodigy):
    """The same clothes."""


class AdamW8bit(Loop):
    """bitsandbytes' class name, in full precision."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        return adam(g, state, group["betas"])


class SGD(Loop):
    """heavyball's: its momentum is ``beta``, its decay decoupled."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        return state.setdefault("m", torch.zeros_like(g)).mul_(group["beta"]).add_(g)


class SGD8bit(Loop):
    """bitsandbytes': momentum is the first of ``betas``, decay is coupled."""

    def decay(self, group: dict[str, Any]) -> float:
        return 0.0

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        g = g + group["weight_decay"] * p
        return state.setdefault("m", torch.zeros_like(g)).mul_(group["betas"][0]).add_(g)


class AdaBelief(Loop):
    """Adam whose second average is that of the surprise ``g - m``."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        b1, b2 = group["betas"]
        state["t"] = state.get("t", 0) + 1
        m = state.setdefault("m", torch.zeros_like(g)).mul_(b1).add_(g, alpha=1 - b1)
        v = state.setdefault("v", torch.zeros_like(g)).mul_(b2).addcmul_(g - m, g - m, value=1 - b2)
        return m / (1 - b1 ** state["t"]) / (v / (1 - b2 ** state["t"])).sqrt()


class SOAP(Loop):
    """Adam in a basis that is turned now and then."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if "q" not in state:
            draw = torch.Generator().manual_seed(3)
            state["q"] = torch.linalg.qr(torch.randn(SHAPE[0], SHAPE[0], generator=draw)).Q
        return state["q"].t() @ adam(state["q"] @ g, state, group["betas"])


class SophiaG(Loop):
    """Momentum over a curvature, clipped."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        b1 = group["betas"][0]
        m = state.setdefault("m", torch.zeros_like(g)).mul_(b1).add_(g, alpha=1 - b1)
        size = state.setdefault("h", torch.zeros(())).mul_(0.99).add_(g.abs().mean(), alpha=0.01)
        return (m / (size + 1e-12)).clamp_(-1, 1)


class MuonWithAuxAdam(Loop):
    """Keller Jordan's one class: Muon with Nesterov's blend, and Adam where ``use_muon`` is False."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not group["use_muon"]:
            return adam(g, state, group["betas"])
        m = state.setdefault("m", torch.zeros_like(g)).mul_(group["momentum"]).add_(g, alpha=1 - group["momentum"])
        u, _, v = torch.linalg.svd(g.lerp(m, group["momentum"]), full_matrices=False)
        return u @ v * max(1.0, len(g) / g.shape[1]) ** 0.5


class ZeroRedundancyOptimizer(Loop):
    """A wrapper that holds the real optimizer as ``optim``."""

    def __init__(self, params: Any, **options: Any) -> None:
        params = list(params)
        super().__init__(params, **options)
        self.optim = torch.optim.AdamW(params, **options)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optim.param_groups[0]["lr"] = self.param_groups[0]["lr"]
        self.optim.step()


def timm(name: str) -> Any:
    return getattr(importlib.import_module("timm.optim"), name)


FAST = (0.5, 0.99)  # lr wd/(1 - beta1) is small at a short time scale
LR, WD = 0.02, 0.15  # time scale 1/(2 lr wd) = 167 steps


def both(make: Callable[[Any], Optimizer], **more: Any) -> dict[str, Any]:
    return {"make": make, **more}


#: name -> how it is made; ``said``: what Monitor is told; ``change``: of options, before every step
TABLE: dict[str, dict[str, Any]] = {
    "SGD, coupled": both(lambda p: torch.optim.SGD(p, lr=LR, weight_decay=WD)),
    "SGD, momentum, coupled": both(lambda p: torch.optim.SGD(p, lr=LR / 2, momentum=0.5, weight_decay=WD)),
    "SGD of heavyball, decoupled": both(lambda p: SGD(p, lr=LR, beta=0.5, weight_decay=WD)),
    "SGD of bitsandbytes, coupled": both(lambda p: SGD8bit(p, lr=LR / 2, betas=(0.5, 0), weight_decay=WD)),
    "RAdam, decoupled": both(
        lambda p: torch.optim.RAdam(p, lr=LR, betas=FAST, weight_decay=WD, decoupled_weight_decay=True),
        steps=2000,  # the norm falls while its steps are rectified, and has to come back
    ),
    "AdaBelief": both(lambda p: AdaBelief(p, lr=LR, betas=FAST, weight_decay=WD)),
    "SGDW, decoupled": both(lambda p: timm("SGDW")(p, lr=LR, momentum=0.5, weight_decay=WD)),
    "SGDP, projected": both(lambda p: timm("SGDP")(p, lr=LR, momentum=0.5, weight_decay=5 * WD, delta=10.0)),
    "AdamP, projected": both(lambda p: timm("AdamP")(p, lr=LR, betas=FAST, weight_decay=10 * WD, delta=10.0)),
    "AdamW, decoupled": both(lambda p: torch.optim.AdamW(p, lr=LR, betas=FAST, weight_decay=WD)),
    "Adam, decoupled": both(
        lambda p: torch.optim.Adam(p, lr=LR, betas=FAST, weight_decay=WD, decoupled_weight_decay=True)
    ),
    "AdamW, decay changed at every step": both(
        lambda p: torch.optim.AdamW(p, lr=LR, betas=FAST, weight_decay=WD),
        change=lambda k, group: group.update(weight_decay=WD * (1.5 if k % 2 else 0.5)), mean_wd=WD,
    ),
    "AdamC, corrected": both(lambda p: AdamC(p, lr=LR, max_lr=LR, betas=FAST, weight_decay=WD)),
    "AdamW of its own, independent": both(
        lambda p: AdamWOfItsOwn(p, lr=LR, betas=FAST, weight_decay=LR * WD),
        said={"law": "normalised", "decay": "independent"},
    ),
    "AdamW, cautious": both(lambda p: CautiousAdamW(p, lr=LR, betas=FAST, weight_decay=2 * WD)),
    "Prodigy": both(lambda p: Prodigy(p, lr=1.0, d=LR, betas=FAST, weight_decay=WD)),
    "D-Adaptation": both(lambda p: DAdaptAdam(p, lr=1.0, d=LR, betas=FAST, weight_decay=WD)),
    "AdamW 8-bit": both(lambda p: AdamW8bit(p, lr=LR, betas=FAST, weight_decay=WD)),
    "ZeRO around AdamW": both(lambda p: ZeroRedundancyOptimizer(p, lr=LR, betas=FAST, weight_decay=WD)),
    "Lion": both(lambda p: timm("Lion")(p, lr=LR, betas=(0.9, 0.7), weight_decay=WD)),
    "SOAP": both(lambda p: SOAP(p, lr=LR, betas=FAST, weight_decay=WD)),
    "Sophia": both(lambda p: SophiaG(p, lr=LR, betas=FAST, weight_decay=WD)),
    "Muon of torch, plain": both(lambda p: torch.optim.Muon(p, lr=LR, momentum=0.5, nesterov=False, weight_decay=WD)),
    "Muon of torch": both(lambda p: torch.optim.Muon(p, lr=LR, momentum=0.5, weight_decay=WD)),
    "Muon of torch, scaled": both(
        lambda p: torch.optim.Muon(p, lr=LR, momentum=0.8, weight_decay=WD, adjust_lr_fn="match_rms_adamw")
    ),
    "Muon and Adam in one class: Muon": both(
        lambda p: MuonWithAuxAdam([{"params": list(p), "use_muon": True}], lr=LR, momentum=0.5, weight_decay=WD)
    ),
    "Muon and Adam in one class: Adam": both(
        lambda p: MuonWithAuxAdam([{"params": list(p), "use_muon": False}], lr=LR, betas=FAST, weight_decay=WD)
    ),
    "LARS": both(lambda p: timm("Lars")(p, lr=2.0, trust_coeff=0.01, momentum=0.5, weight_decay=WD)),
    "LAMB": both(lambda p: timm("Lamb")(p, lr=0.04, betas=FAST, weight_decay=WD, max_grad_norm=None)),
}  # fmt: skip

OF_TIMM = ("SGDW, decoupled", "SGDP, projected", "AdamP, projected", "Lion", "LARS", "LAMB")


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(SHAPE, generator=draw))


def rest_now(optimizer: Optimizer, monitor: Monitor, case: dict[str, Any], lr: float) -> Equilibrium:
    """The equilibrium at this learning rate, as the Monitor's forecasts have it."""
    (group,) = optimizer.param_groups
    kept, group["lr"] = group["lr"], lr
    options = dict(group)
    rate = next(iter(RateBook(monitor.said).rates(optimizer).values()))
    traits = monitor.said.traits(optimizer, group)
    group["lr"] = kept
    known = Measured(EG, SHAPE[0] * SHAPE[1], case["update"], SHAPE)
    at = traits.equilibrium(options, rate.lr, case.get("mean_wd", rate.wd), known)
    assert at is not None
    return at


def run(
    case: dict[str, Any], steps: int, schedule: Callable[[int], float] | None, seed: int = 1
) -> tuple[Monitor, float, float]:
    """Train on random gradients, logging the last steps; the Monitor, the RMS norm there, and the predicted norm."""
    case, start = {**case}, math.nan
    model = Holder()
    optimizer = case["make"](model.parameters())
    monitor = Monitor(model, optimizer, groups=["w"], every=1, **case.get("said", {}))
    draw, base = torch.Generator().manual_seed(seed), [g["lr"] for g in optimizer.param_groups]
    # eight steps give a first rest to start from; the norm is put there, and the rest is trained
    for k in range(steps):
        if k == 8:
            start = monitor.forecasts()[-1].equilibrium_rho
            with torch.no_grad():
                model.w.mul_(start / model.w.norm())
            for state in (optimizer.state, getattr(optimizer, "optim", optimizer).state):
                state.clear()  # averages of steps at the other norm
            monitor.close()
        if k == steps - 2 * WINDOW:
            monitor = Monitor(model, optimizer, groups=["w"], every=1, **case.get("said", {}))
        for group, lr in zip(optimizer.param_groups, base):
            if schedule is not None:
                group["lr"] = lr * schedule(k)
            if "change" in case:
                case["change"](k, group)
        g = torch.randn(SHAPE, generator=draw)
        w = model.w.detach()
        g -= (g * w).sum() / (w * w).sum() * w
        model.w.grad = g * (EG / g.norm() / w.norm())
        optimizer.step()
    h, way = monitor.history(), start
    case["update"] = float(np.median(np.hypot(h["w/tangential"], h["w/pull"]) / h["w/lr"]))
    for k in range(10, steps, 10):
        lr = base[0] * (1.0 if schedule is None else schedule(k - 5))
        way = relaxed(way, rest_now(optimizer, monitor, case, lr), 10)
    return monitor, float(np.sqrt(np.mean(monitor.history()["w/rho"][-WINDOW:] ** 2))), way


@pytest.mark.slow
@pytest.mark.parametrize("scheduled", [False, True], ids=["fixed", "scheduled"])
@pytest.mark.parametrize("name", TABLE)
def test_measured_against_predicted(name: str, scheduled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = TABLE[name]
    if name in OF_TIMM:
        load_timm()
    steps = case.get("steps", 2000 if scheduled else 800)
    schedule = (lambda k: 1.0 - 0.25 * k / 2000) if scheduled else None
    angles, norms = [], []
    # Muon's norm wanders by 2 % from draw to draw of the gradients (standard deviation), the others' by less
    for seed in range(1, 4 if name.startswith("Muon of torch") else 2):
        monitor, rho, way = run(case, steps, schedule, seed)
        (seen,) = [f for f in monitor.forecasts() if f.group == "w"]
        assert math.isfinite(seen.equilibrium_angle), seen.why
        angle, norm = seen.equilibrium_angle, seen.equilibrium_rho
        if scheduled:  # the norm lags behind its equilibrium, and the angle with it
            power = {"sgd": 2, "normalised": 1, "relative": 0}[monitor.rates[1].law]
            angle, norm = angle * (norm / way) ** power, way
        angles.append(seen.angle / angle)
        norms.append(rho / norm)
    assert np.mean(angles) == pytest.approx(1.0, rel=CLOSE)
    assert np.mean(norms) == pytest.approx(1.0, rel=CLOSE)

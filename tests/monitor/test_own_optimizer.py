"""A Monitor of an optimizer of the user's own: its traits decide rates, forecasts and what the run folder says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_nets import FREE, net, train
from torch import nn
from torch.optim import Optimizer

from scaleinv import Monitor, OptimizerTraits, equilibrium, register_optimizer
from scaleinv.monitor.sinks import RunFolder
from scaleinv.theory import optimizers

LR, WD = 0.01, 0.5


class Signs(Optimizer):
    """Steps of ``d lr`` along the sign of the gradient; weight decay shrinks the weights ``clocked`` times."""

    def __init__(self, params: Any, clocked: float = 3.0, d: float = 1.0) -> None:
        super().__init__(params, {"lr": LR, "weight_decay": WD, "clocked": clocked, "d": d})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rate = group["d"] * group["lr"]
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - rate * group["weight_decay"]).sub_(p.grad.sign(), alpha=rate)


@pytest.fixture(autouse=True)
def _own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "_TRAITS", dict(optimizers._TRAITS))


def rest(options: Any, lr: float, wd: float, measured: Any) -> Any:
    return equilibrium("lion", lr, wd, beta1=0.0, beta2=0.0, dimension=measured.dimension)


def traits(**more: Any) -> OptimizerTraits:
    return OptimizerTraits("normalised", "decoupled", lambda options: options["clocked"], **more)


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    named = dict(model.named_parameters())
    free = [named[name] for name in FREE]
    return [{"params": free}, {"params": [p for n, p in named.items() if n not in FREE], "clocked": math.nan}]


@pytest.mark.parametrize("known", [True, False])
def test_traits_are_in_the_folder_the_rates_and_the_forecasts(known: bool, tmp_path: Path) -> None:
    if known:
        register_optimizer(Signs, traits(equilibrium=rest))
    model = net()
    optimizer = Signs(groups_of(model))
    with Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(tmp_path / "run", form="jsonl")) as monitor:
        train(model, optimizer, 12, monitor)
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["format"] == 4
    (stored,) = content["config"]["optimizers"]
    assert stored["class"] == "Signs"
    assert [group["lr"] for group in stored["groups"]] == [LR, LR]
    one, h = monitor.rates[1], monitor.history()
    (ahead,) = [f for f in monitor.forecasts() if f.group == "0.weight"]
    if known:
        assert (stored["law"], stored["decay"]) == ("normalised", "decoupled")
        assert [group["clock"] for group in stored["groups"]] == [3.0, None]  # NaN has no word in JSON
        assert (one.lr, one.wd, one.law, one.direct, one.pace) == (LR, WD, "normalised", True, 3.0)
        np.testing.assert_allclose(h["0.weight/elr"], LR / h["0.weight/rho"], rtol=1e-12)
        np.testing.assert_allclose(h["0.weight/decay"], LR * WD * h["0.weight/rho"], rtol=1e-12)
        wanted = equilibrium("lion", LR, WD, beta1=0.0, beta2=0.0, dimension=96)
        assert (ahead.equilibrium_angle, ahead.equilibrium_rho) == (wanted.angle, wanted.norm)
        assert ahead.equilibrium_elr == pytest.approx(LR / wanted.norm, rel=1e-12)
    else:
        assert (stored["law"], stored["decay"]) == ("measured", "coupled")
        assert [group["clock"] for group in stored["groups"]] == [None, None]
        assert (one.law, one.direct, one.pace) == ("measured", False, 1.0)
        assert np.isnan(h["0.weight/decay"]).all()
        assert ahead.why == "no equilibrium formula for Signs as it is set"


def test_the_factor_of_the_rate_is_the_one_of_the_step() -> None:
    """As Prodigy's ``d``, which grows while training goes on."""
    register_optimizer(Signs, traits(rate_factor=lambda options: options["d"]))
    model = net()
    optimizer = Signs(groups_of(model), d=0.25)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)

    def grow(step: int) -> None:
        for group in optimizer.param_groups:
            group["d"] = 0.25 * 2**step

    train(model, optimizer, 4, monitor, change=grow)
    h = monitor.history()
    np.testing.assert_allclose(h["0.weight/lr"], LR * np.array([0.25, 0.5, 1.0, 2.0]), rtol=1e-12)
    np.testing.assert_allclose(h["0.weight/elr"], h["0.weight/lr"] / h["0.weight/rho"], rtol=1e-12)
    # independent: the sign of every gradient is a step of one length, which only the right rate gives
    radial, tangential = h["0.weight/radial"] + h["0.weight/decay"], h["0.weight/tangential"]
    np.testing.assert_allclose(np.hypot(radial, tangential), h["0.weight/lr"] * math.sqrt(96), rtol=1e-5)

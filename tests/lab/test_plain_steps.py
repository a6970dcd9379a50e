"""The quick steps of plain SGD on one sphere are those of the Sphere, bit for bit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from tests.lab import own

from scaleinv.lab.build import Setup, build
from scaleinv.lab.config import Settings
from scaleinv.lab.data import load_dataset
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import recorder_of, train_step

STEPS = 12
CASES: dict[str, dict[str, Any]] = {
    "mlp": {"model": "mlp"},
    "convnet": {"model": "convnet"},
    "trained head": {"model": "convnet", "variant": "standard"},
    "schedule": {"model": "mlp", "schedule": "cosine", "warmup": 3},
    "long steps": {"model": "mlp", "elr": 3.0},
    "large tensors": {"model": "mlp", "width": 320},
    "own": {"own": True},
}


def pair(said: dict[str, Any]) -> tuple[Setup, Setup]:
    source = own.problem() if said.get("own") else load_dataset("digits", subset=64)
    fields = {name: value for name, value in said.items() if name not in ("own", "elr")}
    settings = Settings(steps=STEPS, batch_size=16, **({} if said.get("own") else {"width": 4, "subset": 64} | fields))
    config = resolve(settings, source, elr=said.get("elr", 1e-3), lr=None, seed=0, threads=1)
    quick = build(config, source)
    assert quick.plain is not None
    return quick, dataclasses.replace(build(config, source), plain=None)


@pytest.mark.parametrize("name", CASES)
def test_the_same_steps(name: str) -> None:
    torch.set_num_threads(1)
    results = []
    taken = 0
    for setup in pair(CASES[name]):
        recorder = recorder_of(setup, STEPS)
        if setup.plain is not None:
            take = setup.plain.take

            def counted(rate: float, square: float | None, take: Any = take) -> bool:
                nonlocal taken
                done = take(rate, square)
                taken += done
                return bool(done)

            setup.plain.take = counted  # type: ignore[method-assign]
        setup.model.train()
        for k in range(STEPS):
            setup.set_rates(k)
            torch.manual_seed(k)  # of the dropout
            train_step(setup, recorder, [setup.train.batch(torch.arange(16 * k, 16 * k + 16) % len(setup.train))])
        rows = [tuple(row) for row in recorder.flush(STEPS, 1)]
        results.append((setup.model.state_dict(), rows, setup.sphere.steps if setup.sphere else -1, repr(setup.sphere)))
    (mine, rows, steps, words), (theirs, *others) = results
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert [repr(x) for x in (rows, steps, words)] == [repr(x) for x in others]
    assert taken < STEPS if name == "long steps" else taken == STEPS


def test_a_gradient_that_is_not_finite_is_left_to_the_sphere() -> None:
    setup, _ = pair(CASES["mlp"])
    assert setup.plain is not None
    for p in setup.plain.parameters:
        p.grad = torch.full_like(p, math.nan)
    before = {name: value.clone() for name, value in setup.model.state_dict().items()}
    assert not setup.plain.take(1.0, math.nan)
    assert not setup.plain.take(1.0, None)
    assert all(torch.equal(before[name], value) for name, value in setup.model.state_dict().items())
    setup.plain.clear()
    assert not setup.plain.take(1.0, None)  # no gradient at all


def test_other_optimizers_and_spheres_step_by_themselves() -> None:
    data = load_dataset("digits", subset=64)
    for said in ({"momentum": 0.9}, {"optimizer": "adam"}, {"granularity": "group"}):
        config = resolve(Settings(steps=2, subset=64, **said), data, elr=0.1, lr=None, seed=0, threads=1)
        assert build(config, data).plain is None

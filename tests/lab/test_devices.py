"""Every device: nothing is made where torch happens to make it, and the same run on every device there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lab import own
from tests.lab.explicit import SOURCE, ExplicitDevices

import scaleinv as si
from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.data import load_dataset
from scaleinv.lab.devices import choose_device
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import run

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


def test_the_mode_sees_a_tensor_of_the_package_without_a_device() -> None:
    """It would see one, and only ours."""
    code = compile("import torch\nmade = torch.zeros(3)", f"{SOURCE}/lab/sloppy.py", "exec")
    with ExplicitDevices(), pytest.raises(AssertionError, match=r"zeros without a device at .*sloppy.py:2"):
        exec(code, {})
    with ExplicitDevices():
        torch.zeros(3)
        exec(compile("import torch\nmade = torch.zeros(3, device='cpu')", f"{SOURCE}/lab/sloppy.py", "exec"), {})


@pytest.mark.parametrize(
    "options",
    [
        {"elr": 0.1, "augment": True, "schedule": "cosine"},
        {"elr": 10.0, "granularity": "row", "momentum": 0.9, "gradient": "accumulate"},
        {
            "lr": 0.1,
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "variant": "standard",
            "loss": "mse",
            "label_noise": 0.1,
        },
    ],
)
def test_a_run_of_the_package_names_every_device(tmp_path: Path, options: dict[str, Any]) -> None:
    said = {name: value for name, value in options.items() if name not in ("elr", "lr")}
    with ExplicitDevices():
        data = load_dataset("digits", subset=64, label_noise=said.get("label_noise", 0.0))
        config = resolve(
            Settings(subset=64, epochs=3, width=4, **said),
            data,
            elr=options.get("elr"),
            lr=options.get("lr"),
            seed=0,
            threads=1,
        )
        assert run(config, data, tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize("name", ["problem", "jittered", "regression", "language"])
def test_a_run_of_ones_own_names_every_device(tmp_path: Path, name: str) -> None:
    with ExplicitDevices():
        problem = getattr(own, name)()
        config = resolve(Settings(epochs=2), problem, elr=100.0, lr=None, seed=0, threads=1)
        assert run(config, problem, tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["problem", "jittered", "regression", "language"])
def test_a_run_on_every_device_goes_on_bit_for_bit(tmp_path: Path, device: str, name: str) -> None:
    make = getattr(own, name)
    config = resolve(Settings(epochs=2), make(), elr=0.1, lr=None, seed=0, threads=1, device=device)
    assert config.device == device
    results = []
    for folder in ("a", "b"):
        run(config, make(), tmp_path / folder)
        results.append(si.load(tmp_path / folder).series("online", "total", "loss")[1].tolist())
    assert results[0] == results[1]
    on_cpu = resolve(Settings(epochs=2), make(), elr=0.1, lr=None, seed=0, threads=1)
    run(on_cpu, make(), tmp_path / "cpu")
    there = si.load(tmp_path / "cpu").series("online", "total", "loss")[1].tolist()
    assert results[0] == pytest.approx(there, rel=1e-3)
    assert (config.identity() == on_cpu.identity()) == (device == "cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "is not understood"),
        ("cuda:123", "is not there"),
        ("meta", "nothing is trained there"),
        ("cpu:x", "not understood"),
    ],
)
def test_devices_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_device(text)


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert choose_device("auto") == DEVICES[-1] if len(DEVICES) < 3 else "cuda"

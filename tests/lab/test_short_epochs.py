"""Epochs of few steps wait for each other to be written: the same bits, every epoch told, nothing lost by a stop."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from scaleinv.lab import train
from scaleinv.lab.config import RunConfig, Settings
from scaleinv.lab.data import Dataset, load_dataset
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import RunEvent, Stopped, run

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "steps": {"record_steps": True},
    "momentum": {"momentum": 0.9, "granularity": "group"},
    "more-than-one-radial-part": {"batch_size": 2, "momentum": 0.9},
    "diverges": {"lr": 1e30, "elr": None, "variant": "standard"},
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits", subset=160)


def config_of(data: Dataset, options: dict[str, Any]) -> RunConfig:
    said = {"model": "mlp", "subset": 160, "batch_size": 20, "width": 4, "epochs": 9, "eval_every": 8} | options
    rates = {"elr": said.pop("elr", 1e-2), "lr": said.pop("lr", None)}
    return resolve(Settings(**said), data, **rates, seed=0, threads=1)


def written(folder: Path) -> list[tuple[str, str]]:
    files = [*(folder / "metrics").iterdir(), *(folder / "checkpoints").glob("*/weights.safetensors")]
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(files)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_those_of_epochs_written_one_by_one(
    kind: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[float, list[Any]] = {0.0: [], math.inf: []}
    config = config_of(data, KINDS[kind])
    for wait, events in told.items():
        monkeypatch.setattr(train, "EPOCHS_WAIT", wait)

        def watch(event: RunEvent, events: list[Any] = events) -> None:
            if event.kind == "epoch":
                events.append((event.step, event.epoch, repr(event.numbers)))

        result = run(config, data, tmp_path / str(wait), watch=watch)
        assert result["status"] == ("diverged" if kind == "diverges" else "finished")
    assert told[0.0] == told[math.inf]
    assert [epoch for _, epoch, _ in told[0.0]] == list(range(1, len(told[0.0]) + 1))
    assert written(tmp_path / "0.0") == written(tmp_path / "inf")


@pytest.mark.parametrize("kind", ["steps", "momentum"])
def test_a_checkpoint_holds_the_epochs_that_waited(
    kind: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of an epoch, when several before it were still waiting."""
    config = config_of(data, KINDS[kind])
    run(config, data, tmp_path / "whole")
    monkeypatch.setattr(train, "EPOCHS_WAIT", math.inf)
    asked = iter(range(1000))
    events: list[RunEvent] = []
    with pytest.raises(Stopped, match="stopped at step 43 of 72"):
        run(config, data, tmp_path / "parts", watch=events.append, stop=lambda: next(asked) == 42)
    assert [event.epoch for event in events if event.kind == "epoch"] == [1, 2, 3, 4, 5]
    assert run(config, data, tmp_path / "parts")["status"] == "finished"
    assert written(tmp_path / "parts") == written(tmp_path / "whole")

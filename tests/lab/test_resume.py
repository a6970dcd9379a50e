"""A run interrupted at random steps ends with the bits of an uninterrupted one."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab import train
from scaleinv.lab.config import RunConfig, Settings, read_config
from scaleinv.lab.data import Dataset, load_dataset
from scaleinv.lab.recorder import StepRecorder
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.train import RunEvent, run
from scaleinv.runfolder.checkpoint import load_newest
from scaleinv.runfolder.layout import CONFIG, RESULT
from scaleinv.runfolder.seal import SEAL, TOKEN, digest_of, read_sealed

pytestmark = pytest.mark.numerics

SMALL = Settings(subset=100, batch_size=16, steps=40, width=4)
CASES: dict[str, tuple[Settings, dict[str, float]]] = {
    "sphere": (SMALL, {"elr": 0.03}),
    "sphere, momentum, mlp": (dataclasses.replace(SMALL, model="mlp", momentum=0.9), {"elr": 0.01}),
    "sphere, augmented, label noise": (
        dataclasses.replace(SMALL, augment=True, label_noise=0.2, momentum=0.9),
        {"elr": 0.01},
    ),
    "whole space, weight decay": (dataclasses.replace(SMALL, weight_decay=0.01, momentum=0.9), {"lr": 0.1}),
    "standard, one sphere a tensor, online": (
        dataclasses.replace(SMALL, variant="standard", granularity="tensor", evaluation="online", momentum=0.5),
        {"elr": 0.01},
    ),
    "rows": (dataclasses.replace(SMALL, granularity="row", momentum=0.9, loss="mse"), {"elr": 0.01}),
    "resnet, joint groups": (dataclasses.replace(SMALL, model="resnet18", width=2, steps=16), {"elr": 0.01}),
    "adam, cosine, kept weights, steps": (
        dataclasses.replace(SMALL, optimizer="adam", schedule="cosine", keep_every=2, record_steps=True),
        {"elr": 0.01},
    ),
    "adamw, warmup, steps": (
        dataclasses.replace(SMALL, optimizer="adamw", weight_decay=0.1, warmup=9, schedule="step:0.1@0.5,0.8"),
        {"lr": 0.01},
    ),
    "standard, linear, whole space": (
        dataclasses.replace(SMALL, variant="standard", weight_decay=0.01, momentum=0.9, schedule="linear", warmup=3),
        {"lr": 0.1},
    ),
    "stages on the sphere": (dataclasses.replace(SMALL, schedule="stages:0.3=10,0.7=0.1"), {"elr": 0.003}),
    "full batch": (dataclasses.replace(SMALL, gradient="full", weight_decay=0.1), {"lr": 0.3}),
    "accumulated, augmented": (dataclasses.replace(SMALL, gradient="accumulate", augment=True, steps=20), {"lr": 0.3}),
    "fixed norm, weight norm": (
        dataclasses.replace(SMALL, normalization="weight", fix_norm=True, norm=9.0, weight_decay=0.1, keep_every=1),
        {"lr": 0.01},
    ),
    "layer norm": (dataclasses.replace(SMALL, normalization="layer"), {"elr": 0.01}),
}


class Interrupted(Exception):
    pass


def configure(settings: Settings, rate: dict[str, float]) -> tuple[RunConfig, Dataset]:
    data = load_data(settings)
    return resolve(settings, data, elr=rate.get("elr"), lr=rate.get("lr"), seed=3, threads=1), data


def content(folder: Path) -> dict[str, Any]:
    """Everything that must be equal, as bytes or tensors."""
    found, complaints = load_newest(folder / "checkpoints", folder / "metrics")
    assert found is not None
    assert complaints == []
    config = read_config(folder)
    assert config is not None
    files = ["part-final.parquet"] + ["steps-final.parquet"] * config.record_steps
    assert sorted(p.name for p in (folder / "metrics").iterdir()) == files
    assert [p.name for p in (folder / "checkpoints").iterdir()] == [found.folder.name]
    result = read_sealed(folder / RESULT)  # compared with its checksum, which holds times
    del result["timing"]
    return {
        "weights": {name: tensor.numpy().tobytes() for name, tensor in found.weights.items()},
        "state": flatten(found.state),
        "rows": pq.read_table(folder / "metrics" / "part-final.parquet").to_pydict() | {"value": None},
        "bytes": [(folder / "metrics" / name).read_bytes() for name in files],
        "kept": {path.name: path.read_bytes() for path in sorted((folder / "weights").glob("*"))},
        "result": result,
    }


def flatten(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return (state.stride(), state.contiguous().numpy().tobytes())
    if isinstance(state, dict):
        return {key: flatten(value) for key, value in state.items()}
    return [flatten(value) for value in state] if isinstance(state, (list, tuple)) else state


def interrupt(monkeypatch: pytest.MonkeyPatch, draw: random.Random, within: int) -> None:
    """Stop the next run after 1 to ``within`` steps, with checkpoints written at random moments before."""
    left = draw.randint(1, within)
    after_step, save_if_due = StepRecorder.after_step, train._Run.save_if_due

    def counted(self: StepRecorder, rates: Any) -> None:
        nonlocal left
        after_step(self, rates)
        left -= 1
        if left == 0:
            raise Interrupted

    def sometimes(self: train._Run) -> None:
        if draw.random() < 0.4:
            save_if_due(self)

    monkeypatch.setattr(StepRecorder, "after_step", counted)
    monkeypatch.setattr(train._Run, "save_if_due", sometimes)


@pytest.mark.parametrize("case", CASES)
def test_bits_of_an_interrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    config, data = configure(*CASES[case])
    whole = run(config, data, tmp_path / "whole")
    assert whole["status"] == "finished"
    draw = random.Random(case)
    resumed = interruptions = 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
            patch.setattr(train, "CHECKPOINT_SHARE", math.inf)
            interrupt(patch, draw, config.steps // 2)
            events: list[RunEvent] = []
            try:
                result = run(config, data, tmp_path / "broken", watch=events.append)
            except Interrupted:
                interruptions += 1
                assert not (tmp_path / "broken" / "result.json").exists()
            else:
                break
            finally:
                resumed += any(event.kind == "resumed" and event.step > 0 for event in events)
        assert interruptions < 100
    assert interruptions >= 2
    assert resumed >= 2
    assert result["steps"] == config.steps
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_the_watcher_may_interrupt(tmp_path: Path) -> None:
    """Nothing was saved yet: the run starts again, with the same bits."""
    config, data = configure(*CASES["sphere"])

    def stop(event: RunEvent) -> None:
        if event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, data, tmp_path / "broken", watch=stop)
    run(config, data, tmp_path / "broken")
    run(config, data, tmp_path / "whole")
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", ["checkpoint", "final part", "result"])
def test_killed_within_the_last_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    config, data = configure(*CASES["sphere"])
    run(config, data, tmp_path / "whole")
    from scaleinv.runfolder import store

    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(train, "CHECKPOINT_SHARE", math.inf)
        if name == "result":
            patch.setattr(store.RunStore, "write_result", stop)
        elif name == "final part":
            patch.setattr(
                store.RunStore,
                "_drop_stale_parts",
                lambda self: stop() if "part-final.parquet" in self._parts else None,
            )
        else:
            save = store.save_checkpoint
            patch.setattr(store, "save_checkpoint", lambda *a, **k: stop() if k.get("keep") == 1 else save(*a, **k))
        with pytest.raises(Interrupted):
            run(config, data, tmp_path / "broken")
    events: list[RunEvent] = []
    run(config, data, tmp_path / "broken", watch=events.append)
    first = next(event for event in events if event.kind == "resumed")
    assert first.step == (config.steps if name != "checkpoint" else config.steps - 1)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_a_damaged_checkpoint_costs_time_but_no_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, data = configure(*CASES["sphere"])
    run(config, data, tmp_path / "whole")
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(train, "CHECKPOINT_SHARE", math.inf)
        left = 30
        after_step = StepRecorder.after_step

        def stop_at_30(self: StepRecorder, rates: Any) -> None:
            nonlocal left
            after_step(self, rates)
            left -= 1
            if left == 0:
                raise Interrupted

        patch.setattr(StepRecorder, "after_step", stop_at_30)
        with pytest.raises(Interrupted):
            run(config, data, broken)
    newest, before = sorted((broken / "checkpoints").glob("step-*"), reverse=True)
    assert (newest.name, before.name) == ("step-000000029", "step-000000028")
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    events: list[RunEvent] = []
    run(config, data, broken, watch=events.append)
    notices = [event.message for event in events if event.kind == "notice"]
    assert notices == [
        "checkpoint step-000000029 is damaged (the checksum of step-000000029/weights.safetensors is wrong) "
        "and is passed over",
        "the run resumes from step-000000028",
    ]
    assert content(broken) == content(tmp_path / "whole")


def test_a_damaged_result_is_written_anew(tmp_path: Path) -> None:
    config, data = configure(*CASES["sphere"])
    run(config, data, tmp_path / "run")
    before = content(tmp_path / "run")
    for damaged in ("", '{"status": "finished"}', "[]", '{"status": NaN}'):
        (tmp_path / "run" / "result.json").write_text(damaged)
        events: list[RunEvent] = []
        run(config, data, tmp_path / "run", watch=events.append)
        assert [event.kind for event in events] == ["notice", "resumed", "ended"]
        assert "result.json" in events[0].message
        assert content(tmp_path / "run") == before


def test_a_run_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    config, data = configure(*CASES["sphere"])
    first = run(config, data, tmp_path / "run")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    events: list[RunEvent] = []
    assert run(config, data, tmp_path / "run", watch=events.append) == first
    assert events == []
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_other_images_are_refused(tmp_path: Path) -> None:
    config, _ = configure(*CASES["sphere"])
    other = load_dataset("digits", subset=101)
    with pytest.raises(UserError, match="the images of digits are not those the run was made for"):
        run(config, other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"normalization": "instance"},
        {"norm_eps": 0.0},
        {"head_norm": math.nan},
        {"granularity": "row", "model": "resnet18"},
    ],
)
def test_an_impossible_network_leaves_nothing_behind(tmp_path: Path, change: dict[str, Any]) -> None:
    config, data = configure(*CASES["sphere"])
    with pytest.raises(UserError):
        run(dataclasses.replace(config, **change), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert run(config, data, tmp_path / "run")["status"] == "finished"


def test_disk_full_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, data = configure(*CASES["sphere"])
    run(config, data, tmp_path / "whole")
    write, calls = os.write, 0

    def full(handle: int, data: Any) -> int:
        nonlocal calls
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name.startswith(".part-"):
            calls += 1
            if calls > 3:
                raise OSError(28, "No space left on device")
            if calls > 2:  # half of the third part, before
                return write(handle, bytes(data)[: len(data) // 2])
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(train, "CHECKPOINT_SHARE", math.inf)
        patch.setattr(os, "write", full)
        with pytest.raises(
            UserError, match=r"cannot write .*part-\d+.parquet: No space left on device; what was saved"
        ):
            run(config, data, tmp_path / "full")
    assert list((tmp_path / "full" / "checkpoints").glob("step-*"))
    assert not list((tmp_path / "full" / "metrics").glob(".part*"))
    events: list[RunEvent] = []
    run(config, data, tmp_path / "full", watch=events.append)
    assert events[0].kind == "resumed"
    assert events[0].step > 0
    assert content(tmp_path / "full") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("rate", "settings", "message"),
    [
        ({"elr": 1e30}, SMALL, "step 0 at ELR 1e+30 leaves "),
        ({"lr": 1e30}, dataclasses.replace(SMALL, variant="standard"), "step 1 leaves weights that are not finite"),
    ],
)
def test_a_diverged_run_is_a_result(tmp_path: Path, rate: dict[str, float], settings: Settings, message: str) -> None:
    config, data = configure(settings, rate)
    result = run(config, data, tmp_path / "run")
    assert result["status"] == "diverged"
    assert message in result["message"]
    rows = pq.read_table(tmp_path / "run" / "metrics" / "part-final.parquet").to_pylist()
    assert any(row["split"] == "train" and math.isfinite(row["value"]) for row in rows)
    if "lr" in rate:
        online = {row["quantity"]: row["value"] for row in rows if (row["split"], row["group"]) == ("online", "total")}
        assert math.isnan(online["loss"])
        assert math.isnan(online["rho"])
    held = json.loads((tmp_path / "run" / RESULT).read_text())
    assert held.pop(SEAL) == digest_of(held)
    assert held.pop(TOKEN) == json.loads((tmp_path / "run" / CONFIG).read_text())[TOKEN]
    assert run(config, data, tmp_path / "run") == held

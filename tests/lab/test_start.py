"""Runs that start from others: what they start with, what they remember, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start, find_starts
from scaleinv.lab.weights import kept_epochs, read_weights, rebuild
from scaleinv.runfolder.seal import unchecked
from scaleinv.studies.obtain import Request, obtain, obtain_many
from scaleinv.studies.sweep import SweepConfig, run_sweep

SMALL = Settings(model="mlp", subset=64, batch_size=16, epochs=6, width=4, keep_every=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def parent(root: Path) -> Path:
    return obtain(root, SMALL, elr=0.02)


def test_kept_weights(parent: Path) -> None:
    assert kept_epochs(parent) == [0, 2, 4, 6]
    at = {epoch: read_weights(parent, epoch) for epoch in kept_epochs(parent)}
    assert all(torch.equal(w, at[6][name]) for name, w in read_weights(parent).items())
    assert not torch.equal(at[2]["layers.0.weight"], at[4]["layers.0.weight"])
    fresh = rebuild(parent, 0)
    assert torch.equal(fresh.model.state_dict()["layers.0.weight"], at[0]["layers.0.weight"])


def test_the_weights_kept_are_those_of_a_run_that_ended_there(root: Path, parent: Path) -> None:
    shorter = obtain(root, dataclasses.replace(SMALL, epochs=4), elr=0.02)
    for name, w in read_weights(shorter).items():
        assert torch.equal(w, read_weights(parent, 4)[name])


def test_a_run_starts_with_the_weights_of_the_other(root: Path, parent: Path) -> None:
    child = obtain(root, SMALL, elr=0.02, start=parent, start_epoch=4)
    assert all(torch.equal(w, read_weights(parent, 4)[name]) for name, w in read_weights(child, 0).items())
    head = json.loads((child / "config.json").read_text())
    assert head["lineage"]["epoch"] == 4
    assert head["lineage"]["run"] == parent.name
    assert head["lineage"]["elr"] == 0.02
    assert head["config"]["start"] == head["lineage"]["weights"]


def test_from_the_last_weights_another_rate_and_another_seed(root: Path, parent: Path) -> None:
    runs = obtain_many(
        root,
        [
            Request(settings=SMALL, elr=0.02, start=parent),
            Request(settings=SMALL, elr=0.04, start=parent),
            Request(settings=SMALL, elr=0.02, start=parent, seed=1),
            Request(settings=SMALL, lr=0.02, start=parent),
        ],
    )
    assert len(set(runs)) == 4
    starts = [read_weights(folder, 0)["layers.1.weight"] for folder in runs]
    assert all(torch.equal(starts[0], other) for other in starts)
    ends = [read_weights(folder)["layers.1.weight"] for folder in runs]
    assert not any(torch.equal(ends[0], other) for other in ends[1:])


def test_an_interrupted_child_needs_its_parent_no_more(
    root: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scaleinv.lab import train

    whole = obtain(root, SMALL, elr=0.03, start=parent)
    copy = tmp_path / "parent"
    shutil.copytree(parent, copy)
    start = find_start(str(copy))
    data = load_data(SMALL)
    from scaleinv.lab.resolve import resolve

    config = resolve(SMALL, data, elr=0.03, lr=None, seed=0, threads=1, start=start.checksum)

    class Stop(Exception):
        pass

    def stop(event: train.RunEvent) -> None:
        if event.kind == "epoch" and event.epoch == 3:
            raise Stop

    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 1e9)
    with pytest.raises(Stop):
        train.run(config, data, tmp_path / "child", start=start, watch=stop)
    shutil.rmtree(copy)
    train.run(config, data, tmp_path / "child")
    for name, w in read_weights(whole).items():
        assert torch.equal(w, read_weights(tmp_path / "child")[name])
    with pytest.raises(UserError, match="whose weights are needed: give --from"):
        train.run(config, data, tmp_path / "other")


def test_a_sweep_from_every_run_of_a_sweep(root: Path, tmp_path: Path) -> None:
    data = load_data(SMALL)
    from scaleinv.lab.resolve import resolve

    base = resolve(SMALL, data, elr=0.01, lr=None, seed=0, threads=1)
    run_sweep(SweepConfig(base, "elr", (0.01, 0.02), (0, 1)), data, tmp_path / "first", workers=1)
    starts = find_starts(str(tmp_path / "first"))
    assert [(s.config.elr, s.config.seed) for s in starts] == [(0.01, 0), (0.01, 1), (0.02, 0), (0.02, 1)]
    second = SweepConfig(base, "elr", (0.005, 0.03), (), starts=starts)
    outcomes = run_sweep(second, data, tmp_path / "second", workers=1)
    assert len({o.job.folder for o in outcomes}) == 8
    for outcome in outcomes:
        lineage = json.loads((outcome.job.folder / "config.json").read_text())["lineage"]
        assert lineage["weights"] == outcome.job.config.start
        assert lineage["seed"] == outcome.job.config.seed
    again = run_sweep(second, data, tmp_path / "second", workers=1)
    assert [o.job.folder for o in again] == [o.job.folder for o in outcomes]


def test_a_sweep_over_rate_and_weight_decay(tmp_path: Path) -> None:

    data = load_data(SMALL)
    base = resolve(dataclasses.replace(SMALL, weight_decay=0.1), data, elr=None, lr=0.1, seed=0, threads=1)
    sweep = SweepConfig(base, "lr", (0.1, 0.2), (0,), (0.1, 0.01))
    outcomes = run_sweep(sweep, data, tmp_path / "sweep", workers=1)
    assert [(o.job.config.lr, o.job.config.weight_decay) for o in outcomes] == [
        (0.1, 0.1),
        (0.2, 0.1),
        (0.1, 0.01),
        (0.2, 0.01),
    ]
    with pytest.raises(UserError, match="weight_decays"):
        run_sweep(dataclasses.replace(sweep, weight_decays=(0.1,)), data, tmp_path / "sweep", workers=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{parent}@1", "has not kept the weights of epoch 1 .kept: 4 from 0 to 6"),
        ("{parent}@", "no epoch after the @; write .*@EPOCH, or .* for its last weights"),
        ("{parent}@x", "'x' is not a whole number of epochs"),
        ("{parent}/metrics", "is not the folder of a run"),
        ("/nowhere", "is not the folder of a run"),
    ],
)
def test_what_is_no_start(parent: Path, text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        find_start(text.format(parent=parent))
    with pytest.raises(UserError, match=why):
        find_starts(text.format(parent=parent))


def test_damaged_weights_are_no_start(parent: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(parent, copy)
    file = find_start(copy).file
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"weights.safetensors is damaged .*: restore it or remove the run's folder"):
        read_weights(copy)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged .*: restore it or remove the run's folder"):
        obtain(tmp_path / "runs", SMALL, elr=0.02, start=copy)
    with (
        unchecked(),
        pytest.raises(UserError, match=r"weights.safetensors is damaged .*; restore it or train the run again$"),
    ):
        obtain(tmp_path / "runs", SMALL, elr=0.02, start=copy)


def test_weights_of_another_network_are_refused(root: Path, parent: Path) -> None:
    with pytest.raises(UserError, match=r"is of another network than this run .width 5.; give --width 4 as well"):
        obtain(root, dataclasses.replace(SMALL, width=5), elr=0.02, start=parent)


def test_a_diverged_run_is_no_start(root: Path) -> None:
    settings = dataclasses.replace(SMALL, variant="standard", keep_every=1)
    folder = obtain(root, settings, lr=1e30)
    assert json.loads((folder / "result.json").read_text())["status"] == "diverged"
    with pytest.raises(UserError, match="diverged, its last weights are not finite"):
        find_start(folder)
    assert find_start(f"{folder}@0").epoch == 0


def test_a_frozen_head_comes_with_the_weights(parent: Path) -> None:
    settings = dataclasses.replace(SMALL, head_norm=1.5)
    with pytest.raises(UserError, match="head-norm"):
        obtain_many(parent.parent, [Request(settings=settings, elr=0.02, start=parent)])

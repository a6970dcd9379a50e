"""A run that has ended is prolonged: to the same weights as if it had been meant to be so long."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.lab import own

import scaleinv as si
from scaleinv.cli import run as scaleinv
from scaleinv.errors import UserError
from scaleinv.lab.config import read_config
from scaleinv.lab.prolong import prolong

TRAIN = [
    *("train", "--data", "digits", "--subset", "64", "--model", "mlp", "--width", "4", "--threads", "1"),
    *("--quiet", "--json", "--device", "cpu"),
]


def train(out: Path, *flags: str) -> int:
    return scaleinv([*TRAIN, "--out", str(out), *flags])


def weights(folder: Path) -> dict[str, Any]:
    (checkpoint,) = (folder / "checkpoints").glob("step-*")
    return load_file(checkpoint / "weights.safetensors")


@pytest.mark.parametrize("flags", [["--elr", "0.1"], ["--lr", "0.1", "--momentum", "0.9"]])
def test_a_prolonged_run_ends_where_a_long_one_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert train(tmp_path / "run", *flags, "--epochs", "3") == 0
    assert train(tmp_path / "run", *flags, "--epochs", "6") == 0
    assert train(tmp_path / "long", *flags, "--epochs", "6") == 0
    capsys.readouterr()
    short, long = si.load(tmp_path / "run"), si.load(tmp_path / "long")
    assert (short.identity, short.config) == (long.identity, long.config)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(tmp_path / "run").values(), weights(tmp_path / "long").values())
    )
    for quantity in ("loss", "rho", "angle"):
        epochs, values = short.series("online", "total", quantity)
        assert epochs.tolist() == [1, 2, 3, 4, 5, 6]
        assert values.tolist() == long.series("online", "total", quantity)[1].tolist()
    assert train(tmp_path / "run", *flags, "--epochs", "6") == 0  # a run that has ended is shown


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (
            ["--epochs", "3", "--schedule", "cosine"],
            ["--epochs", "5", "--schedule", "cosine"],
            "the schedule cosine has run",
        ),
        (["--steps", "5"], ["--steps", "9"], "it ended within an epoch of 4 steps"),
        (["--epochs", "3"], ["--epochs", "2"], "holds another run (steps 12 there, 8 here)"),
        (["--epochs", "3"], ["--epochs", "5", "--seed", "1"], "holds another run"),
    ],
)
def test_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: list[str], then: list[str], message: str
) -> None:
    assert train(tmp_path / "run", "--elr", "0.1", *first) == 0
    before = (tmp_path / "run" / "config.json").read_bytes()
    capsys.readouterr()
    assert train(tmp_path / "run", "--elr", "0.1", *then) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"


def test_a_run_that_has_not_ended_is_not_prolonged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run", "--elr", "0.1", "--epochs", "2") == 0
    (tmp_path / "run" / "result.json").unlink()
    config = read_config(tmp_path / "run")
    assert config is not None
    with pytest.raises(UserError, match="has not ended; finish it first"):
        prolong(tmp_path / "run", dataclasses.replace(config, steps=config.steps * 2))


def sweep(out: Path, epochs: int, **said: Any) -> Any:
    rates = {} if "lr" in said else {"elr": "0.1,1"}
    task = own.regression() if "lr" in said else own.problem()
    return si.sweep(task, out=out, epochs=epochs, workers=1, device="cpu", quiet=True, **rates, **said)


@pytest.mark.parametrize("said", [{}, {"lr": "0.001,1e20", "momentum": 0.5}])
def test_a_prolonged_sweep_is_the_long_one(tmp_path: Path, said: dict[str, Any]) -> None:
    """Of the runs in the whole space one diverges: longer, it diverges at the same step."""
    before = {run.config["lr"] or run.config["elr"]: run for run in sweep(tmp_path / "short", 3, **said).runs}
    names = {run.folder.name for run in before.values()}
    short, long = sweep(tmp_path / "short", 6, **said), sweep(tmp_path / "long", 6, **said)
    assert [run.identity for run in short.runs] == [run.identity for run in long.runs]
    assert not names & {path.name for path in (tmp_path / "short" / "runs").iterdir()}
    for one, other in zip(short.runs, long.runs):
        assert (one.result["status"], one.result["steps"]) == (other.result["status"], other.result["steps"])
        mine, theirs = weights(one.folder), weights(other.folder)
        assert all(torch.equal(mine[name], theirs[name]) or mine[name].isnan().any() for name in theirs)
        steps = before[one.config["lr"] or one.config["elr"]].result["steps"]
        assert (one.result["steps"] > steps) == (one.result["status"] == "finished")
    assert ("diverged" in {run.result["status"] for run in short.runs}) == ("lr" in said)
    kept = [json.loads((tmp_path / name / "sweep-config.json").read_text()) for name in ("short", "long")]
    of_the_folder = {"token", "checksum"}
    assert (
        len({json.dumps({k: v for k, v in one.items() if k not in of_the_folder}, sort_keys=True) for one in kept}) == 1
    )
    with pytest.raises(UserError, match="is the folder of another sweep"):  # it is longer now
        sweep(tmp_path / "short", 3, **said)


def test_a_sweep_that_was_killed_while_it_was_prolonged(tmp_path: Path) -> None:
    sweep(tmp_path / "one", 2)
    other = sweep(tmp_path / "other", 4)
    first, second = sorted((tmp_path / "one" / "runs").iterdir())
    config = read_config(first)
    assert config is not None
    first.rename(first.with_name(dataclasses.replace(config, steps=2 * config.steps).identity()))  # there it was killed
    one = sweep(tmp_path / "one", 4)
    assert [run.identity for run in one.runs] == [run.identity for run in other.runs]
    assert not second.exists()


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (
            {"schedule": "cosine"},
            {"schedule": "cosine"},
            "the schedule cosine has run to its end; choose another --out",
        ),
        ({}, {"momentum": 0.5}, "is the folder of another sweep"),
    ],
)
def test_a_sweep_that_cannot_be_prolonged(
    tmp_path: Path, first: dict[str, Any], then: dict[str, Any], message: str
) -> None:
    sweep(tmp_path / "run", 2, **first)
    before = sorted(str(path) for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(UserError, match=message):
        sweep(tmp_path / "run", 4, **then)
    assert before == sorted(str(path) for path in (tmp_path / "run").rglob("*"))


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    assert train(tmp_path / "run", "--elr", "0.1", "--epochs", "1") == 0
    assert train(tmp_path / "run", "--elr", "0.1", "--epochs", "2") == 0
    assert si.load(tmp_path / "run").series("online", "total", "loss")[0].tolist() == [1, 2]

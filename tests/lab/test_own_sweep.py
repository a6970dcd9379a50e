"""Sweeps of problems of one's own: regimes judged right, workers, results, the command line, other processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lab import own
from torch import nn

import scaleinv as si
from scaleinv.cli import run as scaleinv
from scaleinv.errors import UserError
from scaleinv.lab.launch.here import Here
from scaleinv.theory.guessing import guesses

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {"epochs": 24, "workers": 1, "quiet": True, "evaluation": "online", "device": "cpu"}
#: with a last layer that is not trained, so that huge steps leave nothing learned
FROZEN = {**QUICK, "variant": "si"}


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return si.sweep(own.problem(), elr="0.3,1000", out=tmp_path_factory.mktemp("sweep") / "s", **FROZEN)


def test_three_classes_are_judged_by_a_chance_of_two_thirds(classes: Any) -> None:
    learning, diverged = classes.summary["runs"]
    assert not guesses(learning["evidence"]["error"], 2 / 3)
    assert learning["regime"] != 3
    assert diverged["regime"] == 3
    assert diverged["evidence"]["chance_error"] == pytest.approx(2 / 3)
    assert "is chance" in diverged["evidence"]["reason"]


def test_a_sweep_that_has_not_ended_shows_what_there_is(classes: Any, tmp_path: Path) -> None:
    cut = shutil.copytree(classes.folder, tmp_path / "cut")
    (cut / "sweep.json").unlink()
    left = cut / "runs" / classes.summary["runs"][1]["run"]
    (left / "result.json").unlink()
    found = si.load(cut)
    assert "not ended: 1 of 2 runs; run the sweep again to go on" in str(found)
    judged, running = found.summary["runs"]
    assert judged == classes.summary["runs"][0]
    assert (running["status"], running["regime"]) == ("running", None)
    assert not found.boundaries["1/2"]["decided"]
    assert found.plot()
    shutil.rmtree(left)
    assert "not ended: 1 of 2 runs" in str(si.load(cut))


def test_a_sweep_shows_itself(classes: Any) -> None:
    assert "make_net on arrays" in str(classes)
    assert repr(classes) == str(classes)
    table = classes.to_pandas()
    assert table["elr"].tolist() == [0.3, 1000.0]
    assert table["regime_name"][1] == "divergence"
    assert "<svg" in classes._repr_html_()
    assert classes.plot().get_xscale() == "log"
    assert classes.boundaries.keys() == {"1/2", "2/3"}
    run = classes.runs[0]
    assert repr(run).startswith(f"<Run {run.name}: make_net on arrays, ELR 0.3, seed 0, finished after 24 epochs")
    tidy = run.to_pandas()
    losses = tidy[(tidy.split == "online") & (tidy.quantity == "loss")]
    assert losses["value"].tolist() == run.series("online", "total", "loss")[1].tolist()
    assert run.plot(["rho"]).get_lines()
    with pytest.raises(UserError, match="no quantity 'lss', did you mean 'loss'"):
        run.plot(["lss"])
    again = si.load(classes.folder)
    assert str(again) == str(classes)
    assert si.load(run.folder).config == run.config


def test_the_same_call_trains_nothing_again(classes: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in classes.folder.rglob("part-*.parquet")}
    si.sweep(own.problem(), elr="0.3,1000", out=classes.folder, **FROZEN)
    assert before == {path: path.stat().st_mtime_ns for path in classes.folder.rglob("part-*.parquet")}
    with pytest.raises(UserError, match="is the folder of another sweep"):
        si.sweep(own.problem(), elr="0.3,1000", out=classes.folder, **{**FROZEN, "batch_size": 7})


def test_another_process_trains_the_folder_of_a_run(classes: Any, tmp_path: Path) -> None:
    """All it needs stands in config.json and in data/ beside the runs."""
    run = classes.runs[0]
    before = run.series("online", "total", "loss")[1]
    (run.folder / "result.json").unlink()
    for name in ("metrics", "checkpoints"):
        for path in sorted((run.folder / name).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    command = [sys.executable, "-m", "scaleinv", "run", str(run.folder), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert si.load(run.folder).series("online", "total", "loss")[1].tolist() == before.tolist()


def test_a_regression_is_judged_by_its_loss(tmp_path: Path) -> None:
    sweep = si.sweep(own.regression(), elr=[0.02, 1e4], out=tmp_path / "s", **QUICK)
    learning, diverged = sweep.summary["runs"]
    assert learning["regime"] != 3
    assert diverged["regime"] == 3
    assert learning["test_error"] is None
    assert "chance_error is not given" in diverged["evidence"]["reason"]


def test_tokens_are_judged_by_their_frequencies(tmp_path: Path) -> None:
    sweep = si.sweep(own.language(), elr=[0.05, 1e4], out=tmp_path / "s", variant="si", **QUICK)
    learning, diverged = sweep.summary["runs"]
    assert learning["test_error"] < 0.6 < diverged["test_error"]
    assert learning["regime"] != 3
    assert diverged["regime"] == 3


def test_variant_si_converts_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    options = {**QUICK, "quiet": False, "epochs": 1}
    problem = si.classification(net, own.arrays())
    standard = si.sweep(problem, elr=[0.1], out=tmp_path / "a", **options)
    told = capsys.readouterr().err
    assert "1 of 6 tensors are scale-invariant (79% of the weights)" in told
    assert "are trained at other_lr 0.1" in told
    converted = si.sweep(problem, elr=[0.1], out=tmp_path / "b", variant="si", **options)
    told = capsys.readouterr().err
    assert "1 of 3 tensors are scale-invariant" in told
    assert "2 are frozen" in told
    assert standard.runs[0].config["variant"] == "standard"
    assert converted.runs[0].config["head_norm"] == 10.0


@pytest.mark.parametrize(
    ("optimizer", "law"),
    [(torch.optim.NAdam, "normalised"), (torch.optim.Rprop, "normalised"), ("ASGD", "sgd"), ("RMSprop", "normalised")],
)
def test_other_optimizers(tmp_path: Path, optimizer: Any, law: str) -> None:
    options = {**QUICK, "epochs": 2}
    sweep = si.sweep(own.problem(), elr=[0.01], optimizer=optimizer, out=tmp_path / "s", **options)
    run = sweep.runs[0]
    assert run.law == law
    rho, elr = (run.series("online", "total", name)[1][-1] for name in ("rho", "elr"))
    assert elr == pytest.approx(0.01, rel=1e-6)
    assert rho > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elr": None}, "give one of elr"),
        ({"elr": "0.1:1"}, "is not understood"),
        ({"epoch": 3}, "unknown setting 'epoch', did you mean 'epochs'?"),
        ({"device": "cuda:99"}, "is not there"),
        ({"device": "gpu"}, "is not understood"),
        ({"workers": 0}, "workers 0"),
        ({"seeds": 0}, "seeds 0"),
        ({"optimizer": "Adamm"}, "unknown optimizer 'Adamm'"),
        ({"width": 9}, "width is for the networks"),
    ],
)
def test_what_a_sweep_refuses(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        si.sweep(own.problem(), **{"elr": "0.1,1", **QUICK, "out": tmp_path / "s", **options})
    assert message in str(caught.value)
    assert not (tmp_path / "s").exists()


SCRIPT = """
    import numpy as np
    import scaleinv as si
    from torch import nn

    def make_net():
        return nn.Sequential(nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3))

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    problem = si.classification(make_net, (rng.normal(size=(60, 5)) + np.eye(3, 5)[labels] * 2, labels))
    sweep = si.sweep(problem, elr="0.1,10", epochs=2, out="out", workers=2, device="cpu")
    print(len(sweep.runs), sorted(run.status for run in sweep.runs))
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_sweeps_in_workers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.stdout == "2 ['finished', 'finished']\n", done.stderr
    here = si.sweep(
        _problem_of(tmp_path / "mine.py"),
        elr="0.1,10",
        out=tmp_path / "here",
        **{**QUICK, "epochs": 2, "evaluation": "exact"},
    )
    for run in here.runs:  # numbers do not depend on where a run was trained
        other = si.load(tmp_path / "out" / "runs" / run.name)
        assert other.series("train", "total", "loss")[1].tolist() == run.series("train", "total", "loss")[1].tolist()


def _problem_of(script: Path) -> Any:
    from scaleinv.plugins import load_object

    return load_object(f"{script}:problem")


def test_a_factory_without_a_name_trains_in_this_process_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = si.classification(lambda: own.make_net(), own.arrays())
    sweep = si.sweep(problem, elr="0.1,1", out=tmp_path / "s", **{**QUICK, "epochs": 1, "workers": 2})
    assert [run.status for run in sweep.runs] == ["finished", "finished"]
    assert "worker processes cannot make <lambda> on arrays again: the model (<lambda>)" in capsys.readouterr().err


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "lab" / "own.py").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "--elr", "0.1", "--epochs", "1", "--quiet", "--json", "--device", "cpu"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "mine.py:make_net", "--data", "mine.py:load"],
        [
            "--model",
            "mine.py:make_net",
            "--data",
            "mine.py:load",
            "--model-args",
            "width=6",
            "--loss",
            "mine.py:smooth",
        ],
        ["--problem", "mine.py:problem"],
        ["--problem", "mine.py:language"],
        ["--data", "mine.py:images", "--model", "mlp"],
    ],
)
def test_flags_name_a_problem(here: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    with (here / "mine.py").open("a") as file:
        file.write("\ndef images():\n    x, y = arrays()\n    return x.reshape(-1, 1, 4, 6), y\n")
    assert scaleinv([*TRAIN, *flags]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["status"] == "finished"
    assert Path(row["folder"]).parent == Path("runs")  # the default of --out
    config = si.load(row["folder"]).config
    assert config["elr"] == 0.1
    assert config["problem"]
    assert scaleinv([*TRAIN, *flags]) == 0  # the same command finds it again
    assert json.loads(capsys.readouterr().out)["folder"] == row["folder"]


def test_a_file_holds_the_flags(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("reading TOML needs Python 3.11")
    (here / "a.toml").write_text(
        'epochs = 9\n[model]\nmodel = "mine.py:make_net"\nmodel_args = {width = 5}\n[data]\ndata = "mine.py:load"\n'
    )
    assert scaleinv([*TRAIN, "--config", "a.toml"]) == 0
    run = si.load(json.loads(capsys.readouterr().out)["folder"])
    assert run.config["model"] == "make_net"
    assert run.last_epoch == 1  # what is typed wins
    (here / "b.toml").write_text("epoch = 9\n")
    assert scaleinv([*TRAIN, "--config", "b.toml"]) == 2
    assert "unknown key 'epoch', did you mean 'epochs'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "mine.py:no_net", "--data", "mine.py:load"], "has no 'no_net'"),
        (
            ["--model", "mine.py:make_net", "--data", "mine.py:load", "--model-args", "depth=2"],
            "cannot be made: TypeError",
        ),
        (["--model", "mine.py:make_net", "--data", "mine.py:load", "--model-args", "depth"], "is not NAME=VALUE"),
        (["--model", "mine.py:make_net", "--data", "mine.py:load", "--model-args", "classes=2"], "labels are 0 to 1"),
        (["--model", "covnet"], "unknown model 'covnet', did you mean 'convnet'?"),
        (["--problem", "mine.py:make_net"], "no Problem"),
        (["--problem", "mine.py:problem", "--model", "mlp"], "leave it out"),
        (["--problem", "mine.py:problem", "--device", "cuda:77"], "is not there"),
        (["--config", "none.toml"], "cannot read --config none.toml"),
    ],
)
def test_mistakes_are_told_in_one_line_and_write_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert scaleinv([*TRAIN, *flags]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (here / "runs").exists()


def test_one_map_of_several_folders(tmp_path: Path, classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    other = si.sweep(own.problem(), elr="3,1000", out=tmp_path / "other", **FROZEN)
    assert scaleinv(["report", str(classes.folder), str(other.folder), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    rates = {0.3, 3.0, 1000.0}
    assert all(f"ELR {rate:g}" in page or f"{rate:g}" in page for rate in rates)
    assert page.count("make_net on arrays") >= 1


def test_arrays_of_numpy_and_tensors_are_one_problem() -> None:
    x, y = own.arrays()
    tensors = si.classification(own.make_net, (torch.as_tensor(x), torch.as_tensor(y)))
    assert (
        tensors.fingerprint == si.classification(own.make_net, (x.astype(np.float32), y.astype(np.int32))).fingerprint
    )


class Counting:
    """A launcher of one's own: trains in this process and counts."""

    trained = 0

    def __init__(self, site: Any, step: int = 1) -> None:
        self.here, self.step = Here(site.source), step

    def run(self, jobs: Any, watch: Any) -> Any:
        Counting.trained += self.step * len(jobs)
        yield from self.here.run(jobs, watch)

    def cancel(self) -> None:
        self.here.cancel()


def test_a_launcher_of_ones_own(tmp_path: Path) -> None:
    common: dict[str, Any] = {"elr": "0.1,1", "epochs": 1, "device": "cpu", "quiet": True}
    Counting.trained = 0
    mine = f"{__name__}:Counting"
    mapped = si.sweep(own.problem(), out=tmp_path / "mine", launcher=mine, launcher_args={"step": 2}, **common)
    assert Counting.trained == 4
    assert [run.result["status"] for run in mapped.runs] == ["finished", "finished"]
    with pytest.raises(UserError, match="unknown launcher 'slurn'"):
        si.sweep(own.problem(), out=tmp_path / "other", launcher="slurn", **common)
    with pytest.raises(UserError, match="the launcher processes takes none"):
        si.sweep(own.problem(), out=tmp_path / "other", launcher_args={"partition": "gpu"}, **common)
    assert not (tmp_path / "other").exists()

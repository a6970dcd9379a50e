"""Averages and minima of `scaleinv landscape` against calling the functions by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scaleinv.cli import run as command
from scaleinv.lab.config import Settings
from scaleinv.lab.weights import kept_epochs, read_weights
from scaleinv.landscape import runs as lowest_module
from scaleinv.landscape.agreement import agreement
from scaleinv.landscape.averages import convexity
from scaleinv.landscape.runs import surface_of
from scaleinv.studies import landscape as module
from scaleinv.studies import pieces
from scaleinv.studies.landscape import Study, study
from scaleinv.studies.obtain import obtain

SMALL = Settings(model="mlp", subset=64, batch_size=16, epochs=6, width=4, weight_decay=0.01, keep_every=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return obtain(tmp_path_factory.mktemp("runs"), SMALL, lr=0.3)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that kept nothing but its last weights."""
    return obtain(tmp_path_factory.mktemp("bare"), replace(SMALL, keep_every=None), lr=0.3)


@pytest.fixture(scope="module")
def measured(run: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "lowest_epochs", lambda folder, epochs: [1, 3, 5])
        return study(run, ("averages", "minima"), settings=Study(iterates=3))


def test_averages_are_those_of_the_function(run: Path, measured: dict[str, Any]) -> None:
    (found,) = measured["averages"]
    assert found["key"]["epochs"] == [3, 5, 6]
    weights = [read_weights(run, epoch) for epoch in found["key"]["epochs"]]
    direct = convexity(surface_of(run), weights, test=True)
    members = direct.average.members
    assert found["excess"]["train"] == pytest.approx(
        direct.average.values.train_loss - np.mean([m.train_loss for m in members])
    )
    assert found["excess"]["test"] == pytest.approx(
        direct.average.values.test_loss - np.mean([m.test_loss for m in members])
    )
    assert found["share_above"] == {"train": direct.share_above, "test": direct.test_share_above}
    assert found["mean_error"]["test"] == direct.average.values.test_error
    assert found["segments"] == 3


def test_minima_are_those_of_the_function(run: Path, measured: dict[str, Any]) -> None:
    (found,) = measured["minima"]
    direct = agreement(surface_of(run), [read_weights(run, epoch) for epoch in (1, 3, 5)])
    assert found["key"]["epochs"] == [1, 3, 5]
    for name in ("error", "angle", "equal", "ensemble", "gain", "gain_error"):
        np.testing.assert_allclose(found[name], getattr(direct, name), rtol=1e-9, atol=1e-15)


def test_what_is_there_is_kept(run: Path, measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("averages_of", "minima_of"):
        monkeypatch.setattr(pieces, name, lambda *_, **__: pytest.fail("measured again"))
    parts = ("averages", "minima")
    monkeypatch.setattr(module, "lowest_epochs", lambda *_: [1, 3, 5])
    assert study(run, parts, settings=Study(iterates=3)) == measured


def test_in_the_terminal_and_on_the_page(
    run: Path, measured: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    assert command(["landscape", str(folder), "--parts", "averages,minima", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "Averages of the iterates" in said.out
    assert max(map(len, said.out.splitlines()[:-1])) <= 80
    assert "minima need two periods with a kept epoch in each, this run lacks them" in said.err
    (folder / "landscape.json").write_text(json.dumps(measured))
    assert command(["landscape", str(folder), "--parts", "averages", "--quiet"]) == 0
    assert "Minima of different periods" in capsys.readouterr().out
    assert command(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    for words in ("Averages of the iterates", "Minima of different periods", "Pairs of minima, LR 0.3, seed 0"):
        assert words in page


@pytest.mark.parametrize("part", ["averages", "minima", "averages,minima"])
def test_runs_that_kept_nothing(bare: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["landscape", str(bare), "--parts", part]) == 2
    said = capsys.readouterr().err
    assert "--keep-every" in said
    assert said.count("\n") == 1
    assert not (bare / "landscape.json").exists()
    folder = tmp_path / "run"
    shutil.copytree(bare, folder)
    flags = ["--images", "16", "--json", "--quiet"]
    assert command(["landscape", str(folder), "--parts", f"sharpness,{part}", *flags]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["sharpness"]
    assert "--keep-every" in err


def test_lowest_epochs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 steps an epoch: epochs 2 to 4 lie whole within steps 3 to 17, and none within steps 17 to 20."""
    periods = [SimpleNamespace(start=3, end=17), SimpleNamespace(start=17, end=19), SimpleNamespace(start=20, end=24)]
    monkeypatch.setattr(lowest_module, "periods_of", lambda _: SimpleNamespace(periods=periods))
    epochs, loss = lowest_module.load_run(run).series("online", "total", "loss")
    best = min((2, 3, 4), key=lambda e: loss[epochs.tolist().index(e)])
    assert lowest_module.lowest_epochs(run, kept_epochs(run)) == [best, 6]
    assert lowest_module.lowest_epochs(run, [6]) == [6]
    monkeypatch.setattr(lowest_module, "periods_of", lambda _: None)
    assert lowest_module.lowest_epochs(run, kept_epochs(run)) == []

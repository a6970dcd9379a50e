"""What `scaleinv landscape` measures, keeps and shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from scaleinv.cli import run as command
from scaleinv.errors import UserError
from scaleinv.lab.settings import Settings, resolve
from scaleinv.lab.sweep import SweepConfig, run_sweep
from scaleinv.lab.weights import read_weights
from scaleinv.landscape import study as module
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import surface_of
from scaleinv.landscape.sharpness import sharpness
from scaleinv.landscape.study import Study, ended_runs, study

SMALL = Settings(model="mlp", subset=64, batch_size=16, epochs=3, width=4)
QUICK = Study(images=64, probes=2, points=5, walk_steps=6, walk_seeds=2)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    data = SMALL.load()
    base = resolve(SMALL, data, elr=0.01, lr=None, seed=0, threads=1)
    run_sweep(SweepConfig(base, "elr", (0.01, 0.1, 1.0), (0, 1)), data, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def measured(sweep: Path) -> dict[str, Any]:
    return study(sweep, module.PARTS, settings=QUICK)


def test_every_run_and_every_neighbouring_pair_of_a_seed(sweep: Path, measured: dict[str, Any]) -> None:
    assert [(one["key"]["rates"], one["seed"]) for one in measured["sharpness"]] == [
        ([rate], seed) for seed in (0, 1) for rate in (0.01, 0.1, 1.0)
    ]
    assert [(one["key"]["rates"], one["seed"]) for one in measured["paths"]] == [
        (pair, seed) for seed in (0, 1) for pair in ([0.01, 0.1], [0.1, 1.0])
    ]
    assert [one["key"]["elr"] for one in measured["walks"]] == [1.0]
    assert json.loads((sweep / "landscape.json").read_text()) == measured


def test_the_numbers_are_those_of_the_functions(sweep: Path, measured: dict[str, Any]) -> None:
    a, b = ended_runs(sweep)[:2]
    surface = surface_of(a.folder)
    direct = sharpness(surface, top=1, probes=2, images=64)
    kept = measured["sharpness"][0]
    assert kept["lambda_1"] == pytest.approx(direct.hessian.top, rel=1e-6)
    assert kept["stability"] == pytest.approx(0.01 * direct.hessian.top, rel=1e-6)
    path = linear_path(surface, read_weights(a.folder), read_weights(b.folder), points=5)
    assert measured["paths"][0]["train_loss"] == pytest.approx(path.train_loss.tolist(), rel=1e-6)
    assert measured["paths"][0]["barriers"]["train_error"]["height"] == path.barrier("train_error").height


def test_what_is_there_is_not_measured_again(
    sweep: Path, measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        for name in ("_sharpness", "_path", "_walks"):
            patch.setattr(module, name, refuse)
        assert study(sweep, module.PARTS, settings=QUICK) == measured
    calls: list[str] = []
    monkeypatch.setattr(module, "_path", lambda a, b, *_: calls.append(a.folder.name) or {"seed": 0})
    try:
        again = study(sweep, ("paths",), settings=Study(images=64, probes=2, points=7))
        assert len(calls) == 4
        assert [one["key"]["points"] for one in again["paths"]] == [7] * 4
        assert again["sharpness"] == measured["sharpness"]
    finally:
        (sweep / "landscape.json").write_text(json.dumps(measured))


def test_on_the_page(sweep: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["report", str(sweep)]) == 0
    page = (sweep / "report.html").read_text()
    for words in ("Paths between neighbouring runs", "Walks at ELR 1", "Curvature at the last weights of every run"):
        assert words in page
    assert f"{measured['paths'][0]['angle']:.3g}" in page
    (sweep / "landscape.json").write_text('{"format": 1}')
    assert command(["report", str(sweep)]) == 2
    assert "landscape.json is damaged" in capsys.readouterr().err
    (sweep / "landscape.json").write_text(json.dumps(measured))


def test_the_command(sweep: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = ended_runs(sweep)[0].folder
    assert command(["landscape", str(run), "--parts", "sharpness", "--images", "64", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "lambda_1" in said.out
    assert said.err == ""
    assert max(map(len, said.out.splitlines()[:3])) <= 80
    assert command(["landscape", str(run), "--parts", "sharpness", "--images", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert math.isfinite(found["sharpness"][0]["lambda_1"])


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--parts", "hills"], "unknown part 'hills'; choose from: sharpness, paths, walks"),
        (["--parts", ","], "names nothing"),
        (["--images", "1"], "images 1 is too few"),
        (["--walk-elr", "-1"], "walk-elr -1.0 is not a positive number"),
    ],
)
def test_bad_input(sweep: Path, flags: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sweep / "landscape.json").read_bytes() if (sweep / "landscape.json").exists() else None
    assert command(["landscape", str(sweep), *flags]) == 2
    assert why in capsys.readouterr().err
    assert ((sweep / "landscape.json").read_bytes() if (sweep / "landscape.json").exists() else None) == before


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither the folder of a run nor of a sweep"):
        study(tmp_path)

"""What `scaleinv landscape` measures, keeps and shows."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scaleinv.cli import run as command
from scaleinv.cli.actions.landscape import print_landscape as show
from scaleinv.errors import UserError
from scaleinv.lab.build import build
from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_starts
from scaleinv.lab.weights import read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import fresh_surface_of, surface_of
from scaleinv.landscape.sharpness import sharpness
from scaleinv.landscape.walks import compare
from scaleinv.report import write_figures, write_report
from scaleinv.runfolder.seal import read_sealed, sealed
from scaleinv.studies import pieces
from scaleinv.studies.landscape import Study, ended_runs, study
from scaleinv.studies.sweep import SweepConfig, run_sweep

SMALL = Settings(model="mlp", subset=64, batch_size=16, epochs=3, width=4)
QUICK = Study(images=64, probes=2, points=5, walk_steps=6, walk_seeds=2)
REMEDY = "restore it or remove the run's folder and run it again; `scaleinv check` says what can still be used"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    data = load_data(SMALL)
    base = resolve(SMALL, data, elr=0.01, lr=None, seed=0, threads=1)
    run_sweep(SweepConfig(base, "elr", (0.01, 0.1, 1.0), (0, 1)), data, folder, workers=1)
    return folder


#: what needs no weights but the last ones
LAST = ("sharpness", "paths", "walks")


@pytest.fixture(scope="module")
def measured(sweep: Path) -> dict[str, Any]:
    return study(sweep, LAST, settings=QUICK)


def test_every_run_and_every_neighbouring_pair_of_a_seed(sweep: Path, measured: dict[str, Any]) -> None:
    assert [(one["key"]["rates"], one["seed"]) for one in measured["sharpness"]] == [
        ([rate], seed) for seed in (0, 1) for rate in (0.01, 0.1, 1.0)
    ]
    assert [(one["key"]["rates"], one["seed"]) for one in measured["paths"]] == [
        (pair, seed) for seed in (0, 1) for pair in ([0.01, 0.1], [0.1, 1.0])
    ]
    assert [one["key"]["elr"] for one in measured["walks"]] == [1.0]
    assert read_sealed(sweep / "landscape.json") == measured


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
            patch.setattr(pieces, name, refuse)
        assert study(sweep, LAST, settings=QUICK) == measured
    calls: list[str] = []
    monkeypatch.setattr(pieces, "_path", lambda a, b, *_: calls.append(a.folder.name) or {"seed": 0})
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


def test_every_figure_of_the_page_is_written_as_a_file(sweep: Path, measured: dict[str, Any], tmp_path: Path) -> None:
    twice = {**measured, "walks": [*measured["walks"], {**measured["walks"][0]}]}
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    (folder / "landscape.json").write_text(json.dumps(twice))
    write_report(folder)
    on_page = re.findall(r'<figure[^>]* id="([^"]+)"', (folder / "report.html").read_text())
    assert {"paths", "walks-1", "walks-2"} < set(on_page)
    assert sorted(on_page) == sorted(path.stem for path in write_figures(folder, ["svg"]))


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
        (["--parts", "hills"], "unknown part 'hills'; choose from: sharpness, paths, walks, averages, minima"),
        (["--parts", ","], "names nothing"),
        (["--images", "1"], "--images 1: must be at least 2"),
        (["--walk-elr", "-1"], "walk-elr -1.0 is not a positive number"),
        (["--walk-elr", "0.5"], "--walk-elr 0.5 needs --parts walks"),
        (["--walk-steps", "9", "--parts", "paths"], "--walk-steps 9 needs --parts walks"),
        (["--walk-seeds", "2"], "--walk-seeds 2 needs --parts walks"),
        (["--images", "64", "--parts", "paths"], "--images 64 needs --parts sharpness"),
    ],
)
def test_bad_input(sweep: Path, flags: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sweep / "landscape.json").read_bytes() if (sweep / "landscape.json").exists() else None
    assert command(["landscape", str(sweep), *flags]) == 2
    assert why in capsys.readouterr().err
    assert ((sweep / "landscape.json").read_bytes() if (sweep / "landscape.json").exists() else None) == before


def _copy_of_a_run(sweep: Path, place: Path) -> Path:
    shutil.copytree(ended_runs(sweep)[0].folder, place, ignore=shutil.ignore_patterns("landscape.json"))
    return place


def _landscape(folder: Path, *flags: str) -> list[dict[str, Any]]:
    assert command(["landscape", str(folder), *flags]) == 0
    found: list[dict[str, Any]] = json.loads((folder / "landscape.json").read_text())["sharpness"]
    return found


def test_a_run_that_was_moved_is_not_measured_again(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _copy_of_a_run(sweep, tmp_path / "first")
    kept = _landscape(first, "--images", "32")
    assert kept[0]["key"]["runs"] == [ended_runs(sweep)[0].name]
    assert "[1/1] sharpness 0.01\n" in capsys.readouterr().err
    second = first.rename(tmp_path / "second")
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "_sharpness", lambda *_: pytest.fail("measured again"))
        assert _landscape(second, "--images", "32") == kept
    assert "[1/1] sharpness 0.01: kept\n" in capsys.readouterr().err
    other = _landscape(second, "--images", "48")
    assert [one["key"]["images"] for one in other] == [48]


def test_a_run_that_was_copied_within_a_sweep_counts_once(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    shutil.copytree(ended_runs(folder)[0].folder, folder / "runs" / "copy")
    assert [run.name for run in ended_runs(folder)] == [run.name for run in ended_runs(sweep)]


def test_what_is_of_runs_that_are_not_there_is_dropped(
    sweep: Path, measured: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    (folder / "landscape.json").write_text(json.dumps(measured))
    shutil.rmtree(ended_runs(folder)[0].folder)  # at the end of a path
    monkeypatch.setattr(pieces, "_sharpness", lambda *_: pytest.fail("measured again"))
    found = study(folder, ("sharpness",), settings=QUICK)
    assert found["sharpness"] == measured["sharpness"][1:]
    assert found["paths"] == measured["paths"][1:]
    assert found["walks"] == measured["walks"]
    assert json.loads((folder / "landscape.json").read_text()) == sealed(found, folder / "landscape.json")


def test_a_run_is_measured_on_no_more_images_than_it_has(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _copy_of_a_run(sweep, tmp_path / "run")
    kept = study(run, ("sharpness",), settings=Study(images=100_000))
    assert kept["sharpness"][0]["key"]["images"] == 64
    monkeypatch.setattr(pieces, "_sharpness", lambda *_: pytest.fail("measured again"))
    for images in (64, None):
        assert study(run, ("sharpness",), settings=Study(images=images)) == kept


def test_paths_need_two_runs(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _copy_of_a_run(sweep, tmp_path / "run")
    for parts in ("paths", "sharpness,paths"):
        assert command(["landscape", str(run), "--parts", parts]) == 2
        assert f"paths need two runs; {run} is one\n" in capsys.readouterr().err
    assert not (run / "landscape.json").exists()
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder, ignore=shutil.ignore_patterns("landscape.json"))
    for one in ended_runs(folder):
        if one.rate > 0.01:
            shutil.rmtree(one.folder)  # two seeds at one rate are left
    assert command(["landscape", str(folder), "--parts", "paths"]) == 2
    assert "paths need two runs that differ in the rate alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"format": 7}', '{"format": 1}', '{"format": 1, "sharpness": [1], "paths": [], "walks": []}'],
)
def test_a_damaged_landscape(sweep: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = _copy_of_a_run(sweep, tmp_path / "run")
    (run / "landscape.json").write_text(content)
    assert command(["landscape", str(run)]) == 2
    said = capsys.readouterr().err
    assert str(run / "landscape.json") in said
    assert said.endswith("; remove it and measure again\n")
    assert said.count("\n") == 1


def test_numbers_that_are_gone_from_the_landscape(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _copy_of_a_run(sweep, tmp_path / "run")
    kept = study(run, ("sharpness",), settings=Study(images=64))
    del kept["sharpness"][0]["eg"]
    (run / "landscape.json").write_text(json.dumps(kept))
    assert command(["landscape", str(run), "--images", "64", "--quiet"]) == 2
    assert "landscape.json is damaged ('eg'); remove it and measure again" in capsys.readouterr().err


def test_damaged_weights(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _copy_of_a_run(sweep, tmp_path / "run")
    weights = next(run.glob("checkpoints/*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    assert command(["landscape", str(run), "--quiet"]) == 2
    assert f"weights.safetensors is damaged (its checksum is of other content): {REMEDY}\n" in capsys.readouterr().err
    assert command(["landscape", str(run), "--quiet", "--no-check"]) == 2
    said = capsys.readouterr().err
    assert "weights.safetensors is damaged (" in said
    assert "checksum is of" not in said
    assert said.endswith("; restore it or train the run again\n")


def test_weights_of_another_network(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _copy_of_a_run(sweep, tmp_path / "run")
    weights = next(run.glob("checkpoints/*/weights.safetensors"))
    save_file({"layers.0.weight": torch.zeros(2, 2)}, weights)
    assert command(["landscape", str(run), "--quiet"]) == 2
    assert f"weights.safetensors is damaged (its checksum is of other content): {REMEDY}\n" in capsys.readouterr().err
    assert command(["landscape", str(run), "--quiet", "--no-check"]) == 2
    said = capsys.readouterr().err
    assert "holds the weights of another network); restore it or train the run again" in said


@pytest.fixture(scope="module")
def decays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates, two weight decays, two starts."""
    root = tmp_path_factory.mktemp("decays")
    data = load_data(SMALL)
    base = resolve(SMALL, data, elr=None, lr=0.1, seed=0, threads=1)
    run_sweep(SweepConfig(base, "lr", (0.1, 0.2), (0,)), data, root / "first", workers=1)
    sweep = SweepConfig(base, "lr", (0.1, 0.2), (0,), (0.0, 0.5), find_starts(str(root / "first")))
    run_sweep(sweep, data, root / "second", workers=1)
    return root / "second"


def test_rows_of_one_rate_are_told_apart(decays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(decays, settings=Study(images=16, probes=1, points=3))
    content = json.loads((decays / "landscape.json").read_text())
    runs = ended_runs(decays)
    assert len(runs) == 8
    assert [(one["weight_decay"], one["start"]) for one in content["sharpness"]] == [
        (run.config.weight_decay, run.config.start) for run in runs
    ]
    assert {(one["weight_decay"], one["start"]) for one in content["paths"]} == {
        (run.config.weight_decay, run.config.start) for run in runs
    }
    show(content, decays)
    tables = capsys.readouterr().out.split("\n\n")
    assert tables[0].splitlines()[1].split()[:3] == ["rate", "wd", "start"]
    assert tables[1].splitlines()[1].split()[:6] == ["from", "rate", "to", "rate", "wd", "start"]
    for table, before, count in ((tables[0], 2, 8), (tables[1], 3, 4)):
        rows = [tuple(line.split()[: before + 4]) for line in table.splitlines()[2:]]
        assert len(set(rows)) == len(rows) == count
        assert {" ".join(row[before:]) for row in rows} == {"LR 0.1 seed 0", "LR 0.2 seed 0"}
    assert command(["report", str(decays)]) == 0
    page = (decays / "report.html").read_text()
    assert page.count('<th scope="col">wd</th><th scope="col">start</th><th scope="col">seed</th>') == 2
    for start in ("0.1", "0.2"):
        assert f'<th scope="row">0.1</th><td>0.5</td><td>LR {start} seed 0</td><td>0</td>' in page


def test_walks_begin_at_a_fresh_initialisation(
    decays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those of a run that started from trained weights; the title says which run and from where."""
    source = next(run for run in ended_runs(decays) if run.config.start is not None)
    folder = tmp_path / "run"
    shutil.copytree(source.folder, folder)
    found = study(folder, ("walks",), settings=Study(walk_elr=1e-4, walk_steps=6, walk_seeds=2))["walks"][0]
    slow = compare(fresh_surface_of(folder), 1e-4, 6, seeds=(0, 1))
    assert found["loss"] == {kind: values.tolist() for kind, values in slow.loss.items()}
    data = load_data(SMALL)
    drawn = build(resolve(SMALL, data, elr=None, lr=0.1, seed=0, threads=1), data).model.state_dict()
    own = fresh_surface_of(folder).weights()
    assert all(torch.equal(own[name], value) for name, value in drawn.items())
    assert command(["report", str(folder)]) == 0
    page = html.unescape((folder / "report.html").read_text())
    show(json.loads((folder / "landscape.json").read_text()), folder)
    said = capsys.readouterr().out
    for where in (said, page):
        assert f"from a fresh initialisation (seed 0, network of run {source.name[:8]})" in where
        assert "ot regime 3 at this ELR, or too few steps" in where


def test_walks_of_an_earlier_version_say_where_they_began(
    sweep: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    old = json.loads(json.dumps(measured))
    del old["walks"][0]["key"]["begin"]
    old["walks"][0]["start"] = "abcdef0123"
    old["walks"][0]["cosine"]["walk"][0] = None  # it broke off
    show(old, sweep)
    said = capsys.readouterr().out
    name = old["walks"][0]["key"]["runs"][0][:8]
    assert f"from the last weights of run {name} (seed 0, which started from abcdef01)" in said


def test_columns_that_say_the_same_of_every_run_are_left_out(
    sweep: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    show(measured, sweep)
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["rate", "seed", "train"]
    assert {one["start"] for part in LAST for one in measured[part]} == {None}
    assert {one["weight_decay"] for part in LAST for one in measured[part]} == {0.0}


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither the folder of a run nor of a sweep"):
        study(tmp_path)

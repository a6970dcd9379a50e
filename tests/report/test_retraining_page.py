"""The pages of runs that started from others: whose weights they started with, and where they went."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import folders
import pytest
from test_sweep_page import Reader

from scaleinv.cli.tables import print_map
from scaleinv.report import write_report
from scaleinv.report.facts import by_series
from scaleinv.report.gather import sweep_facts as gather
from scaleinv.report.page import section_page
from scaleinv.report.retraining import RetrainingSection
from scaleinv.runfolder.read import load_run, load_sweep
from scaleinv.studies.regime_map import regime_map

#: (rate, seed, checksum) of the parents; the checksums are not in the order of the rates
PARENTS = ((1e-3, 1, "cc" * 32), (0.1, 1, "aa" * 32), (0.1, 2, "bb" * 32))


def lineage(parent: Path, checksum: str) -> dict[str, Any]:
    run = load_run(parent)
    rates = {"elr": run.elr, "seed": run.seed}
    return {"run": run.identity, "folder": f"s1/runs/{run.name}", "epoch": 20, "weights": checksum, **rates}


def write(root: Path, parents: tuple[tuple[float, int, str], ...] = PARENTS) -> Path:
    """``s1`` with the parents and ``s2`` with two rates from each of them, as sweep --from leaves them."""
    folders.write_sweep(root / "s1", [1e-3, 0.1], 20, seeds=2, diverged=False)
    ended = {(load_run(run).elr, load_run(run).seed): run for run in (root / "s1" / "runs").iterdir()}
    rows, starts = [], []
    for rate, seed, checksum in parents:
        starts.append(lineage(ended[rate, seed], checksum))
        for elr in (1e-3, 0.1):
            child = root / "s2" / "runs" / f"{checksum[:2]}{elr:g}"
            row = folders.write_run(child, elr, 20, seed, config={"start": checksum})
            head = json.loads((child / "config.json").read_text())
            (child / "config.json").write_text(json.dumps({**head, "lineage": starts[-1]}))
            rows.append({**row, "start": checksum, "weight_decay": 0.0, "lr": None})
    sweep = {"base": {"data": "digits", "steps": 1800}, "axis": "elr", "values": [1e-3, 0.1], "seeds": []}
    (root / "s2" / "sweep-config.json").write_text(json.dumps({"format": 3, "sweep": {**sweep, "starts": starts}}))
    (root / "s2" / "sweep.json").write_text(json.dumps(regime_map(rows, "elr", {"epochs": 20, "steps": 1800})))
    return root / "s2"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("retraining"))


@pytest.fixture(scope="module")
def page(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(sweep, tmp_path_factory.mktemp("page")).read_text("utf-8")


def test_parts_are_named_and_ordered_by_the_parent(sweep: Path) -> None:
    parts = by_series(gather(load_sweep(sweep)))
    assert [part.short for part in parts] == ["from ELR 1e-3 seed 1", "from ELR 0.1 seed 1", "from ELR 0.1 seed 2"]
    name = next(run.name for run in load_sweep(sweep.parent / "s1").runs if (run.elr, run.seed) == (1e-3, 1))
    assert parts[0].name == f"from ELR 1e-3, seed 1, epoch 20 (s1/runs/{name[:6]}…)"


def test_the_page_says_no_checksum(page: str) -> None:
    reader = Reader(page)
    assert "ELR 0.1 seed 2" in reader.text
    for _, _, checksum in PARENTS:
        assert checksum[:8] not in reader.text


def test_without_a_lineage_the_checksum_stays(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s2"
    shutil.copytree(sweep, folder)
    for path in (folder / "sweep-config.json", *folder.glob("runs/*/config.json")):
        content = json.loads(path.read_text())
        content.pop("lineage", None)
        content.get("sweep", {}).pop("starts", None)
        path.write_text(json.dumps(content))
    assert [part.name for part in by_series(gather(load_sweep(folder)))] == [
        "from weights aaaaaaaa",
        "from weights bbbbbbbb",
        "from weights cccccccc",
    ]


@pytest.mark.usefixtures("undrawn")
def test_one_start_is_said_once(tmp_path: Path) -> None:
    reader = Reader(write_report(write(tmp_path, PARENTS[:1])).read_text("utf-8"))
    assert reader.text.count("All runs started from ELR 1e-3, seed 1, epoch 20 (s1/runs/") == 1
    assert "The regimes, by start" not in reader.text


@pytest.mark.usefixtures("undrawn")
def test_a_run_page_says_where_it_went_on_from(sweep: Path, tmp_path: Path) -> None:
    run = load_run(sweep / "runs" / "cc0.001")
    assert run.lineage is not None
    text = Reader(write_report(run.folder, tmp_path).read_text("utf-8")).text
    assert f"Started from ELR 1e-3, seed 1, epoch 20 ({run.lineage['folder']})." in text
    assert "start weights (sha256)" in text


def test_the_terminal_says_it(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((sweep / "sweep.json").read_text())
    origins = [origin for origin in gather(load_sweep(sweep)).starts.values() if origin is not None]
    order = [origin.weights for origin in origins]
    summary["runs"].sort(key=lambda row: order.index(row["start"]))
    for row in summary["runs"]:
        row["periods"] = None
    config = {"model": "convnet", "variant": "si", "width": 16, "data": "digits", "batch_size": 16}
    print_map(summary, config, "report.html", origins)
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in told[1:7]] == ["0.001", "0.001", "0.1", "0.1", "0.1", "0.1"]
    headings = [line for line in told if line.startswith(" from ")]
    assert [line.split(", epoch")[0] for line in headings] == [
        " from ELR 0.001, seed 1",
        " from ELR 0.1, seed 1",
        " from ELR 0.1, seed 2",
    ]
    assert not any("weight decay" in line for line in told)
    assert max(map(len, headings)) <= 80


@pytest.mark.usefixtures("undrawn")
def test_a_folder_with_markup_in_its_name_is_escaped(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(load_sweep(sweep).runs[0].folder, folder)
    head = json.loads((folder / "config.json").read_text())
    head["lineage"]["folder"] = "<script>alert(1)</script>"
    (folder / "config.json").write_text(json.dumps(head))
    assert "<script>alert" not in write_report(folder).read_text("utf-8")


def titles(reader: Reader) -> list[str]:
    return [attrs["id"] or "" for tag, attrs in reader.elements if tag == "figure"]


def test_the_section_shows_every_start_with_its_parent(page: str) -> None:
    reader = Reader(page)
    assert reader.text.count("Re-training") == 1
    for number in (1, 2, 3):
        assert {f"retraining-loss-{number}", f"retraining-diagram-{number}"} <= set(titles(reader))
    assert len(titles(reader)) == len(set(titles(reader)))
    # the parent's curve in both panels, and a parent at the other new rate of the same seed where there is one
    assert "started from ELR 1e-3 seed 1" in page
    assert "ELR 0.1 seed 1, before the start" in page
    assert "ELR 0.1 seed 2, before the start" not in page
    # parents of one rate and two seeds are two lines
    assert {"from ELR 0.1 seed 1", "from ELR 0.1 seed 2"} <= set(reader.words)
    assert page.index("Re-training") < page.index("The regimes, by start")
    assert page.count("<details><summary>From ELR ") == 3


@pytest.mark.usefixtures("undrawn")
def test_many_rates_leave_the_maps_open(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["scaleinv.report.sweep_page"], "FEW_RATES", 2)
    page = write_report(sweep, tmp_path).read_text("utf-8")
    assert "<details><summary>From ELR " not in page
    assert page.index("From ELR 1e-3, seed 1, epoch 20 (s1/runs/") < page.index("<h2>Re-training</h2>")


@pytest.mark.parametrize("harm", ["gone", "damaged", "another"])
def test_parents_that_cannot_be_read(sweep: Path, tmp_path: Path, harm: str) -> None:
    shutil.copytree(sweep.parent, tmp_path / "all")
    for run in (tmp_path / "all" / "s1" / "runs").iterdir():
        if harm == "gone":
            shutil.rmtree(run)
        elif harm == "damaged":
            for part in (run / "metrics").iterdir():
                part.write_bytes(b"PAR1")
        else:
            head = json.loads((run / "config.json").read_text())
            (run / "config.json").write_text(json.dumps({**head, "identity": "another"}))
    page = section_page("s2", (RetrainingSection(),), gather(load_sweep(tmp_path / "all" / "s2")))
    assert "whose folder is gone or cannot be read: ELR 1e-3 seed 1, ELR 0.1 seed 1, ELR 0.1 seed 2." in page
    assert "before the start" not in page
    assert "retraining-diagram-3" in titles(Reader(page))


def test_a_start_from_within_a_longer_run(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep.parent, tmp_path / "all")
    for path in (tmp_path / "all" / "s2" / "runs").glob("*/config.json"):
        head = json.loads(path.read_text())
        head["lineage"]["epoch"] = 5
        path.write_text(json.dumps(head))
    found = next(
        d for d in RetrainingSection().drawings(gather(load_sweep(tmp_path / "all" / "s2"))) if "loss" in d.stem
    )
    assert found.fig.axes[0].get_xlim() == (-5, 20)


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_that_began_afresh_has_no_such_section(sweep: Path, tmp_path: Path) -> None:
    assert "Re-training" not in Reader(write_report(sweep.parent / "s1", tmp_path).read_text("utf-8")).text

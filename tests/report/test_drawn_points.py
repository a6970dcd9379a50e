"""Marks, labels and stars stand at values that runs have, and a name means one quantity in every table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folders
import numpy as np
import pytest
from matplotlib.colors import to_hex
from test_retraining_page import write

from scaleinv.analysis.regimes import classify
from scaleinv.lab.config import Settings
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.drawing import Drawing, fraction
from scaleinv.report.gather import run_facts
from scaleinv.report.gather import sweep_facts as gather
from scaleinv.report.retraining import RetrainingSection
from scaleinv.report.run_figures import total_drawings
from scaleinv.report.sweep_curves import diagram
from scaleinv.report.sweep_page import sweep_drawings
from scaleinv.report.words import numbers_line
from scaleinv.runfolder.read import load_run, load_sweep
from scaleinv.studies.obtain import obtain
from scaleinv.studies.regime_map import measured, run_row

ELRS = [1e-3, 2e-3, 4e-3, 0.1, 0.2]


def labels(drawing: Drawing) -> list[tuple[float, str]]:
    """Where the end labels point at before they are moved apart, as a share of the axis, and their colours."""
    (axes,) = drawing.fig.axes
    lines = [line for line in axes.lines if line.get_transform() == axes.transAxes and len(line.get_xdata()) == 2]
    return [(float(line.get_ydata()[0]), to_hex(line.get_color())) for line in lines]


def marks(drawing: Drawing) -> list[tuple[float, str, float]]:
    """The single points drawn in data coordinates: share of the axis, colour, value."""
    (axes,) = drawing.fig.axes
    points = [line for line in axes.lines if len(np.atleast_1d(line.get_ydata())) == 1]
    points = [line for line in points if line.get_transform() == axes.transData]
    values = [float(np.atleast_1d(line.get_ydata())[0]) for line in points]
    return [(fraction(axes, y), to_hex(line.get_markerfacecolor()), y) for y, line in zip(values, points)]


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_label_at_a_lines_end_names_its_mark(seeds: int, tmp_path: Path) -> None:
    facts = gather(load_sweep(folders.write_sweep(tmp_path / "s", ELRS, 20, seeds=seeds, diverged=False)))
    for drawing in sweep_drawings(facts)[1:4]:
        _, quantity, split = drawing.stem.split("-")
        scale = 100 if quantity == "error" else 1
        ends = {scale * float(fact.series(split, quantity)[1][-1]) for fact in facts.runs}
        drawn, named = marks(drawing), labels(drawing)
        assert {value for _, _, value in drawn} == ends
        assert len(named) == len(ELRS)
        for place, colour in named:
            assert min(abs(place - at) for at, other, _ in drawn if other == colour) < 1e-12


def test_a_label_of_a_retrained_run_names_its_mark(tmp_path: Path) -> None:
    facts = gather(load_sweep(write(tmp_path)))
    for drawing in RetrainingSection().drawings(facts):
        if drawing.stem.startswith("retraining-loss"):
            drawn = marks(drawing)
            assert labels(drawing)
            for place, colour in labels(drawing):
                assert min(abs(place - at) for at, other, _ in drawn if other == colour) < 1e-12


def test_a_label_of_a_run_stands_at_the_last_value(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "r", 0.1, 20)
    run = load_run(tmp_path / "r")
    drawing = total_drawings(run)[0]
    ends = [float(run.series(split, "total", "loss")[1][-1]) for split in ("online", "train", "test")]
    places = [fraction(drawing.fig.axes[0], end) for end in ends]
    assert sorted(place for place, _ in labels(drawing)) == pytest.approx(sorted(places), abs=1e-12)


# -- the star ----------------------------------------------------------------------------------------------------------

TINY = Settings(model="mlp", width=8, subset=64, epochs=2, eval_every=1)


def trained(root: Path, settings: Settings, seeds: tuple[int, ...] = (0,)) -> Path:
    """A sweep folder of really trained runs."""
    for seed in seeds:
        for elr in (1e-3, 1e-1):
            obtain(root / "runs", settings, elr=elr, seed=seed)
    sweep = {"base": {}, "axis": "elr", "values": [1e-3, 1e-1], "seeds": list(seeds)}
    (root / "sweep-config.json").write_text(json.dumps({"format": 3, "sweep": sweep}))
    return root


def stars(axes: Any) -> list[tuple[float, float]]:
    found = [line for line in axes.lines if line.get_marker() == "*" and len(line.get_xdata())]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in found]


def test_one_star_a_seed_at_epoch_0(tmp_path: Path) -> None:
    sweep = load_sweep(trained(tmp_path, TINY, (0, 1)))
    wanted = set()
    for run in sweep.runs:
        (at, loss), (_, eg) = (run.series("train", "total", quantity) for quantity in ("loss", "eg"))
        assert at[0] == 0
        wanted.add((float(loss[0]), float(eg[0])))
    assert len(wanted) == 2  # the same weights, so the same numbers, whatever the ELR
    for split in ("train", "online"):
        drawing = diagram(gather(sweep), split)
        assert sorted(stars(drawing.fig.axes[0])) == sorted(wanted)
        assert "a star at the weights training began with" in drawing.caption
    assert sorted(sphere.starts(sweep.runs)) == sorted(wanted)


def test_no_star_where_the_start_was_not_measured(tmp_path: Path) -> None:
    sweep = load_sweep(trained(tmp_path, Settings(model="mlp", width=8, subset=64, epochs=2, evaluation="online")))
    drawing = diagram(gather(sweep), "online")
    assert stars(drawing.fig.axes[0]) == []
    assert "star" not in drawing.caption
    assert sphere.starts(sweep.runs) == []


# -- one name, one quantity --------------------------------------------------------------------------------------------

NAMES = ("train_loss", "test_error", "effective_gradient", "ess", "cosine")


def test_the_page_of_a_run_and_the_map_say_the_same_numbers(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "r", 0.1, 20)
    run = load_run(tmp_path / "r")
    alone, listed = run_facts(run).row, run_row(run, classify(run))
    assert [alone[name] for name in NAMES] == [listed[name] for name in NAMES]
    loss = run.series("online", "total", "loss")[1]
    assert listed["train_loss"] == pytest.approx(loss[10:].mean(), rel=1e-15)
    assert measured(run)["test_error"] == run.series("test", "total", "error")[1][-1]


def test_what_the_numbers_of_a_run_are_is_said(tmp_path: Path) -> None:
    facts = gather(load_sweep(folders.write_sweep(tmp_path / "s", [0.1], 20, diverged=False)))
    first, last = facts.runs[0].window or (0, 0)
    assert numbers_line(facts.runs[0]).endswith(f"; means of epochs {first}-{last}")


def test_an_elr_never_stands_in_for_a_learning_rate(tmp_path: Path) -> None:
    """A run of a sweep over learning rates whose own is not known has none, though its ELR was measured."""
    folder = folders.write_sweep(tmp_path / "s", [0.5, 1.0], 10, diverged=False)
    head = json.loads((folder / "sweep-config.json").read_text())
    head["sweep"]["axis"] = "lr"
    (folder / "sweep-config.json").write_text(json.dumps(head))
    (folder / "sweep.json").unlink()
    for k, path in enumerate(sorted(folder.glob("runs/*/config.json"))):
        content = json.loads(path.read_text())
        content["config"] |= {"elr": None, "lr": 30.0 if k else None}
        path.write_text(json.dumps(content))
    facts = gather(load_sweep(folder))
    assert facts.rate_name == "LR"
    assert facts.rates == [30.0]

"""The map of a sweep from run folders, and one real sweep on digits."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaleinv.analysis.regimes import NAMES, classify, window
from scaleinv.runfolder.read import load_run
from scaleinv.studies.regime_map import count_regimes, failed_row, regime_map, run_row, verdict_of

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from folders import write_run


def test_a_row_holds_means_over_the_window_and_the_last_test_errors(tmp_path: Path) -> None:
    write_run(tmp_path / "abc", elr=0.1, seed=4)
    run, verdict = verdict_of(tmp_path / "abc")
    row = run_row(run, verdict)
    epochs, loss = run.series("online", "total", "loss")
    assert row["run"] == "abc"
    assert (row["elr"], row["lr"], row["seed"], row["status"]) == (0.1, None, 4, "finished")
    assert row["train_loss"] == pytest.approx(float(np.mean(loss[epochs > 30])))
    for key, quantity in (("effective_gradient", "eg"), ("ess", "ess"), ("cosine", "cosine")):
        values = run.series("online", "total", quantity)[1]
        assert row[key] == pytest.approx(float(np.mean(values[epochs > 30])))
    assert row["test_error"] == run.series("test", "total", "error")[1][-1]
    assert row["test_error_recomputed_bn"] == run.series("test", "total", "error_recomputed_bn")[1][-1]
    assert (row["regime"], row["evidence"]) == (verdict.regime, verdict.evidence)
    assert len(window(run).loss) == 30
    json.dumps(row)


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    write_run(tmp_path / "abc", elr=0.1, diverge_at=20)
    run, verdict = verdict_of(tmp_path / "abc")
    row = run_row(run, verdict)
    assert verdict.regime is None
    assert row["train_loss"] is None
    assert row["effective_gradient"] is None
    assert row["test_error_recomputed_bn"] is None
    assert row["status"] == "diverged"


def test_the_classes_are_those_of_the_data(tmp_path: Path) -> None:
    write_run(tmp_path / "few", elr=3.0)
    write_run(tmp_path / "many", elr=3.0, config={"data": "cifar100"})
    few, many = load_run(tmp_path / "few"), load_run(tmp_path / "many")
    assert classify(few).evidence["chance_error"] == 0.9
    assert classify(few).evidence["threshold"] == 0.01 * math.log(10)
    assert classify(many).evidence["chance_error"] == 0.99
    assert classify(many).evidence["threshold"] == 0.01 * math.log(100)


def rows(regimes: str, axis: str = "elr") -> list[dict[str, Any]]:
    return [
        {
            "run": str(i),
            "elr": None,
            "lr": None,
            axis: 10.0 ** (i - 4),
            "seed": 0,
            "regime": None if r == "." else int(r),
        }
        for i, r in enumerate(regimes)
    ]


@pytest.mark.parametrize("axis", ["elr", "lr"])
def test_the_map_names_its_axis_and_horizon(axis: str) -> None:
    summary = regime_map(rows("112.3", axis), axis, {"epochs": 60})
    assert summary["boundaries"]["1/2"] == {"low": 1e-3, "high": 1e-2, "decided": True}
    assert summary["boundaries"]["2/3"] == {"low": 1e-2, "high": 1.0, "decided": True}
    assert summary["axis"] == axis
    assert summary["horizon"] == {"epochs": 60}
    counted = count_regimes(summary)
    assert counted == {NAMES[1]: [1e-4, 1e-3], NAMES[2]: [1e-2], NAMES[3]: [1.0], NAMES[None]: [0.1]}
    json.dumps(summary, allow_nan=False)


def test_a_failed_run_has_its_place_and_no_say() -> None:
    failed = failed_row("x", {"elr": 1e-3, "lr": None, "seed": 0}, "no space left")
    good = rows("123")
    summary = regime_map([*good, failed], "elr", {})
    assert set(failed) >= {"run", "elr", "seed", "regime", "evidence", "train_loss", "test_error", "cosine", "status"}
    assert failed["evidence"]["reason"] == "the run failed: no space left"
    assert summary["boundaries"] == regime_map(good, "elr", {})["boundaries"]
    assert count_regimes(summary)[NAMES[None]] == [1e-3]


@pytest.mark.slow
@pytest.mark.slow
def test_a_real_sweep_shows_the_three_regimes(tmp_path: Path) -> None:
    """The default network, fewer images and epochs, one ELR well within each regime."""
    from scaleinv.lab.config import Settings
    from scaleinv.lab.resolve import load_data, resolve
    from scaleinv.lab.train import run as train

    settings = Settings(data="digits", subset=600, epochs=20, evaluation="online")
    data = load_data(settings)
    found: list[dict[str, Any]] = []
    for elr in (1e-3, 1e-2, 1.0):
        folder = tmp_path / f"{elr}"
        train(resolve(settings, data, elr=elr, lr=None, seed=0, threads=1), data, folder)
        found.append(run_row(*verdict_of(folder)))
    assert [row["regime"] for row in found] == [1, 2, 3], [row["evidence"]["reason"] for row in found]
    low, middle, high = (row["train_loss"] for row in found)
    assert 10 * low < middle < high / 2
    # One evaluation, of weights that are random: at worst all images of a class get one answer, right for one in ten,
    # and the accuracy is that of ten guesses. Three standard deviations.
    assert found[2]["test_error"] == pytest.approx(0.9, abs=3 * math.sqrt(0.1 * 0.9 / 10))
    assert found[2]["evidence"]["error"] == pytest.approx(0.9, abs=0.05 * 0.9)  # over ten epochs
    assert abs(found[2]["cosine"]) < 0.1
    summary = regime_map(found, "elr", {"epochs": 20})
    assert summary["boundaries"]["1/2"] == {"low": 1e-3, "high": 1e-2, "decided": True}
    assert summary["boundaries"]["2/3"] == {"low": 1e-2, "high": 1.0, "decided": True}
    assert all(math.isfinite(row["ess"]) for row in found)

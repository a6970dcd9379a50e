"""A loop logs to W&B, its history is exported as W&B's API and page do it, and ``periods`` reads what was measured."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net
from torch.nn import functional

from scaleinv import Monitor
from scaleinv.analysis.periods.logs import read_log
from scaleinv.monitor.sinks import Wandb

STEPS, OFTEN = 90, 3
NAME = "lucky-sun-3"


class Run:
    """Rows as W&B keeps them: what is logged with ``commit=False`` joins the next row; every row has a ``_step``."""

    def __init__(self) -> None:
        self.step, self.rows, self._open = 0, [], {}  # type: ignore[var-annotated]

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def alert(self, *_: Any, **__: Any) -> None: ...

    def log(self, row: dict[str, float], commit: bool = True) -> None:
        self._open.update(row)
        if commit:
            self.rows.append({**self._open, "_step": self.step, "_runtime": 0.1 * self.step, "_timestamp": 1.7e9})
            self.step, self._open = self.step + 1, {}


@pytest.fixture(scope="module")
def trained() -> tuple[Run, Monitor]:
    """Ninety steps; every third is logged, so that W&B's own step is a third of the optimizer's."""
    run, model = Run(), net()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scaleinv.monitor.sinks.trackers.need", lambda *_: SimpleNamespace(run=None))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
        monitor = Monitor(model, optimizer, groups=FREE, every=OFTEN, sinks=Wandb(run))
        for i, (x, y) in enumerate(batches(STEPS)):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            monitor.loss(loss)
            optimizer.step()
            if i % OFTEN == 0:
                run.log({"train/loss": loss.item()})
            if i % 30 == 29:
                run.log({"val/loss": 9.0})  # a row of its own
        monitor.close()
    return run, monitor


def cell(value: Any) -> str:
    """A number as pandas writes it; W&B gives what is not finite as text."""
    if value is None:
        return ""
    return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN" if value != value else repr(value))


def api(path: Path, rows: list[dict[str, float]], index: bool) -> None:
    """``run.history(samples=10**6).to_csv(path)``, or ``pandas.DataFrame(run.scan_history())`` without an index."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *names] if index else names)
        for k, row in enumerate(rows):
            cells = [cell(row.get(name)) for name in names]
            writer.writerow([k, *cells] if index else cells)


def page(path: Path, rows: list[dict[str, float]], x: str, metric: str) -> None:
    """The page's export of a panel: one metric with its bounds, every cell in quotes, no end of the last line."""
    title = "Step" if x == "_step" else x
    lines = [[title, *(f"{NAME} - {metric}{end}" for end in ("", "__MIN", "__MAX"))]]
    lines += [[cell(row[x]), *3 * [cell(row[metric])]] for row in rows if x in row and metric in row]
    path.write_text("\n".join(",".join(f'"{c}"' for c in line) for line in lines))


def compare(found: dict[str, Any], monitor: Monitor) -> None:
    """What is read is what the Monitor measured, at the optimizer's steps."""
    history = monitor.history()
    assert found["step"].tolist() == history["step"].tolist() == list(range(0, STEPS, OFTEN))
    np.testing.assert_allclose(found["rho"], history["total/rho"], rtol=1e-12)
    np.testing.assert_allclose(found["loss"], history["loss"], rtol=1e-6)


@pytest.mark.parametrize("index", [True, False], ids=["history", "scan_history"])
def test_the_api_gives_what_was_measured(index: bool, trained: tuple[Run, Monitor], tmp_path: Path) -> None:
    run, monitor = trained
    api(tmp_path / "run.csv", run.rows, index)
    read = read_log(tmp_path / "run.csv")
    compare(read.columns, monitor)
    np.testing.assert_allclose(read.columns["eg"], monitor.history()["total/eg"], rtol=1e-12)
    assert "step = scaleinv/step" in read.said[0]


def test_the_page_gives_what_was_measured(trained: tuple[Run, Monitor], tmp_path: Path) -> None:
    run, monitor = trained
    for name, metric in (("loss.csv", "train/loss"), ("norm.csv", "scaleinv/total/rho")):
        page(tmp_path / name, run.rows, "scaleinv/step", metric)
    read = read_log(tmp_path / "loss.csv", tmp_path / "norm.csv")
    compare(read.columns, monitor)
    assert not any("cut short" in words for words in read.said)


def test_a_run_that_diverged_has_its_numbers_in_words(trained: tuple[Run, Monitor], tmp_path: Path) -> None:
    run, _ = trained
    rows = [dict(row) for row in run.rows if "train/loss" in row]
    rows[-2]["train/loss"], rows[-1]["train/loss"] = math.inf, math.nan
    api(tmp_path / "run.csv", rows, True)
    loss = read_log(tmp_path / "run.csv").columns["loss"]
    assert loss[-2] == math.inf
    assert math.isnan(loss[-1])

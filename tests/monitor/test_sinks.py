"""Every sink with the real library, its output read back. A library that is not there is skipped by name."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_nets import FREE, net, train

from scaleinv import Monitor, UserError
from scaleinv.monitor.sinks import MLflow, RunFolder, TensorBoard, Trackio, Wandb
from scaleinv.monitor.sinks.folder import to_parquet


def run(sinks: Any, steps: int = 6, seed: int = 0) -> Monitor:
    model = net(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    with Monitor(model, optimizer, groups=FREE, every=2, sinks=sinks) as monitor:
        train(model, optimizer, steps, monitor)
    return monitor


def test_run_folder_is_read_by_the_analysis_and_the_report(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from scaleinv.analysis.runs import load_run

    monitor = run(str(tmp_path / "run"))
    found = load_run(tmp_path / "run")
    h = monitor.history()
    assert found.status == "finished"
    assert found.groups() == FREE
    assert found.result["steps"] == 6
    for group in ("total", *FREE):
        for quantity in ("rho", "angle"):
            series = found.table("online", group, quantity)
            assert series.steps.tolist() == [0, 2, 4]
            np.testing.assert_array_equal(series.values, h[f"{group}/{quantity}"])
    assert found.series("online", "total", "loss")[1] == pytest.approx(h["loss"])
    run(RunFolder(tmp_path / "all", everything=True))
    everything = load_run(tmp_path / "all")
    assert everything.has("online", "6.weight (scale unknown)", "angle")
    assert not everything.has("online", "6.weight (scale unknown)", "elr")
    assert found.elr == h["total/elr"][0]
    assert found.config["optimizers"][0]["groups"][0]["lr"] == 0.1
    pytest.importorskip("matplotlib")
    from scaleinv.report import write_report

    page = write_report(tmp_path / "run").read_text()
    assert "0.weight" in page


def test_jsonl_without_pyarrow_and_its_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("scaleinv.monitor.sinks.folder._has_pyarrow", lambda: False)
    with pytest.raises(UserError, match="Parquet files need pyarrow"):
        run(RunFolder(tmp_path / "no", form="parquet"))
    monitor = run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {r["step"] for r in rows} == {0, 2, 4}
    with pytest.raises(UserError, match="need pyarrow"):
        to_parquet(tmp_path / "run")
    monkeypatch.undo()
    from scaleinv.analysis.runs import load_run

    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "ep')  # not whole yet
    lines = load_run(tmp_path / "run").table("online", "0.weight", "eg").values
    np.testing.assert_array_equal(lines, monitor.history()["0.weight/eg"])
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(text.replace('"step": 2', '"step": x', 1))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line \d+ is damaged"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text(text.rpartition('{"step": 6')[0])
    to_parquet(tmp_path / "run")
    values = load_run(tmp_path / "run").table("online", "0.weight", "eg").values
    np.testing.assert_array_equal(values, monitor.history()["0.weight/eg"])


def test_parts_alerts_and_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from scaleinv.analysis.runs import load_run

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(tmp_path / "run", rows=20))
    train(model, optimizer, 3, monitor)
    monitor.epoch = 7
    monitor.loss(float("inf"))
    optimizer.step()
    assert load_run(tmp_path / "run").status == "running"  # readable while it goes on
    monitor.close()
    assert len(list((tmp_path / "run" / "metrics").glob("part-*.parquet"))) >= 3
    losses = load_run(tmp_path / "run").table("online", "total", "loss")
    assert math.isinf(losses.values[-1])
    assert losses.epochs.tolist() == [0, 1, 2, 7]  # a step counts as an epoch until one is told
    alerts = [json.loads(line) for line in (tmp_path / "run" / "alerts.jsonl").read_text().splitlines()]
    assert [a["kind"] for a in alerts] == ["non-finite"]


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    run(tmp_path / "run")
    run(tmp_path / "run", 2)  # the same model and optimizer: goes on
    other = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="holds another run"):
        Monitor(other, torch.optim.Adam(other.parameters()), sinks=tmp_path / "run")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        Monitor(other, torch.optim.Adam(other.parameters()), sinks=tmp_path / "file" / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="not a run folder"):
        Monitor(other, torch.optim.Adam(other.parameters()), sinks=tmp_path / "full")


@pytest.mark.parametrize(
    ("sink", "module"), [(TensorBoard, "tensorboard"), (Wandb, "wandb"), (MLflow, "mlflow"), (Trackio, "trackio")]
)
def test_a_tracker_that_is_not_installed(sink: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"pip install {module}"):
        run(sink())


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = run(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("scaleinv/0.weight/elr")
    assert [s.step for s in scalars] == [0, 2, 4]
    assert [s.value for s in scalars] == pytest.approx(monitor.history()["0.weight/elr"].tolist(), rel=1e-6)
    assert "scaleinv/6.weight/elr" not in events.Tags()["scalars"]
    assert "scaleinv/loss" in events.Tags()["scalars"]


def blocks(data: bytes) -> list[bytes]:
    """The records of an offline file of wandb: LevelDB's log format after seven bytes of header."""
    found, at, part = [], 7, b""
    while at + 7 <= len(data):
        rest = 32768 - at % 32768
        if rest < 7:
            at += rest
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(part)
            part = b""
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_SILENT", "true")
    monitor = run(Wandb(project="test", mode="offline", dir=str(tmp_path)))
    files = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 1
    deadline = time.monotonic() + 30
    while files[0].stat().st_size < 100 and time.monotonic() < deadline:  # its own process writes a little later
        time.sleep(0.1)
    time.sleep(0.5)
    found = []
    for data in blocks(files[0].read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            found.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
    assert [f["scaleinv/step"] for f in found] == [0, 2, 4]
    assert [f["scaleinv/0.weight/angle"] for f in found] == pytest.approx(monitor.history()["0.weight/angle"].tolist())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database
    monitor = run(MLflow(tracking_uri=(tmp_path / "mlruns").as_uri(), run_name="test"))
    assert mlflow.active_run() is None
    client = mlflow.tracking.MlflowClient()
    (experiment,) = client.search_experiments()
    (done,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(done.info.run_id, "scaleinv/0.weight/rho")
    assert [m.step for m in history] == [0, 2, 4]
    assert [m.value for m in history] == pytest.approx(monitor.history()["0.weight/rho"].tolist())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    monitor = run(Trackio("monitor-test", name="one", embed=False, auto_log_cpu=False, auto_log_gpu=False))
    rows = SQLiteStorage.get_logs("monitor-test", "one")
    assert [r["step"] for r in rows] == [0, 2, 4]
    values = [r["scaleinv/0.weight/rho"] for r in rows]
    assert values == pytest.approx(monitor.history()["0.weight/rho"].tolist())


def test_a_run_folder_says_what_it_was_told_of_the_classes_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from scaleinv.analysis.regime_map import verdict_of

    run(RunFolder(tmp_path / "untold"), steps=80)
    _, verdict = verdict_of(tmp_path / "untold")
    assert verdict.regime is None
    assert "no chance_error" in verdict.evidence["reason"]
    assert "no constant_loss" in verdict.evidence["reason"]
    assert verdict.evidence["chance_error"] is None
    assert math.isnan(verdict.evidence["threshold"])

    told = {"classes": 4, "constant_loss": math.log(4)}
    run(RunFolder(tmp_path / "told", **told), steps=80)
    found, verdict = verdict_of(tmp_path / "told")
    assert found.config["classes"] == 4
    assert verdict.evidence["chance_error"] == 0.75
    assert verdict.evidence["threshold"] == 0.01 * math.log(4)
    run(RunFolder(tmp_path / "untold", **told), steps=4)  # the same run goes on, and now it is told
    assert verdict_of(tmp_path / "untold")[1].evidence["chance_error"] == 0.75
    run(RunFolder(tmp_path / "unequal", classes=4, chance_error=0.3), steps=4)
    content = json.loads((tmp_path / "unequal/config.json").read_text())["config"]
    assert (content["chance_error"], "constant_loss" in content) == (0.3, False)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"classes": 1}, "classes=1: give the number of classes"),
        ({"classes": 4.0}, "classes=4.0"),
        ({"chance_error": 75}, "chance_error=75: give a fraction"),
        ({"constant_loss": math.inf}, "constant_loss=inf: give a positive number"),
        ({"constant_loss": math.nan}, "constant_loss=nan"),
    ],
)
def test_levels_that_make_no_sense_are_refused(tmp_path: Path, told: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RunFolder(tmp_path / "run", **told)
    assert not (tmp_path / "run").exists()

"""Every sink with the real library, its output read back. A library that is not there is skipped by name."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import time
import weakref
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
    from scaleinv.runfolder.read import load_run

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
    monkeypatch.setattr("scaleinv.monitor.sinks.folder.has_pyarrow", lambda: False)
    with pytest.raises(UserError, match="Parquet files need pyarrow"):
        run(RunFolder(tmp_path / "no", form="parquet"))
    monitor = run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {r["step"] for r in rows} == {0, 2, 4}
    with pytest.raises(UserError, match="need pyarrow"):
        to_parquet(tmp_path / "run")
    monkeypatch.undo()
    from scaleinv.runfolder.read import load_run

    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "ep')  # not whole yet
    lines = load_run(tmp_path / "run").table("online", "0.weight", "eg").values
    np.testing.assert_array_equal(lines, monitor.history()["0.weight/eg"])
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(text.replace('"step": 2', '"step": x', 1))
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text(text.rpartition('{"step": 6')[0])
    to_parquet(tmp_path / "run")
    values = load_run(tmp_path / "run").table("online", "0.weight", "eg").values
    np.testing.assert_array_equal(values, monitor.history()["0.weight/eg"])


def test_parts_alerts_and_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from scaleinv.runfolder.read import load_run

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(tmp_path / "run", rows=20))
    train(model, optimizer, 3, monitor)
    monitor.epoch = 7
    monitor.loss(float("inf"))
    optimizer.step()
    assert load_run(tmp_path / "run").status == "running"  # readable while it trains
    monitor.close()
    assert len(list((tmp_path / "run" / "metrics").glob("part-*.parquet"))) >= 3
    losses = load_run(tmp_path / "run").table("online", "total", "loss")
    assert math.isinf(losses.values[-1])
    assert losses.epochs.tolist() == [0, 1, 2, 7]  # a step counts as an epoch until one is told
    alerts = [json.loads(line) for line in (tmp_path / "run" / "alerts.jsonl").read_text().splitlines()]
    assert [a["kind"] for a in alerts] == ["non-finite"]


def test_folders_that_will_not_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path / "run")
    other = torch.nn.Linear(2, 2)
    before = files(tmp_path / "run")
    with Monitor(other, torch.optim.Adam(other.parameters()), sinks=(sink := RunFolder(tmp_path / "run"))):
        assert "holds another run, which is left as it is; this one goes to" in caplog.text
    assert sink.folder == tmp_path / "run-2"
    assert files(tmp_path / "run") == before
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
    from scaleinv.studies.regime_map import verdict_of

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

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "later")
    train(model, optimizer, 4, first)
    first.close()
    sink = RunFolder(tmp_path / "later", **told)  # the same run is resumed, and now it is told
    second = Monitor(model, optimizer, groups=FREE, every=1, sinks=sink)
    second.load_state_dict(first.state_dict())
    train(model, optimizer, 80, second)
    second.close()
    assert verdict_of(tmp_path / "later")[1].evidence["chance_error"] == 0.75

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


# -- one folder, one run -----------------------------------------------------------------------------------------------


def rows_of(folder: Path, quantity: str = "loss") -> tuple[list[int], list[float]]:
    from scaleinv.runfolder.read import load_run

    table = load_run(folder).table("online", "total", quantity)
    return table.steps.tolist(), table.values.tolist()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


FORMS = pytest.mark.parametrize("form", ["parquet", "jsonl"])


@FORMS
def test_a_second_run_goes_beside_the_first_and_says_so(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    run(RunFolder(folder, form=form))
    before = files(folder)
    for number in (2, 3):
        model = net(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=1e-3)
        sink = RunFolder(folder, form=form)
        with Monitor(model, optimizer, groups=FREE, every=2, sinks=sink) as monitor:
            train(model, optimizer, 4, monitor)
        assert sink.folder == tmp_path / f"run-{number}"
        assert rows_of(sink.folder)[0] == [0, 2]
        assert f"this one goes to {sink.folder}" in caplog.text
    assert "holds a run, logged up to step 4" in caplog.text
    assert files(folder) == before


@FORMS
def test_a_run_goes_on_from_its_state_and_no_step_is_there_twice(tmp_path: Path, form: str) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    model, reference = net(), net()
    optimizer, other = (torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=1e-3) for m in (model, reference))
    first = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(folder, form=form, rows=60))
    train(model, optimizer, 14, first)
    state, weights = first.state_dict(), {k: v.clone() for k, v in model.state_dict().items()}
    train(model, optimizer, 6, first)  # the branch that is lost
    first.loss(float("inf"))
    optimizer.step()  # with an alert
    first.close()
    assert (folder / "alerts.jsonl").read_text()
    model.load_state_dict(weights)
    second = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(folder, form=form, rows=60))
    second.load_state_dict(state)
    train(model, optimizer, 4, second)
    second.close()
    with Monitor(reference, other, groups=FREE, every=1, sinks=RunFolder(whole, form=form)) as monitor:
        train(reference, other, 14, monitor)
        train(reference, other, 4, monitor)
    for quantity in ("loss", "rho", "angle"):
        assert rows_of(folder, quantity) == rows_of(whole, quantity)
    assert rows_of(folder)[0] == list(range(18))
    assert not (folder / "alerts.jsonl").read_text()
    assert json.loads((folder / "result.json").read_text())["steps"] == 18


def test_a_monitor_may_go_back_within_its_run(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "run")
    train(model, optimizer, 3, monitor)
    state = monitor.state_dict()
    train(model, optimizer, 5, monitor)
    monitor.load_state_dict(state)
    train(model, optimizer, 1, monitor)
    monitor.close()
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2, 3]
    assert rows_of(tmp_path / "run")[1] == monitor.history()["loss"].tolist()


def test_a_state_of_step_zero_does_not_clear_a_run(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = files(tmp_path / "run")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    empty = Monitor(model, optimizer, groups=FREE).state_dict()
    sink = RunFolder(tmp_path / "run")
    with Monitor(model, optimizer, groups=FREE, sinks=sink) as monitor:
        monitor.load_state_dict(empty)
        train(model, optimizer, 2, monitor)
    assert sink.folder == tmp_path / "run-2"
    assert files(tmp_path / "run") == before


def test_two_open_monitors_do_not_share_a_folder(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "run")
    second = Monitor(model, optimizer, groups=FREE, every=2, sinks=tmp_path / "run")  # a cell that is run again
    train(model, optimizer, 3, first)
    first.close()
    second.close()
    assert rows_of(tmp_path / "run-2", "rho")[0] == [0, 2]
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2]
    # a monitor that was never started leaves nothing to protect, and one that is refused locks nothing
    Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "new").close()
    Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "new").close()
    Monitor(model, optimizer, groups=FREE, sinks=[tmp_path / "two", tmp_path / "two"]).close()
    assert (tmp_path / "two-2" / "config.json").exists()


@FORMS
def test_rows_are_on_the_disk_early_and_every_few_seconds(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scaleinv.monitor.sinks import rows
    from scaleinv.runfolder.read import load_run

    now = [100.0]
    monkeypatch.setattr(rows.time, "monotonic", lambda: now[0])
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(tmp_path / "run", form=form))
    train(model, optimizer, 1, monitor)
    assert rows_of(tmp_path / "run")[0] == [0]
    now[0] += 4.9
    train(model, optimizer, 2, monitor)
    assert rows_of(tmp_path / "run")[0] == [0]
    now[0] += 0.2
    train(model, optimizer, 1, monitor)
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2, 3]
    train(model, optimizer, 1, monitor)
    monitor.loss(float("nan"))
    optimizer.step()  # an alert
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2, 3, 4, 5]
    assert load_run(tmp_path / "run").status == "running"
    assert len(list((tmp_path / "run" / "metrics").iterdir())) == (form == "parquet")  # one part, written again
    monitor.close()
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2, 3, 4, 5]


def test_a_monitor_that_is_forgotten_writes_its_rows_and_frees_the_folder(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "run")
    train(model, optimizer, 4, monitor)
    leaf = weakref.ref(model)
    del monitor, model, optimizer
    gc.collect()
    assert leaf() is None
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2, 3]
    assert not (tmp_path / "run" / "result.json").exists()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "run").close()  # not locked


_ENDS = {"end": "pass", "exit": "sys.exit(3)", "exception": "raise RuntimeError", "kill": "os.kill(os.getpid(), 9)"}
_SLOW = [pytest.param(name, marks=pytest.mark.slow if name != "exit" else ()) for name in _ENDS]


@pytest.mark.parametrize("end", _SLOW)
def test_what_an_unclosed_monitor_took_is_on_the_disk_when_the_process_ends(tmp_path: Path, end: str) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from monitor_nets import FREE, net, train
from scaleinv import Monitor
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=sys.argv[1])
train(model, optimizer, 100, monitor)
{_ENDS[end]}
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == {"end": 0, "exit": 3, "exception": 1, "kill": -9}[end], done.stderr
    steps, _ = rows_of(tmp_path / "run")
    if end == "kill":  # at most the last five seconds are missing
        assert steps == list(range(len(steps)))
        assert steps
    else:
        assert steps == list(range(100))
    from scaleinv.runfolder.read import load_run

    assert load_run(tmp_path / "run").status == "running"


def test_a_killed_run_of_json_lines_goes_on(tmp_path: Path) -> None:
    """The last line was not whole."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = Monitor(model, optimizer, groups=FREE, every=1, sinks=RunFolder(tmp_path / "run", form="jsonl"))
    train(model, optimizer, 3, first)
    state = first.state_dict()
    first.close()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "epo')
    second = Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "run")  # stays with lines
    second.load_state_dict(state)
    train(model, optimizer, 2, second)
    second.close()
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2, 3, 4]


def test_a_monitor_that_gives_up_writes_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = Monitor(model, optimizer, groups=FREE, every=1, sinks=tmp_path / "run")
    train(model, optimizer, 3, monitor)
    monkeypatch.setattr("scaleinv.monitor.monitor.RateBook.rates", lambda book, optimizer: 1 / 0)
    with pytest.warns(RuntimeWarning, match="stopped measuring at step 3"):
        train(model, optimizer, 2, monitor)
    assert rows_of(tmp_path / "run")[0] == [0, 1, 2]


def test_a_clock_that_is_set_back_gives_no_negative_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(told)))
    run(tmp_path / "run", steps=2)
    assert 0 <= json.loads((tmp_path / "run" / "result.json").read_text())["timing"]["seconds"] < 60

"""Reading run and sweep folders: what is there is read as written, what is wrong is told in one line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Run, folder_kind, load_run, load_sweep

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)
ROWS = [
    (0, 0, "reference", "direction-0", "loss", 8.5),
    (0, 0, "reference", "direction-1", "loss", 8.7),
    (0, 0, "reference_present", "direction-7", "loss", 1.0),
    (0, 0, "train", "total", "loss", 9.0),
    (0, 0, "train", "b", "eg", 600.0),
    (90, 1, "online", "total", "loss", 4.0),
    (90, 1, "online", "total", "elr", 0.125),
    (90, 1, "online", "a", "eg", 60.0),
    (180, 2, "online", "total", "loss", 2.0),
    (180, 2, "train", "total", "loss", 1.5),
    (180, 2, "test", "total", "error", math.nan),
    (270, 3, "online", "total", "loss", math.inf),
]


def write(
    folder: Path, rows: list[tuple[object, ...]] | None = None, part: str = "part-000000.parquet", **config: object
) -> Path:
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    head = {"format": 3, "config": {"elr": 0.5, "seed": 3, **config}, "identity": "abc", "environment": {"threads": 1}}
    (folder / "config.json").write_text(json.dumps(head))
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row)) for row in (ROWS if rows is None else rows)], SCHEMA)
    pq.write_table(table, folder / "metrics" / part)
    return folder


def test_a_run_is_read_as_written(tmp_path: Path) -> None:
    run = load_run(write(tmp_path / "r"))
    assert (run.name, run.identity, run.elr, run.seed, run.environment) == ("r", "abc", 0.5, 3, {"threads": 1})
    epochs, values = run.series("online", "total", "loss")
    assert epochs.tolist() == [1, 2, 3]
    assert values.tolist() == [4.0, 2.0, math.inf]
    assert run.table("online", "total", "loss").steps.tolist() == [90, 180, 270]
    assert run.series("train", "total", "loss")[1].tolist() == [9.0, 1.5]
    assert run.groups() == ["b", "a"]  # as first written
    assert run.quantities("online") == ["loss", "elr"]
    assert run.reference().tolist() == [8.5, 8.7]
    assert run.last_epoch == 3


def test_what_was_never_measured_is_empty_and_nan_is_not_measured(tmp_path: Path) -> None:
    run = load_run(write(tmp_path))
    epochs, values = run.series("test", "total", "nonsense")
    assert epochs.dtype == np.int64
    assert values.size == 0
    assert not run.has("test", "total", "nonsense")
    assert not run.has("test", "total", "error")
    assert run.has("online", "total", "loss")
    assert run.reference("error").size == 0


def test_parts_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    rows = [(s, s, "online", "total", "loss", float(s)) for s in range(12)]
    for i in (2, 0, 10, 1, 3):  # written out of order
        chosen = {0: rows[:3], 1: rows[3:4], 2: rows[4:9], 3: rows[9:11], 10: rows[11:]}[i]
        write(tmp_path, list(chosen), f"part-{i:06d}.parquet")
    (tmp_path / "metrics" / "part-000099.parquet.partial").write_bytes(b"half a file")
    assert load_run(tmp_path).series("online", "total", "loss")[1].tolist() == [float(s) for s in range(12)]


def test_a_run_that_just_ended_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:4])
    write(tmp_path, ROWS, "part-final.parquet")  # joined, and the parts not removed yet
    assert load_run(tmp_path).series("train", "total", "loss")[1].tolist() == [9.0, 1.5]


def test_a_part_that_vanishes_while_it_is_read_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ROWS[:8])
    read = Path.read_bytes

    def end_the_run(part: Path) -> bytes:
        if part.name == "part-000000.parquet":
            write(tmp_path, ROWS, "part-final.parquet")
            part.unlink()
        return read(part)

    monkeypatch.setattr(Path, "read_bytes", end_the_run)
    assert load_run(tmp_path).last_epoch == 3


def test_a_run_in_progress_is_readable(tmp_path: Path) -> None:
    write(tmp_path)
    assert load_run(tmp_path).status == "running"
    (tmp_path / "result.json").write_text('{"status": "diverged", "message": "loss NaN", "loss": NaN}')
    run = load_run(tmp_path)
    assert run.status == "diverged"
    assert run.result is not None
    assert math.isnan(run.result["loss"])


def test_a_run_without_metrics_is_readable(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "metrics" / "part-000000.parquet").unlink()
    run = load_run(tmp_path)
    assert run.groups() == []
    assert run.last_epoch == 0
    write(tmp_path, [])  # a part with no rows
    assert load_run(tmp_path).metrics == {}


def test_the_elr_of_a_run_with_a_learning_rate_is_the_measured_one(tmp_path: Path) -> None:
    assert load_run(write(tmp_path, elr=None)).elr == 0.125
    assert math.isnan(load_run(write(tmp_path, [], elr=None)).elr)


def damage(folder: Path, kind: str) -> None:
    part = folder / "metrics" / "part-000000.parquet"
    head = json.loads((folder / "config.json").read_text())
    if kind == "truncated part":
        part.write_bytes(part.read_bytes()[:-20])
    elif kind == "other columns":
        pq.write_table(pa.table({"a": [1]}), part)
    elif kind == "wrong type":
        table = pa.table({n: ["x"] for n in SCHEMA.names})
        pq.write_table(table, part)
    elif kind == "config not json":
        (folder / "config.json").write_text("{")
    elif kind == "config is binary":
        (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    elif kind == "config is a list":
        (folder / "config.json").write_text("[1]")
    elif kind == "nan in config":
        head["config"]["elr"] = math.nan
        (folder / "config.json").write_text(json.dumps(head))
    elif kind == "foreign config":
        (folder / "config.json").write_text('{"model": "bert"}')
    elif kind == "newer format":
        (folder / "config.json").write_text(json.dumps({**head, "format": 5}))
    elif kind == "result not json":
        (folder / "result.json").write_text("finished")
    elif kind == "environment":
        (folder / "config.json").write_text(json.dumps({**head, "environment": 3}))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("truncated part", "part-000000.parquet"),
        ("other columns", "no column step"),
        ("wrong type", "wrong type"),
        ("config not json", "config.json is not readable JSON"),
        ("config is binary", "config.json is not readable JSON"),
        ("config is a list", "config.json holds list"),
        ("nan in config", "holds NaN"),
        ("foreign config", "not a folder of scaleinv"),
        ("newer format", "format 5"),
        ("result not json", "result.json is not readable JSON"),
        ("environment", "'environment'"),
    ],
)
def test_damage_is_told_in_one_line_that_names_the_file(tmp_path: Path, kind: str, named: str) -> None:
    write(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        load_run(tmp_path)
    assert named in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    for load in (load_run, load_sweep, folder_kind):
        with pytest.raises(UserError, match="no such folder"):
            load(tmp_path / "absent")
        with pytest.raises(UserError, match=r"neither sweep-config\.json nor config\.json"):
            load(tmp_path)
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="is a file"):
        load_run(tmp_path / "f")
    with pytest.raises(UserError, match="folder of a single run"):
        load_sweep(write(tmp_path / "run"))
    with pytest.raises(UserError, match="folder of a sweep"):
        load_run(write_sweep(tmp_path / "sweep"))


def write_sweep(folder: Path, summary: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "sweep-config.json").write_text(json.dumps({"format": 3, "sweep": {"axis": "elr"}}))
    for name, elr, seed in (("zz", 0.1, 1), ("mm", 0.1, 0), ("aa", 2.0, 0)):
        write(folder / "runs" / name, elr=elr, seed=seed)
    (folder / "runs" / "begun").mkdir()  # a worker has made the folder and nothing else yet
    if summary is not None:
        (folder / "sweep.json").write_text(summary)
    return folder


def test_a_sweep_is_read_by_rising_elr_then_seed(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s"))
    assert [run.name for run in sweep.runs] == ["mm", "zz", "aa"]
    assert sweep.summary is None
    assert sweep.config == {"axis": "elr"}
    found = sweep.find("aa")
    assert isinstance(found, Run)
    assert found.elr == 2.0
    assert sweep.find("absent") is None


def test_a_damaged_sweep_is_told(tmp_path: Path) -> None:
    assert load_sweep(write_sweep(tmp_path / "a", '{"runs": []}')).summary == {"runs": []}
    with pytest.raises(UserError, match=r"no list 'runs'"):
        load_sweep(write_sweep(tmp_path / "b", "{}"))
    with pytest.raises(UserError, match=r"sweep.json is not readable JSON"):
        load_sweep(write_sweep(tmp_path / "c", "{"))
    damage(write_sweep(tmp_path / "d") / "runs" / "mm", "truncated part")
    with pytest.raises(UserError, match="mm"):
        load_sweep(tmp_path / "d")


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path)
    code = f"import sys; from scaleinv.runfolder.read import load_run; load_run({str(tmp_path)!r}); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

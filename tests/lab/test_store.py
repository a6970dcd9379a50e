from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from test_config import CONFIG

from scaleinv.errors import UserError
from scaleinv.lab.config import read_config
from scaleinv.lab.train import open_store
from scaleinv.runfolder import inspect
from scaleinv.runfolder.rows import Row, to_table

ENVIRONMENT = {"scaleinv": "0"}
WEIGHTS = {"w": torch.ones(2)}
RESULT = {
    "status": "finished", "message": "", "steps": 2, "epochs": 1.0, "steps_per_epoch": 2, "timing": {},
    "regime": None, "evidence": None,
}  # fmt: skip


def row(step: int, value: float = 1.0) -> Row:
    return Row(step, step // 2, "online", "total", "loss", value)


def steps(folder: Path) -> list[int]:
    parts = sorted((folder / "metrics").glob("*.parquet"))
    return [step for part in parts for step in pq.read_table(part)["step"].to_pylist()]


def test_rows_after_the_last_checkpoint_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with open_store(folder, CONFIG, ENVIRONMENT) as store:
        assert store.resume() == (None, [])
        store.append([row(1)])
        store.checkpoint(1, WEIGHTS, {})
        store.append([row(2), row(3, float("nan"))])
        store.checkpoint(3, WEIGHTS, {})
        store.append([row(4)])
    # written by a process that was killed before its checkpoint was whole
    (folder / "metrics" / "part-00002.parquet").write_bytes(b"half")
    (folder / "metrics" / ".part-00003.parquet.part").write_bytes(b"half")
    assert steps_of_whole(folder) == [1, 2, 3]
    with open_store(folder, CONFIG, ENVIRONMENT) as store:
        found, complaints = store.resume()
        assert found is not None
        assert (found.step, complaints) == (3, [])
        assert sorted(p.name for p in (folder / "metrics").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
        store.append([row(5)])
        store.finish(5, WEIGHTS, {}, RESULT)
    assert [p.name for p in (folder / "metrics").iterdir()] == ["part-final.parquet"]
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-000000005"]
    assert steps(folder) == [1, 2, 3, 5]
    assert pq.read_schema(folder / "metrics" / "part-final.parquet").equals(to_table([]).schema)


def steps_of_whole(folder: Path) -> list[int]:
    return [
        step for k in (0, 1) for step in pq.read_table(folder / "metrics" / f"part-{k:05d}.parquet")["step"].to_pylist()
    ]


def test_the_result(tmp_path: Path) -> None:
    with open_store(tmp_path / "run", CONFIG, ENVIRONMENT) as store:
        assert store.result() == (None, [])
        store.resume()
        store.finish(0, WEIGHTS, {}, {**RESULT, "evidence": {"x": float("nan")}})
        assert store.result() == ({**RESULT, "evidence": {"x": None}}, [])
    (tmp_path / "run" / "result.json").write_text("{")
    with open_store(tmp_path / "run", CONFIG, ENVIRONMENT) as store:
        result, complaints = store.result()
        assert result is None
        assert len(complaints) == 1


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    "name", ["notes.txt", "metrics/part-mine.parquet", "checkpoints/model.pt", "metrics/", ".git/"]
)
def test_foreign_folders_are_refused_and_untouched(tmp_path: Path, name: str) -> None:
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="is not empty and not a run folder"):
        open_store(tmp_path, CONFIG, ENVIRONMENT)
    assert snapshot(tmp_path) == before


def test_strange_files_in_a_run_folder_are_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path, CONFIG, ENVIRONMENT) as store:
        store.resume()
    (tmp_path / "metrics" / "mine.csv").write_text("precious")
    (tmp_path / "checkpoints" / "mine").mkdir()
    with open_store(tmp_path, CONFIG, ENVIRONMENT) as store:
        store.resume()
        store.append([row(1)])
        store.checkpoint(1, WEIGHTS, {})
        store.finish(2, WEIGHTS, {}, RESULT)
    assert (tmp_path / "metrics" / "mine.csv").read_text() == "precious"
    assert (tmp_path / "checkpoints" / "mine").is_dir()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "run", CONFIG, ENVIRONMENT):
        pass
    before = snapshot(tmp_path)
    other = dataclasses.replace(CONFIG, elr=0.5, width=9)
    with pytest.raises(UserError, match=r"holds another run \(width 8 there, 9 here; elr 0.1 there, 0.5 here\)"):
        open_store(tmp_path / "run", other, ENVIRONMENT)
    with pytest.raises(UserError, match=r"holds another run \(threads 1 there, 2 here\)"):
        open_store(tmp_path / "run", dataclasses.replace(CONFIG, threads=2), ENVIRONMENT)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep-config.json").write_text("{}")
    with pytest.raises(UserError, match="is the folder of a sweep"):
        open_store(tmp_path / "sweep", CONFIG, ENVIRONMENT)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        open_store(tmp_path / "file", CONFIG, ENVIRONMENT)
    assert {name: content for name, content in snapshot(tmp_path).items() if name.startswith("run")} == before


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open_store(tmp_path, CONFIG, ENVIRONMENT):
        with pytest.raises(UserError, match="another process is working on"):
            open_store(tmp_path, CONFIG, ENVIRONMENT)
        with pytest.raises(UserError, match="holds another run"):  # a better reason than the lock
            open_store(tmp_path, dataclasses.replace(CONFIG, seed=1), ENVIRONMENT)
    open_store(tmp_path, CONFIG, ENVIRONMENT).__exit__()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not readable JSON"),
        ("[]", "is not the config of a run"),
        ('{"config": 3}', "is not the config of a run"),
        ('{"format": 99, "config": {}}', "has the format 99, this version reads 3 and 4"),
        ('{"format": 3, "config": {}}', "field 'data' is missing"),
        ('{"format": 3, "config": {"elr": NaN}}', "holds NaN"),
    ],
)
def test_damaged_configs(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        open_store(tmp_path, CONFIG, ENVIRONMENT)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_config_json_says_what_it_is(tmp_path: Path) -> None:
    with open_store(tmp_path, CONFIG, ENVIRONMENT):
        pass
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["identity"] == CONFIG.identity()
    assert written["environment"] == ENVIRONMENT
    assert read_config(tmp_path) == CONFIG
    assert read_config(tmp_path / "elsewhere") is None


def test_a_run_whose_folder_is_moved_writes_into_no_other(tmp_path: Path) -> None:
    """Its lock went with the folder; another run may have taken the name."""
    folder, other = tmp_path / "run", dataclasses.replace(CONFIG, elr=0.5)
    with open_store(folder, CONFIG, ENVIRONMENT) as store:
        store.resume()
        store.append([row(1)])
        store.checkpoint(1, WEIGHTS, {})
        folder.rename(tmp_path / "moved")
        with pytest.raises(UserError, match="was moved, replaced or unlocked"):
            store.checkpoint(2, WEIGHTS, {})
        with open_store(folder, other, ENVIRONMENT):
            before = snapshot(folder)
            for write in (
                lambda: store.checkpoint(2, WEIGHTS, {}),
                lambda: store.keep_weights(1, WEIGHTS),
                lambda: store.finish(2, WEIGHTS, {}, RESULT),
            ):
                with pytest.raises(UserError, match="was moved, replaced or unlocked"):
                    write()
            assert snapshot(folder) == before
    with open_store(tmp_path / "moved", CONFIG, ENVIRONMENT) as store:
        found, complaints = store.resume()
        assert found is not None
        assert (found.step, complaints) == (1, [])


def test_a_check_of_a_run_that_ends_meanwhile_finds_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are joined, and all but the last checkpoint go, after the list was read."""
    folder = tmp_path / "run"
    with open_store(folder, CONFIG, ENVIRONMENT) as store:
        store.resume()
        for step in (1, 2):
            store.append([row(step)])
            store.checkpoint(step, WEIGHTS, {})
        read = inspect.content_of

        def slow(path: Path) -> bytes:
            if not (folder / "result.json").exists():
                store.finish(2, WEIGHTS, {}, RESULT)
            return read(path)

        monkeypatch.setattr(inspect, "content_of", slow)
        (found,) = inspect.inspect(folder)
    assert found.damaged == {}
    assert (folder / "result.json").exists()

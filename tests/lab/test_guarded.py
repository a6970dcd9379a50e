"""Readers compare what they read with its checksum; `scaleinv check` says what is damaged and what can be used."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scaleinv.errors import UserError
from scaleinv.lab import train
from scaleinv.lab.config import Settings, read_config
from scaleinv.lab.launch.here import Here
from scaleinv.lab.launch.job import bugs_kept
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start, read_start
from scaleinv.monitor.sinks.rows import Rows
from scaleinv.report import write_figures
from scaleinv.runfolder import files
from scaleinv.runfolder.files import Lock, append_bytes, own_folder, write_bytes
from scaleinv.runfolder.inspect import inspect
from scaleinv.runfolder.manifest import Manifest, file_state, read_manifest, state_of
from scaleinv.runfolder.progress import Progress
from scaleinv.runfolder.read import load_run, load_sweep
from scaleinv.runfolder.rows import Row, to_line
from scaleinv.runfolder.seal import Damaged, read_sealed, sealed, unchecked, write_sealed
from scaleinv.runfolder.write import write_head
from scaleinv.studies.landscape import TASKS, Study, study
from scaleinv.studies.obtain import Request, obtain, obtain_many
from scaleinv.studies.sweep import SweepConfig, run_sweep

SETTINGS = Settings(data="digits", subset=64, batch_size=16, model="mlp", width=2, steps=8, keep_every=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return obtain(tmp_path_factory.mktemp("runs"), SETTINGS, elr=0.03)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_whole_folder_is_whole(run: Path) -> None:
    (found,) = inspect(run)
    assert (found.kind, found.damaged, found.unguarded) == ("run", {}, [])
    assert found.whole == 3 + 1 + 3 + 3  # two files of JSON and the list, metrics, kept weights, the checkpoint


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("metrics/part-final.parquet", "its weights at step 8"),
        ("weights/epoch-000001.safetensors", "its metrics"),
        ("result.json", "the weights kept at 3 epochs"),
        ("config.json", "nothing without its config.json"),
    ],
)
def test_a_flipped_bit_is_refused_and_named(run: Path, name: str, usable: str) -> None:
    flip(run / name, -20 if name.endswith("safetensors") else 60)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        find_start(f"{run}@1") if "weights" in name else load_run(run)
    (found,) = inspect(run)
    assert list(found.damaged) == [name]
    assert any(usable in line for line in found.usable)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run of the same shape."""
    return obtain(tmp_path_factory.mktemp("runs"), dataclasses.replace(SETTINGS, head_norm=9.0), elr=0.03)


@pytest.mark.parametrize(
    ("copied", "bad"),
    [
        (["result.json"], ["result.json"]),
        (["manifest.json", "metrics/part-final.parquet"], ["manifest.json"]),
        (["manifest.json", "weights/epoch-000001.safetensors"], ["manifest.json"]),
        (["checkpoints/step-000000008"], ["checkpoints/step-000000008"]),
        (["config.json"], ["result.json", "manifest.json", "checkpoints/step-000000008"]),
    ],
)
def test_whole_files_of_another_run_are_refused(copied: list[str], bad: list[str], run: Path, twin: Path) -> None:
    for name in copied:
        if (twin / name).is_dir():
            shutil.copytree(twin / name, run / name, dirs_exist_ok=True)
        else:
            shutil.copy(twin / name, run / name)
    (found,) = inspect(run)
    assert sorted(found.damaged) == sorted(bad)
    reader: Callable[[Path], object] = find_start if copied[0].startswith("checkpoints") else load_run
    with pytest.raises(UserError, match="of another run"):
        reader(run)
    with unchecked():
        assert load_run(run).status == "finished"


def test_a_flipped_bit_in_the_name_of_a_checksum_is_damage(run: Path) -> None:
    """It makes a file without a checksum, as earlier versions wrote it, but for the token, which tells it from them."""
    whole = (run / "result.json").read_bytes()
    start = whole.index(b'"checksum"') + 1
    for position in range(start, start + len("checksum")):
        flip(run / "result.json", position)
        with pytest.raises(UserError, match=r"a token and no checksum\): .* remove its lines"):
            load_run(run)
        (found,) = inspect(run)
        assert found.damaged == {"result.json": "has a token and no checksum"}
        (run / "result.json").write_bytes(whole)
    content = json.loads(whole)
    del content["checksum"], content["token"]
    (run / "result.json").write_text(json.dumps(content))
    assert load_run(run).status == "finished"


def test_a_folder_in_the_place_of_what_a_run_tells_of_its_progress_is_named(run: Path) -> None:
    (run / "progress.json").mkdir()
    assert load_run(run).status == "finished"
    (found,) = inspect(run)
    assert found.damaged == {"progress.json": "is a folder: remove it"}


def test_nan_for_null_is_named_as_readers_refuse_it(run: Path) -> None:
    content = json.loads((run / "config.json").read_text())
    content["config"]["label_noise"] = None
    (run / "config.json").write_text(json.dumps(sealed({k: v for k, v in content.items() if k != "checksum"})))
    assert inspect(run)[0].damaged == {}
    text = (run / "config.json").read_text()
    assert '"label_noise": null' in text
    (run / "config.json").write_text(text.replace('"label_noise": null', '"label_noise": NaN'))
    with pytest.raises(UserError, match="holds NaN"):
        load_run(run)
    assert inspect(run)[0].damaged == {"config.json": "was changed after it was written"}


def test_a_run_of_an_earlier_version_has_no_token(run: Path) -> None:
    """Files that have checksums and no token are read as before; what is written to the folder has none either."""
    for path in (run / "config.json", run / "result.json", *run.rglob("manifest.json")):
        content = json.loads(path.read_text())
        del content["checksum"], content["token"]
        path.write_text(json.dumps(sealed(content)))
    assert load_run(run).status == "finished"
    read_start(find_start(run).file, None)
    train.record_verdict(run, 1, {"reason": "said"})
    assert "token" not in json.loads((run / "result.json").read_text())
    assert inspect(run)[0].damaged == {}


def test_an_edited_config_is_refused_and_read_without_its_checksum(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run / "config.json"
    head = json.loads(path.read_text())
    head["config"]["elr"] = 0.5
    path.write_text(json.dumps(head))
    with pytest.raises(Damaged, match="was edited"):
        load_run(run)
    with unchecked():
        assert load_run(run).elr == 0.5
    del head["checksum"]
    path.write_text(json.dumps(head))
    assert load_run(run).elr == 0.5
    assert "without checksums" in caplog.text
    with pytest.raises(UserError, match="was changed after the run began"):  # its name is of another config
        read_config(run)


def test_a_list_that_is_gone_is_told(run: Path) -> None:
    (run / "manifest.json").unlink()
    with pytest.raises(Damaged, match=r"manifest\.json is gone"):
        load_run(run)


def test_a_part_of_no_list_does_not_count(run: Path) -> None:
    rows = load_run(run).last_step
    shutil.copy(run / "metrics" / "part-final.parquet", run / "metrics" / "part-00007.parquet")
    assert load_run(run).last_step == rows
    assert read_manifest(run).names("metrics/*") == ["metrics/part-final.parquet"]  # type: ignore[union-attr]


def test_readers_compare_the_cheap_checksum_and_check_compares_both(run: Path) -> None:
    manifest = read_manifest(run)
    assert manifest is not None
    name, file = "metrics/part-final.parquet", run / "metrics" / "part-final.parquet"
    data = file.read_bytes()
    assert manifest.checked(name, data) == data
    with pytest.raises(Damaged, match="is damaged"):
        manifest.checked(name, bytes([data[0] ^ 1]) + data[1:])
    other = data + b"\0"
    (state,) = manifest.files[name]
    assert state is not None
    manifest.files[name] = [state._replace(bytes=len(other), xxh3=state_of(other).xxh3)]
    assert manifest.checked(name, other) == other
    manifest.write()
    file.write_bytes(other)
    (found,) = inspect(run)
    assert found.damaged == {name: "has other content than was written"}


@pytest.mark.parametrize("absent", [True, False])
def test_the_sha256_decides_where_there_is_no_xxh3(
    absent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder written without xxhash, or by an earlier version; and one read where xxhash is not installed."""
    data = b"whole"
    state = state_of(data)
    if absent:
        monkeypatch.setattr("scaleinv.runfolder.manifest.xxhash", None)
        assert state_of(data) == state._replace(xxh3="")
    else:
        state = file_state([state.bytes, state.sha256])
    manifest = Manifest(tmp_path, {"a": [state]})
    assert manifest.checked("a", data) == data
    with pytest.raises(Damaged):
        manifest.checked("a", b"whOle")


def test_a_seal_is_of_content(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {"b": [1.5, None], "a": "ä"})
    assert read_sealed(tmp_path / "a.json") == {"b": [1.5, None], "a": "ä"}
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace("\n", " "))  # spaces are no content
    assert read_sealed(tmp_path / "a.json")["a"] == "ä"
    (tmp_path / "a.json").write_text(json.dumps({**sealed({"a": 1}), "a": 2}))
    with pytest.raises(Damaged):
        read_sealed(tmp_path / "a.json")
    for word in ("NaN", "1e999"):  # NaN is written as null, and is another thing in a file
        (tmp_path / "a.json").write_text(json.dumps(sealed({"a": None, "b": 1})).replace("null", word))
        with pytest.raises(Damaged):
            read_sealed(tmp_path / "a.json", nan=True)


@pytest.mark.parametrize("form", ["[]", '"finished"', "3", "null", "{}", '{"status": 3, "epochs": "two"}'])
def test_a_result_of_another_form_is_refused(form: str, run: Path) -> None:
    (run / "result.json").write_text(form)
    with pytest.raises(UserError, match=r"result\.json"):
        find_start(str(run))
    with pytest.raises(UserError, match=r"result\.json (holds \w+, expected a JSON object|is not the result of a run)"):
        load_run(run)


def test_another_whole_file_is_no_result(run: Path) -> None:
    """Its checksum is right, of what it is."""
    shutil.copy(run / "manifest.json", run / "result.json")
    with pytest.raises(UserError, match=r"result\.json is not the result of a run"):
        load_run(run)


def test_a_run_of_a_sweep_without_its_config_is_told(run: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    write_sealed(sweep / "sweep-config.json", {"format": 4, "sweep": {"base": {}}}, parents=True)
    place = Path(shutil.copytree(run, sweep / "runs" / run.name))
    (sweep / "runs" / "begun").mkdir()
    (sweep / "runs" / "begun" / ".lock").touch()
    assert [one.name for one in load_sweep(sweep).runs] == [run.name]  # one that is about to begin is none yet
    (place / "config.json").unlink()
    with pytest.raises(UserError, match=rf"{run.name}/config\.json is gone"):
        load_sweep(sweep)
    with unchecked():
        assert load_sweep(sweep).runs == []


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / ".a.json.part").symlink_to(other)
    (tmp_path / "a.json").symlink_to(other)
    write_bytes(tmp_path / "a.json", b"new")
    assert (other.read_text(), (tmp_path / "a.json").read_text()) == ("mine", "new")
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(UserError, match="is a link"):
        own_folder(tmp_path / "folder")
    (tmp_path / "lines").symlink_to(other)
    with pytest.raises(UserError, match="cannot write"):
        append_bytes(tmp_path / "lines", b"more")
    assert other.read_text() == "mine"


def test_no_run_of_a_sweep_is_a_link(tmp_path: Path) -> None:
    """Neither the folder of the runs nor one of them; prolonging one would rename and remove files of another."""
    out, other = tmp_path / "sweep", tmp_path / "other"
    data = load_data(SETTINGS)

    def sweep(epochs: int) -> None:
        settings = dataclasses.replace(SETTINGS, steps=4 * epochs)
        config = resolve(settings, data, elr=0.03, lr=None, seed=0, threads=1)
        run_sweep(SweepConfig(config, "elr", (0.03,), (0,)), data, out, workers=1, launch=lambda s: Here(s.source))

    def content(folder: Path) -> dict[str, bytes | None]:
        names = sorted(folder.rglob("*"))
        return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in names}

    sweep(1)
    (folder,) = (out / "runs").iterdir()
    for link in (folder, out / "runs"):
        link.rename(other)
        link.symlink_to(other)
        before = content(other)
        for epochs in (1, 2):  # as it is, and prolonged
            with pytest.raises(UserError, match=f"{link.name} is a link, and scaleinv writes nothing through links"):
                sweep(epochs)
        assert content(other) == before
        link.unlink()
        other.rename(link)
    sweep(2)
    (longer,) = (out / "runs").iterdir()
    assert load_run(longer).last_step == 8


def test_figures_and_tasks_go_through_no_link(run: Path, tmp_path: Path) -> None:
    for name, act in (
        ("figures", lambda: write_figures(run, ["svg"])),
        (TASKS, lambda: study(run, ("sharpness",), settings=Study(images=16, probes=1))),
    ):
        (run / name).symlink_to(tmp_path)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=f"{name} is a link"):
            act()
        assert sorted(tmp_path.iterdir()) == before
        (run / name).unlink()


def test_a_device_that_is_named_is_written_to() -> None:
    write_bytes(Path("/dev/null"), b"gone", named=True)
    assert Path("/dev/null").is_char_device()


def test_two_writers_at_once(tmp_path: Path) -> None:
    """Parts of writers that died are removed, those of others at work are not."""
    dead = tmp_path / ".a.html.1-1.part"
    dead.write_text("half")
    code = "import sys; from pathlib import Path; from scaleinv.runfolder.files import write_bytes\n"
    code += "for k in range(60): write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 5000, parents=True, flush=False)"
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.html", letter]) for letter in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert (tmp_path / "a.html").read_text() in ("a" * 5000, "b" * 5000)
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]


def test_rows_that_cannot_be_written_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    rows = Rows(tmp_path, "jsonl", 100, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        rows.add([Row(0, 0, "online", "total", "loss", 1.0)])
        assert not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text()
    rows.add([Row(1, 1, "online", "total", "loss", 2.0)])
    rows.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize("name", ["metrics.jsonl", "alerts.jsonl"])
def test_lines_that_are_gone_are_told(name: str, tmp_path: Path) -> None:
    config = {"source": "monitor", "time": "step"}
    write_head(tmp_path, config, "x", {})
    listed = read_manifest(tmp_path)
    assert listed is not None
    line = to_line(Row(0, 0, "online", "total", "loss", 1.0)).encode() + b"\n"
    listed.append(name, line, b"")
    listed.write()
    run = load_run(tmp_path)
    assert (len(run.metrics), len(run.alerts)) == ((1, 0) if name == "metrics.jsonl" else (0, 1))
    (tmp_path / name).unlink()
    with pytest.raises(Damaged, match=rf"{name} is gone"):
        _ = load_run(tmp_path).alerts
    with unchecked():
        assert (load_run(tmp_path).metrics, load_run(tmp_path).alerts) == ({}, [])


def test_a_second_lock_of_another_name(tmp_path: Path) -> None:
    with Lock(tmp_path), Lock(tmp_path, name=".landscape.lock"), pytest.raises(UserError, match="is working on"):
        Lock(tmp_path, name=".landscape.lock")


def test_what_kills_left_of_ended_runs_and_sweeps_is_removed(run: Path, tmp_path: Path) -> None:
    """By the next command that holds the lock; what the run is stays."""
    before = sorted(path for path in run.rglob("*") if path.name != ".lock")
    left = [run / "progress.json", run / ".result.json.part", run / "metrics" / ".part-00001.parquet.part"]
    left += [run / "weights" / ".epoch-000001.safetensors.part"]
    for path in left:
        path.write_text("half")
    for name in ("step-000000004", ".step-000000008.part", "replaced-step-000000008"):
        (run / "checkpoints" / name).mkdir()
    (run.parent / ".shared-999999999-0").mkdir()  # of a process that is gone
    (run.parent / f".shared-{os.getpid()}-0").mkdir()
    obtain(run.parent, SETTINGS, elr=0.03)
    assert [path.name for path in run.parent.glob(".shared*")] == [f".shared-{os.getpid()}-0"]
    config = read_config(run)
    assert config is not None
    assert train.run(config, load_data(SETTINGS), run)["status"] == "finished"
    assert sorted(path for path in run.rglob("*") if path.name != ".lock") == before


def test_a_sweep_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    data = load_data(SETTINGS)
    config = resolve(SETTINGS, data, elr=0.03, lr=None, seed=0, threads=1)

    def sweep() -> None:
        run_sweep(SweepConfig(config, "elr", (0.03,), (0,)), data, out, workers=1, launch=lambda s: Here(s.source))

    sweep()
    before = sorted(out.rglob("*"))
    (out / ".shared").mkdir()
    (out / ".shared" / "images.npy").write_text("half")
    (folder,) = (out / "runs").iterdir()
    (folder / "checkpoints" / "step-000000001").mkdir()
    (folder / ".config.json.part").write_text("half")
    sweep()
    assert sorted(out.rglob("*")) == before


def test_a_run_of_another_process_is_waited_for_and_that_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("scaleinv.lab.train._SOON", 0.05)
    (run / "result.json").unlink()
    Progress(run, 8).write(5, 1)
    held = Lock(run)
    threading.Timer(0.5, held.release).start()
    assert obtain(run.parent, SETTINGS, elr=0.03) == run
    assert load_run(run).status == "finished"
    (said,) = (record.message for record in caplog.records)
    assert said == f"waiting for process {os.getpid()} on {socket.gethostname()}, which trains {run} (step 5 of 8)"


@pytest.mark.slow
def test_workers_wait_as_well(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With workers a run that another process holds is no error either."""
    run = Path(shutil.copytree(made, tmp_path / made.name))
    (run / "result.json").unlink()
    held, said = Lock(run), f"waiting for another process, which trains {run}"
    heard: list[str] = []

    def release() -> None:  # once it is said, however long a worker takes to start
        deadline = time.monotonic() + 60
        while said not in "".join(heard) and time.monotonic() < deadline:
            time.sleep(0.1)
            heard.append(capfd.readouterr().err)
        held.release()

    listener = threading.Thread(target=release)
    listener.start()
    assert obtain_many(tmp_path, [Request(settings=SETTINGS, elr=0.03)], workers=2) == [run]
    listener.join()
    assert load_run(run).status == "finished"
    assert said in "".join(heard)


def test_weights_that_change_after_they_were_found_are_refused(run: Path) -> None:
    """A checksum is computed once, as long as the file stays as it is."""
    path = run / "weights" / "epoch-000001.safetensors"
    os.utime(path, (0, 0))
    start = find_start(f"{run}@1")
    flip(path, -20)
    with pytest.raises(UserError, match="are not those this run started from"):
        read_start(start.file, start.checksum)


def test_what_a_file_held_is_remembered_while_it_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED", -1.0)  # as if nothing had been written for long
    path = tmp_path / "a"
    path.write_bytes(b"one")
    known = files.sha256(path)
    assert files.remembered_sha256(path, b"xxx") == known  # as it is for those bytes if it was, so this one was not
    assert files.remembered_sha256(path, b"longer") != known
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))
    assert files.remembered_sha256(path, b"two") == hashlib.sha256(b"two").hexdigest()
    monkeypatch.setattr(files, "_SETTLED", 3.0)
    files._summed.clear()
    files.sha256(path)
    assert not files._summed  # it was written a moment ago: a change might not show


def test_a_bug_leaves_its_traceback_through_no_link(tmp_path: Path) -> None:
    foreign = tmp_path / "precious.txt"
    foreign.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / "error.txt").symlink_to(foreign)
    with pytest.raises(ZeroDivisionError), bugs_kept(run):
        1 / 0  # noqa: B018
    assert foreign.read_text() == "precious"
    assert "ZeroDivisionError" in (run / "error.txt").read_text()
    assert not (run / "error.txt").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_nothing_is_written_at_the_end_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alerts.jsonl")
    with pytest.raises(UserError, match="is a pipe"):
        append_bytes(tmp_path / "alerts.jsonl", b"{}\n")

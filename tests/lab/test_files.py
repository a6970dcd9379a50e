from __future__ import annotations

import errno
import json
import multiprocessing as mp
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaleinv.errors import UserError
from scaleinv.runfolder import files
from scaleinv.runfolder.files import Lock, read_json, sha256, write_bytes, write_json


def fail(number: int) -> Callable[..., Any]:
    def raises(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return raises


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1.5, "y": float("nan"), "z": [float("inf"), (1, 2)], 3: "ä"})
    assert read_json(path) == {"x": 1.5, "y": None, "z": [None, [1, 2]], "3": "ä"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("where", ["fsync", "replace", "open", "write"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    monkeypatch.setattr(os, where, fail(28))
    with pytest.raises(UserError, match=r"cannot write .*a.json: No space left on device") as caught:
        write_json(path, {"new": True})
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert read_json(path) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_device_that_is_really_full() -> None:
    full = Path("/dev/full")
    with pytest.raises(UserError, match="No space left"), files.disk_errors(full), full.open("wb") as handle:
        handle.write(b"x" * 100000)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe{}", b"[" * 100000])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not readable JSON") as caught:
        read_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_json_with_words_for_numbers(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"a": {word}}}')
    with pytest.raises(UserError, match=f"holds {word}"):
        read_json(path)


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_json(tmp_path / "a.json")


def test_sha256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def hold(folder: Path, ready: Any) -> None:
    with Lock(folder):
        ready.set()
        mp.Event().wait(60)


def test_a_lock_is_gone_with_its_process(tmp_path: Path) -> None:
    context = mp.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "new" / "folder", ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match="another process is working on"):
        Lock(tmp_path / "new" / "folder", wait=0.1)
    process.kill()
    process.join()
    Lock(tmp_path / "new" / "folder").release()


def test_locks_within_a_process(tmp_path: Path) -> None:
    with Lock(tmp_path), pytest.raises(UserError, match="another process"):
        Lock(tmp_path)
    with Lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", fail(30))
    with pytest.raises(UserError, match="Read-only file system"):
        Lock(tmp_path / "a")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", fail(errno.ENOLCK))
    with pytest.warns(UserWarning, match="file system without locks"):
        held = Lock(tmp_path)
    assert (tmp_path / files.LINK).exists()
    busy = pytest.raises(files.Busy, match="another process")
    with pytest.warns(UserWarning, match="without locks"), busy:
        Lock(tmp_path)
    held.release()
    assert not (tmp_path / files.LINK).exists()
    with pytest.warns(UserWarning, match="without locks"), Lock(tmp_path):  # as free as before
        pass


def _held_and_killed(folder: Path) -> None:
    import fcntl

    fcntl.flock = fail(errno.ENOLCK)
    warnings.simplefilter("ignore")
    held = Lock(folder)
    assert held
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_lock_file_of_a_dead_process_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = mp.get_context("spawn").Process(target=_held_and_killed, args=(tmp_path,))
    process.start()
    process.join()
    assert (tmp_path / files.LINK).exists()
    monkeypatch.setattr("fcntl.flock", fail(errno.ENOLCK))
    with pytest.warns(UserWarning, match="without locks"), Lock(tmp_path, wait=10.0):
        pass


def test_json_text_is_json() -> None:
    assert json.loads(files.json_text({"a": [float("-inf"), 1e-300]})) == {"a": [None, 1e-300]}


def test_shared_files_are_written_whole_where_there_is_no_flock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    for text in (b"first", b"second"):
        files.write_bytes(tmp_path / "made" / "x", text, parents=True)
        assert (tmp_path / "made" / "x").read_bytes() == text
    assert [one.name for one in (tmp_path / "made").iterdir()] == ["x"]

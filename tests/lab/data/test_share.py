"""One copy of the data per machine: the same pages in every process, written whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset, SharedDataset, load_dataset, share

FIELDS = ("train_images", "train_labels", "test_images", "test_labels")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def equal(a: Dataset, b: Dataset) -> bool:
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


def test_what_is_opened_is_what_was_shared(digits: Dataset, tmp_path: Path) -> None:
    handle = share(digits, tmp_path)
    opened = pickle.loads(pickle.dumps(handle)).open()
    assert len(pickle.dumps(handle)) < 1000
    assert equal(digits, opened)
    for field in ("name", "classes", "fingerprint", "pad_value", "in_shape"):
        assert getattr(opened, field) == getattr(digits, field)


def test_without_a_test_set(tmp_path: Path) -> None:
    data = load_dataset("digits", subset=3, with_test=False)
    opened = share(data, tmp_path).open()
    assert equal(data, opened)
    assert opened.test_images.shape == (0, 1, 8, 8)


def test_channels_last_stays_channels_last(digits: Dataset, tmp_path: Path) -> None:
    def wide(images: torch.Tensor) -> torch.Tensor:
        return images.repeat(1, 3, 1, 1).contiguous(memory_format=torch.channels_last)

    data = replace(digits, train_images=wide(digits.train_images), test_images=wide(digits.test_images))
    opened = share(data, tmp_path).open()
    assert equal(data, opened)
    assert opened.train_images.stride() == data.train_images.stride()
    assert share(digits, tmp_path).directory != share(data, tmp_path).directory


def _visit(handle: SharedDataset, ready: Any, leave: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    data = handle.open()
    total = data.train_images.double().sum().item()  # touches every page
    ready.wait()
    path = os.path.join(handle.directory, "train_images.npy")
    file = os.stat(path)
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line.split() for line in maps if line.endswith(path)]
    shared = private = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = line.endswith(path)
        elif inside:
            shared += int(words[1]) if words[0] in ("Shared_Clean:", "Shared_Dirty:") else 0
            private += int(words[1]) if words[0] == "Private_Dirty:" else 0
    answers.put((os.getpid(), total, [int(m[4]) == file.st_ino for m in mapped], shared, private))
    leave.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")
def test_two_processes_hold_the_same_pages(digits: Dataset, tmp_path: Path) -> None:
    data = replace(digits, train_images=digits.train_images.repeat(12, 1, 1, 1))
    kilobytes = data.train_images.numel() * 4 // 1024
    handle = share(data, tmp_path)
    context = multiprocessing.get_context("spawn")
    ready, leave, answers = context.Barrier(2), context.Barrier(2), context.Queue()
    processes = [context.Process(target=_visit, args=(handle, ready, leave, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    got = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert got[0][0] != got[1][0]
    for _, total, same_file, shared, private in got:
        assert total == data.train_images.double().sum().item()
        assert same_file == [True]
        assert shared >= kilobytes  # all of it is shared with the other process ...
        assert private == 0  # ... and none of it is a copy


def _share(directory: str, answers: Any) -> None:
    torch.set_num_threads(1)
    answers.put(share(load_dataset("digits"), directory))


def test_processes_that_share_at_once(digits: Dataset, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=_share, args=(str(tmp_path), answers)) for _ in range(3)]
    for process in processes:
        process.start()
    handles = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert handles[0] == handles[1] == handles[2]
    assert equal(handles[0].open(), digits)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", Path(handles[0].directory).name]


def test_writing_to_an_opened_tensor_stays_private(digits: Dataset, tmp_path: Path) -> None:
    handle = share(digits, tmp_path)
    first = handle.open()
    first.train_images.zero_()
    assert equal(handle.open(), digits)


def test_a_second_share_writes_nothing(digits: Dataset, tmp_path: Path) -> None:
    handle = share(digits, tmp_path)
    before = os.stat(os.path.join(handle.directory, "train_images.npy"))
    assert share(digits, tmp_path) == handle
    after = os.stat(os.path.join(handle.directory, "train_images.npy"))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("harm", ["cut", "zeros", "gone"])
def test_damaged_files_are_written_again(digits: Dataset, tmp_path: Path, harm: str) -> None:
    handle = share(digits, tmp_path)
    path = Path(handle.directory) / "train_images.npy"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif harm == "zeros":
        path.write_bytes(path.read_bytes()[:-1000] + bytes(1000))
    else:
        path.unlink()
    if harm != "zeros":
        with pytest.raises(UserError, match=r"train_images\.npy cannot be opened"):
            handle.open()
    assert equal(share(digits, tmp_path).open(), digits)


def test_a_killed_writer_leaves_nothing_that_is_used(digits: Dataset, tmp_path: Path) -> None:
    left = tmp_path / "digits-0123.part"
    left.mkdir()
    (left / "train_images.npy").write_bytes(b"half")
    assert equal(share(digits, tmp_path).open(), digits)
    assert not left.exists()


def test_disk_full(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(UserError, match=r"cannot share digits in .*: No space left on device; it needs 1 MB"):
        share(digits, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_remove(digits: Dataset, tmp_path: Path) -> None:
    handle = share(digits, tmp_path)
    held = handle.open()
    handle.remove()
    handle.remove()
    assert not Path(handle.directory).exists()
    assert equal(held, digits)  # a mapping outlives its file
    with pytest.raises(UserError, match="share the data set again"):
        handle.open()


def test_a_folder_that_is_a_file(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot share digits"):
        share(digits, tmp_path / "file")

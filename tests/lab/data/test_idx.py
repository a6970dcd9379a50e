"""MNIST and Fashion-MNIST: idx files, compressed or not, wherever they usually lie."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.data import catalog, load_dataset, source
from scaleinv.lab.data.dataset import SPECS, normalise
from scaleinv.lab.data.fetch import statuses
from scaleinv.lab.data.formats import parse_idx

Write = Callable[[Path, int], tuple[np.ndarray, np.ndarray]]


def compress(folder: Path) -> None:
    for path in list(folder.glob("*ubyte")):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "below"),
    [("mnist", "MNIST/raw"), ("mnist", "mnist"), ("mnist", ""), ("fashion-mnist", "FashionMNIST/raw"),
     ("fashion-mnist", "fashion-mnist"), ("fashion-mnist", "")],
)  # fmt: skip
def test_what_was_written_is_read(name: str, below: str, zipped: bool, write_idx: Write, tmp_path: Path) -> None:
    images, labels = write_idx(tmp_path / below, 1)
    if zipped:
        compress(tmp_path / below)
    data = load_dataset(name, data_dir=tmp_path, verify=False)
    assert torch.equal(data.train_images, normalise(images[:20, None], SPECS[name]))
    assert torch.equal(data.test_images, normalise(images[20:, None], SPECS[name]))
    assert data.train_labels.tolist() == labels[:20].tolist()
    assert data.test_labels.tolist() == labels[20:].tolist()
    assert data.in_shape == (1, 28, 28)
    assert len(load_dataset(name, data_dir=tmp_path, subset=5, verify=False).train_labels) == 5


def test_the_system_package_is_found_without_a_data_folder(
    write_idx: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = catalog.CATALOG["fashion-mnist"][0]
    assert form.system_folders == ("/usr/share/datasets/fashion-mnist",)
    write_idx(tmp_path, 1)
    compress(tmp_path)
    monkeypatch.setitem(catalog.CATALOG, "fashion-mnist", (form._replace(system_folders=(str(tmp_path),)),))
    monkeypatch.delenv("SCALEINV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere/at/all")
    assert len(load_dataset("fashion-mnist", verify=False).train_labels) == 20


def test_checksums(write_idx: Write, tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST/raw", 1)
    with pytest.raises(UserError) as caught:
        load_dataset("mnist", data_dir=tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    assert str(caught.value).startswith(
        f"{path} is not the published file: expected MD5 6bbc9ace898e44ae57da46a324031adb"
    )
    assert str(caught.value).endswith("delete it, then `scaleinv data fetch mnist` downloads it")


def test_damaged_files_are_told_by_name(write_idx: Write, tmp_path: Path) -> None:
    folder = tmp_path / "MNIST/raw"
    write_idx(folder, 1)
    labels = folder / "train-labels-idx1-ubyte"
    good = labels.read_bytes()
    for bad, words in (
        (good[:-1], "train-labels-idx1-ubyte is cut short or too long: expected 28 bytes for the shape 20, found 27"),
        (b"<html>", "begins with 3c68746d, expected 00000801"),
        (b"", "begins with nothing"),
        (good[:7] + b"\x13" + good[8:27], "has 20 images, .*train-labels-idx1-ubyte 19 labels"),
    ):
        labels.write_bytes(bad)
        with pytest.raises(UserError, match=words):
            load_dataset("mnist", data_dir=tmp_path, verify=False)
    labels.unlink()
    with pytest.raises(UserError, match=r"mnist is incomplete: .*train-labels-idx1-ubyte is missing"):
        load_dataset("mnist", data_dir=tmp_path, verify=False)
    labels.with_name(f"{labels.name}.gz").write_bytes(gzip.compress(good)[:-4])
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz cannot be decompressed"):
        load_dataset("mnist", data_dir=tmp_path, verify=False)


def test_a_small_file_that_unpacks_to_gigabytes(
    write_idx: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused with no more of it unpacked than a published file may have, whoever reads it."""
    folder = tmp_path / "MNIST/raw"
    write_idx(folder, 1)
    compress(folder)
    bomb = gzip.compress(bytes(40 << 20), 9)
    assert len(bomb) < 50_000
    monkeypatch.setattr(source, "_LARGEST", 1 << 20)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        path = folder / name
        good = path.read_bytes()
        path.write_bytes(bomb)
        tracemalloc.start()
        try:
            for verify in (True, False):
                with pytest.raises(UserError, match=rf"{name} unpacks to more than 1 MiB: not a published file"):
                    load_dataset("mnist", data_dir=folder if verify else tmp_path, verify=verify)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        path.write_bytes(good)


def test_shape_that_overflows() -> None:
    with pytest.raises(UserError, match="cut short or too long"):
        parse_idx(bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(10), "f", 3)


def test_real_mnist(real_data: Path, tmp_path: Path) -> None:
    data = load_dataset("mnist", data_dir=real_data)
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    pixels = data.train_images * 0.3081 + 0.1307
    assert abs(pixels.mean().item() - 0.1307) < 5e-5
    assert abs(pixels.std().item() - 0.3081) < 5e-5
    # compressed by someone else than the publisher: another .gz, the same content, still verified
    names = [file.name for file in catalog.CATALOG["mnist"][0].files]
    for name in names:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((real_data / "MNIST/raw" / name).read_bytes(), 1))
    assert load_dataset("mnist", data_dir=tmp_path).fingerprint == data.fingerprint
    # the same names in a plain folder do not make it Fashion-MNIST
    states = {status.name: status for status in statuses(tmp_path)}
    assert states["mnist"].state == "intact"
    assert str(tmp_path) not in states["fashion-mnist"].where

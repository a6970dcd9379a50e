"""CIFAR-10 and CIFAR-100 in every published form; pickles that want more than data."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.data import load_dataset
from scaleinv.lab.data.catalog import CATALOG
from scaleinv.lab.data.dataset import SPECS, normalise
from scaleinv.lab.data.formats import parse_binary, parse_pickle
from scaleinv.lab.data.source import find

Make = Callable[..., Any]


def write(folder: Path, name: str, kind: str, make_batch: Make) -> tuple[list[Any], Any]:
    """Every file of a form below ``folder``; returns the train batches and the test batch."""
    form = next(form for form in CATALOG[name] if form.kind == kind)
    batches = [make_batch(6, seed, fine=name == "cifar100") for seed in range(len(form.files))]
    for file, batch in zip(form.files, batches):
        path = folder / form.folders[0] / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(batch.pickled() if kind == "pickle" else batch.binary())
    return batches[:-1], batches[-1]


def pack(folder: Path, name: str, kind: str, order: int = 1) -> Path:
    """The folder of a form as the archive that is published; the folder is removed."""
    form = next(form for form in CATALOG[name] if form.kind == kind)
    assert form.archive
    with tarfile.open(folder / form.archive.name, "w:gz") as tar:
        for path in sorted((folder / form.folders[0]).iterdir())[::order]:
            tar.add(path, f"{form.folders[0]}/{path.name}")
            path.unlink()
    (folder / form.folders[0]).rmdir()
    return folder / form.archive.name


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["pickle", "binary"])
@pytest.mark.parametrize("packed", [0, 1, -1], ids=["folder", "archive", "archive-backwards"])
def test_what_was_written_is_read(name: str, kind: str, packed: int, make_batch: Make, tmp_path: Path) -> None:
    train, test = write(tmp_path, name, kind, make_batch)
    if packed:
        pack(tmp_path, name, kind, packed)
    data = load_dataset(name, data_dir=tmp_path, verify=False)
    images = np.concatenate([batch.images for batch in train])
    assert torch.equal(data.train_images, normalise(images, SPECS[name]))
    assert data.train_labels.tolist() == [label for batch in train for label in batch.labels]  # the fine ones
    assert torch.equal(data.test_images, normalise(test.images, SPECS[name]))
    assert data.test_labels.tolist() == list(test.labels)
    assert (data.in_shape, data.classes) == ((3, 32, 32), SPECS[name].classes)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_every_form_has_the_same_fingerprint(name: str, make_batch: Make, tmp_path: Path) -> None:
    prints = set()
    for kind in ("pickle", "binary"):
        write(tmp_path / kind, name, kind, make_batch)
        prints.add(load_dataset(name, data_dir=tmp_path / kind, verify=False).fingerprint)
    assert len(prints) == 1


def test_files_that_a_subset_does_not_need_are_not_opened(make_batch: Make, tmp_path: Path) -> None:
    train, _ = write(tmp_path, "cifar10", "pickle", make_batch)
    for i in range(3, 6):
        (tmp_path / "cifar-10-batches-py" / f"data_batch_{i}").write_bytes(b"damaged")
    data = load_dataset("cifar10", data_dir=tmp_path, subset=9, verify=False)
    assert data.train_labels.tolist() == [*train[0].labels, *train[1].labels[:3]]
    with pytest.raises(UserError, match="data_batch_3 is no CIFAR-10 batch"):
        load_dataset("cifar10", data_dir=tmp_path, subset=13, verify=False)
    with pytest.raises(UserError, match="data_batch_3"):
        load_dataset("cifar10", data_dir=tmp_path, verify=False)


def test_fewer_images_than_asked_for(make_batch: Make, tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary", make_batch)
    with pytest.raises(UserError, match="holds 30 train images of cifar10, not the 31 asked for"):
        load_dataset("cifar10", data_dir=tmp_path, subset=31, verify=False)


def test_fortran_order(make_batch: Make, array_pickle: Make) -> None:
    batch = make_batch(3, 0)
    pixels = batch.images.reshape(3, -1)
    data = batch.pickled().replace(array_pickle(pixels), array_pickle(pixels, fortran=True))
    assert data != batch.pickled()
    images, _ = parse_pickle(data, "f", 10)
    assert np.array_equal(images, batch.images)


# -- pickles that are not data ------------------------------------------------------------------------------------


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def python2(module: str, name: str, argument: bytes) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"U" + bytes([len(argument)]) + argument + b"\x85R."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_does_nothing(protocol: int, tmp_path: Path) -> None:
    evil = pickle.dumps([Touch(tmp_path / "made")], protocol)
    with pytest.raises(UserError, match=r"asks for (posix|nt|os)\.mkdir, which no CIFAR file needs: refused"):
        parse_pickle(evil, "data_batch_1", 10)
    assert not (tmp_path / "made").exists()
    pickle.loads(evil)  # the same bytes are live: the plain reader runs them
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("__builtin__", "eval"), ("builtins", "exec"), ("os", "system"), ("numpy", "load"), ("numpy", "fromfile"),
     ("numpy.core.multiarray", "fromfile"), ("numpy.core.multiarray", "scalar"), ("numpy", "ndarray.__class__"),
     ("copy_reg", "_reconstructor"), ("_codecs", "encode"), ("scaleinv.lab.data.formats", "io")],
)  # fmt: skip
def test_any_other_name_is_refused(module: str, name: str) -> None:
    with pytest.raises(UserError, match="which no CIFAR file needs"):
        parse_pickle(python2(module, name, b"1"), "f", 10)


def test_refused_through_load_dataset_too(make_batch: Make, tmp_path: Path) -> None:
    write(tmp_path, "cifar100", "pickle", make_batch)
    path = tmp_path / "cifar-100-python" / "train"
    path.write_bytes(python2("os", "system", b"true"))
    with pytest.raises(UserError, match=r"train asks for os\.system"):
        load_dataset("cifar100", data_dir=tmp_path, verify=False)
    with pytest.raises(UserError, match="train is not the published file: expected MD5 16019d7e"):
        load_dataset("cifar100", data_dir=tmp_path)


def test_only_uint8_arrays(make_batch: Make, array_pickle: Make) -> None:
    batch = make_batch(3, 0)
    pixels = batch.images.reshape(3, -1)
    for dtype in (b"O8", b"f4", b"u2"):
        data = batch.pickled().replace(array_pickle(pixels), array_pickle(pixels, dtype))
        with pytest.raises(UserError, match="an array of type"):
            parse_pickle(data, "f", 10)


@pytest.mark.parametrize("cut", [0, 1, 10, 200, 5000, -1])
def test_a_cut_pickle(cut: int, make_batch: Make) -> None:
    with pytest.raises(UserError, match=r"f is no CIFAR-10 batch: .*; replace it by the published file") as caught:
        parse_pickle(make_batch(3, 0).pickled()[:cut], "f", 10)
    assert "\n" not in str(caught.value)


def test_fine_labels_are_needed_for_cifar100(make_batch: Make) -> None:
    with pytest.raises(UserError, match="is no CIFAR-100 batch: KeyError: b'fine_labels'"):
        parse_pickle(make_batch(3, 0).pickled(), "f", 100)


@pytest.mark.parametrize("data", [b"", b"x" * 3072, b"x" * 3074 * 2], ids=["empty", "short", "cifar100"])
def test_a_cut_binary(data: bytes) -> None:
    with pytest.raises(UserError, match="expected a multiple of 3073 bytes"):
        parse_binary(data, "f", 10)


def test_labels_out_of_range(make_batch: Make, tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary", make_batch)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(UserError, match=r"cifar10 has labels outside 0\.\.9"):
        load_dataset("cifar10", data_dir=tmp_path, verify=False)
    with pytest.raises(UserError, match="coarse label above 19"):
        parse_binary(b"\x14" + bytes(3073), "f", 100)


# -- missing, damaged ---------------------------------------------------------------------------------------------


def test_missing_and_incomplete(make_batch: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_dataset("cifar10", data_dir=tmp_path)
    assert str(caught.value) == (
        f"cifar10 is not in {tmp_path}: expected cifar-10-batches-py/ or cifar-10-batches-bin/ there; "
        "`scaleinv data fetch cifar10` downloads it"
    )
    write(tmp_path, "cifar10", "pickle", make_batch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(UserError, match=r"incomplete: .*cifar-10-batches-py/data_batch_4 is missing; `scaleinv data"):
        load_dataset("cifar10", data_dir=tmp_path)
    write(tmp_path, "cifar10", "binary", make_batch)  # the other form is whole: it is used
    assert len(load_dataset("cifar10", data_dir=tmp_path, verify=False).train_labels) == 30


def test_a_damaged_archive(make_batch: Make, tmp_path: Path) -> None:
    write(tmp_path, "cifar100", "binary", make_batch)
    path = pack(tmp_path, "cifar100", "binary")
    with pytest.raises(UserError, match=r"cifar-100-binary\.tar\.gz is not the published file: expected MD5 03b5dce0"):
        load_dataset("cifar100", data_dir=tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"cifar-100-binary\.tar\.gz (cannot be unpacked|holds no)"):
        load_dataset("cifar100", data_dir=tmp_path, verify=False)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("other"), io.BytesIO())
    with pytest.raises(UserError, match=r"holds no cifar-100-binary/train\.bin"):
        load_dataset("cifar100", data_dir=tmp_path, verify=False)


def test_the_folder_itself_may_be_named(make_batch: Make, tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "pickle", make_batch)
    data = load_dataset("cifar10", data_dir=tmp_path / "cifar-10-batches-py", verify=False)
    assert len(data.train_labels) == 30


# -- the real thing -----------------------------------------------------------------------------------------------


def test_real_cifar10(real_data: Path) -> None:
    data = load_dataset("cifar10", data_dir=real_data)
    assert data.train_images.shape == (50_000, 3, 32, 32)
    assert data.test_images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(data.train_labels).tolist() == [5000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, automobile
    spec = SPECS["cifar10"]
    channels = torch.tensor(spec.std).view(1, 3, 1, 1), torch.tensor(spec.mean).view(1, 3, 1, 1)
    pixels = data.train_images * channels[0] + channels[1]
    assert (pixels.mean((0, 2, 3)) - torch.tensor(spec.mean)).abs().max() < 1e-4
    # the well-known "std" is the mean over images of the standard deviation within an image
    assert (pixels.std((2, 3)).mean(0) - torch.tensor(spec.std)).abs().max() < 1e-4
    for c in range(3):
        assert data.train_images[:, c].min().item() == data.pad_value[c]


def test_real_pickles_hold_what_the_binary_form_publishes(real_data: Path) -> None:
    # the authors publish the same images in a second form: its checksums prove every pixel and label read
    source = find("cifar10", real_data)
    if source.form.kind != "pickle":
        pytest.skip("the data folder holds the binary form")
    binary = {file.name: file.md5 for file in CATALOG["cifar10"][1].files}
    for where, data in source.contents(list(source.form.files), verify=True):
        images, labels = parse_pickle(data, where, 10)
        records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(len(images), -1)], axis=1)
        assert hashlib.md5(records.tobytes(), usedforsecurity=False).hexdigest() == binary[f"{Path(where).name}.bin"]

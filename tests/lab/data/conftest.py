"""Data sets in their published forms, made by hand: small, random, valid."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from scaleinv.lab.data.source import ENVIRONMENT


class Batch(NamedTuple):
    """What a CIFAR file holds."""

    images: np.ndarray  # (N, 3, 32, 32) uint8
    labels: np.ndarray  # (N,)
    coarse: np.ndarray | None = None

    def pickled(self) -> bytes:
        """Protocol 2 as Python 2 and an old NumPy wrote it: byte strings, numpy.core.multiarray, no memo."""
        fields = [(b"batch_label", text(b"made by hand")), (b"data", array(self.images.reshape(len(self.images), -1)))]
        fields.append((b"fine_labels" if self.coarse is not None else b"labels", numbers(self.labels)))
        if self.coarse is not None:
            fields.append((b"coarse_labels", numbers(self.coarse)))
        fields.append((b"filenames", b"](" + text(b"a.png") * len(self.labels) + b"e"))
        return b"\x80\x02}(" + b"".join(text(key) + value for key, value in fields) + b"u."

    def binary(self) -> bytes:
        marks = [self.labels] if self.coarse is None else [self.coarse, self.labels]
        columns = [np.asarray(m, np.uint8)[:, None] for m in marks]
        return np.concatenate([*columns, self.images.reshape(len(self.images), -1)], axis=1).tobytes()


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def numbers(values: np.ndarray) -> bytes:
    return b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"e"


def array(values: np.ndarray, dtype: bytes = b"u1", fortran: bool = False) -> bytes:
    shape = b"".join(b"M" + struct.pack("<H", n) for n in values.shape)
    data = values.tobytes(order="F" if fortran else "C")
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + (shape + b"\x86" + b"cnumpy\ndtype\n" + text(dtype) + b"K\x00K\x01\x87R")
        + (b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + (b"\x88" if fortran else b"\x89"))
        + (b"T" + struct.pack("<I", len(data)) + data + b"tb")
    )


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    def make(n: int, seed: int, fine: bool = False) -> Batch:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, 100 if fine else 10, n)
        return Batch(images, labels, rng.integers(0, 20, n) if fine else None)

    return make


@pytest.fixture
def array_pickle() -> Callable[..., bytes]:
    return array


@pytest.fixture
def write_idx() -> Callable[[Path, int], tuple[np.ndarray, np.ndarray]]:
    """Write the four files of MNIST (20 train, 7 test images) into a folder; return images and labels of all 27."""

    def write(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (27, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, 27).astype(np.uint8)
        folder.mkdir(parents=True, exist_ok=True)
        for prefix, rows in (("train", slice(20)), ("t10k", slice(20, None))):
            (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[rows]))
            (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels[rows]))
        return images, labels

    return write


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data sets."""
    if not os.environ.get(ENVIRONMENT):
        pytest.skip(f"needs the real data sets: set {ENVIRONMENT}")
    return Path(os.environ[ENVIRONMENT])

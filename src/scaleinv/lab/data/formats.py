"""Read the forms in which data sets are published: idx files (MNIST), Python 2 pickles and binary records (CIFAR).

Pickles can run any code when they are read. CIFAR's need a dict, lists, numbers, byte strings and one uint8 array, so
that is all the reader below admits: the three NumPy names in them are replaced by small classes of its own, which build
nothing but uint8 arrays (NumPy itself is never asked, so its renamed modules do not matter), and any other name is
refused before anything is called.
"""

import io
import math
import pickle
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleinv.errors import UserError

_PIXELS = 3 * 32 * 32
_COARSE = 20  # super-classes of CIFAR-100

#: images and labels of a file
Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class RawSplit:
    """A train or test set as published, before anything is normalised."""

    images: npt.NDArray[np.uint8]  # (N, C, H, W), 0..levels
    labels: npt.NDArray[np.int64]  # (N,), 0..classes-1

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8
        assert self.images.ndim == 4
        assert self.labels.shape == self.images.shape[:1]


def parse_idx(data: bytes, where: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """Return the array in the idx file ``data``, a read-only view of it. ``where`` names the file in errors.

    Bytes 0 and 1 are zero, byte 2 is the type (8 = unsigned byte, the only one here), byte 3 the number of dimensions;
    then come the sizes, big-endian, and the bytes.
    """
    header = 4 + 4 * dimensions
    expected = bytes([0, 0, 8, dimensions])
    if len(data) < header or data[:4] != expected:
        raise UserError(
            f"{where} is no idx file of {dimensions} dimension(s): it begins with {data[:4].hex() or 'nothing'}, "
            f"expected {expected.hex()}; replace it by the published file"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise UserError(
            f"{where} is cut short or too long: expected {header + math.prod(shape)} bytes for the shape "
            f"{' x '.join(map(str, shape))}, found {len(data)}; replace it by the published file"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


class _Array:
    """Takes the state that a pickled uint8 array sets: (version, shape, dtype, fortran order, bytes)."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        """In place of numpy.core.multiarray._reconstruct(ndarray, (0,), "b")."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Uint8) or not isinstance(data, bytes):
            raise ValueError("not a uint8 array")
        self.value = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Uint8:
    __slots__ = ()

    def __init__(self, code: Any, *_: Any) -> None:
        """In place of numpy.dtype("u1", 0, 1)."""
        if code != b"u1":
            raise ValueError(f"an array of type {code!r}")

    def __setstate__(self, state: Any) -> None:
        if state[1] != b"|":
            raise ValueError("not a uint8 array")


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return _Array
            case "numpy", "dtype":
                return _Uint8
            case "numpy", "ndarray":
                return None  # only ever an argument of _reconstruct, which ignores it
        raise UserError(
            f"{self.where} asks for {module}.{name}, which no CIFAR file needs: refused, nothing in it was run; "
            "replace it by the published file"
        )


def parse_pickle(data: bytes, where: str, classes: int) -> Part:
    """Return images (N, 3, 32, 32) and labels (the fine ones, for CIFAR-100) of a batch in the Python form."""
    try:
        content = _Unpickler(data, where).load()
        images = content[b"data"].value
        labels = np.array(content[b"fine_labels" if classes == 100 else b"labels"])
        if images.ndim != 2 or labels.shape != images.shape[:1] or labels.dtype.kind != "i":
            raise ValueError(f"{images.shape} pixels, {labels.shape} labels")
        return images.reshape(-1, 3, 32, 32), labels.astype(np.int64)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        name = type(error).__name__
        raise UserError(
            f"{where} is no CIFAR-{classes} batch: {name}: {error}; replace it by the published file"
        ) from error


def parse_binary(data: bytes, where: str, classes: int) -> Part:
    """Return images (N, 3, 32, 32) and labels of a batch in the binary form.

    A record is the label (CIFAR-100: the coarse label, then the fine one, which is returned), then 3072 pixels: red,
    green, blue, each row by row.
    """
    marks = 2 if classes == 100 else 1
    length = marks + _PIXELS
    if not data or len(data) % length:
        raise UserError(
            f"{where} is cut short: expected a multiple of {length} bytes, found {len(data)}; "
            "replace it by the published file"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, length)
    if marks == 2 and records[:, 0].max() >= _COARSE:
        raise UserError(f"{where} has a coarse label above {_COARSE - 1}: it is damaged; replace it")
    return records[:, marks:].reshape(-1, 3, 32, 32), records[:, marks - 1].astype(np.int64)

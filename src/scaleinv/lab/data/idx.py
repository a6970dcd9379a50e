"""The idx format of MNIST: a magic number that tells type and dimensions, big-endian sizes, then the bytes.

Bytes 0 and 1 are zero, byte 2 is the type (8 = unsigned byte, the only one here), byte 3 the number of dimensions.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from scaleinv.errors import UserError


def parse(data: bytes, where: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in the idx file ``data``, a read-only view of it. ``where`` names the file in errors."""
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

"""Make .npy files of arrays in pieces, for whoever writes them whole or not at all."""

import io
from typing import Any

import numpy as np

from scaleinv.runfolder.files import Buffer


def npy_pieces(array: Any) -> list[Buffer]:
    """Give the pieces of the file that ``numpy.save`` writes of an array, which is not copied if it is contiguous."""
    whole = np.asarray(array)
    whole = whole if whole.flags.f_contiguous else np.ascontiguousarray(whole)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(whole))
    values: Any = whole.reshape(-1, order="A").view(np.uint8).data if whole.size else b""
    return [head.getvalue(), values]

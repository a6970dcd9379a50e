"""What a reader hands on: images as the files hold them, before anything is normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RawSplit:
    """A train or test set as published."""

    images: npt.NDArray[np.uint8]  # (N, C, H, W), 0..levels
    labels: npt.NDArray[np.int64]  # (N,), 0..classes-1

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8
        assert self.images.ndim == 4
        assert self.labels.shape == self.images.shape[:1]

    def first(self, n: int | None) -> RawSplit:
        return self if n is None else RawSplit(self.images[:n], self.labels[:n])

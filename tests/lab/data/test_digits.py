"""The embedded data set: a split that never changes, and the constants that normalise it."""

from __future__ import annotations

import numpy as np
import torch

from scaleinv.lab.data import load_dataset
from scaleinv.lab.data.dataset import SPECS
from scaleinv.lab.data.digits import CHECKSUM, checksum, load, stratified_split


def test_the_split_is_stratified_and_pinned() -> None:
    train, test = load()
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    total = np.bincount(np.concatenate([train.labels, test.labels]))
    assert np.abs(np.bincount(test.labels) - total * 360 / 1797).max() < 1
    assert checksum(train, test) == CHECKSUM  # split and bytes: a change here makes every older run another run


def test_train_and_test_are_the_whole_set() -> None:
    from sklearn.datasets import load_digits

    train, test = load()
    mine = np.concatenate([train.images, test.images]).reshape(1797, 64)
    theirs = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, mine)) == sorted(map(bytes, theirs))


def test_largest_remainders_fill_the_test_set() -> None:
    labels = np.repeat(np.arange(3), [5, 3, 2])
    train, test = stratified_split(labels, 4)  # shares 2, 1.2, 0.8
    assert np.bincount(labels[test]).tolist() == [2, 1, 1]
    assert sorted([*train, *test]) == list(range(10))


def test_constants_are_those_of_the_train_set() -> None:
    train, _ = load()
    pixels = train.images.astype(np.float64) / 16
    spec = SPECS["digits"]
    assert abs(pixels.mean() - spec.mean[0]) < 5e-5
    assert abs(pixels.std() - spec.std[0]) < 5e-5


def test_loaded_and_normalised() -> None:
    data = load_dataset("digits")
    train, test = load()
    expected = (torch.from_numpy(train.images).double() / 16 - 0.3049) / 0.3760
    torch.testing.assert_close(data.train_images.double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(data.test_labels, torch.from_numpy(test.labels))
    assert data.train_images.dtype == torch.float32
    assert data.train_labels.dtype == torch.int64
    assert (data.in_shape, data.classes, data.name) == ((1, 8, 8), 10, "digits")
    assert data.pad_value == (data.train_images.min().item(),)  # black is in the data: bit-equal

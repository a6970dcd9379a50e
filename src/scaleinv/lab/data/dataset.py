"""Load a data set: read, cut to what is used, make labels noisy, normalise once, fingerprint."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.lab import random as _random
from scaleinv.lab.classes import unequal_shares
from scaleinv.lab.data import digits
from scaleinv.lab.data.formats import RawSplit
from scaleinv.lab.data.source import find
from scaleinv.text import near


@dataclass(frozen=True)
class Dataset:
    """A data set in memory, ready to train on: images are float32 and normalised, (pixel / levels - mean) / std."""

    name: str
    train_images: Tensor  # (N, C, H, W) float32
    train_labels: Tensor  # (N,) int64
    test_images: Tensor  # (M, C, H, W) float32; M = 0 without a test set
    test_labels: Tensor  # (M,) int64
    classes: int
    fingerprint: str  # sha256 of everything above but the name: equal data, equal fingerprint
    pad_value: tuple[float, ...]  # per channel: black after normalisation, what `augment` pads with

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.train_images.shape[1:]
        return c, h, w

    def shares(self) -> tuple[float, ...] | None:
        """Shares of the classes among the train labels, shape (classes,); None where they are equal up to sampling.

        They count as unequal where the most frequent class exceeds 1/C by more than 5 standard errors of a sample of
        equally frequent classes, and answering that class alone would not count as guessing. So MNIST and the first
        images of a set are equal, and 700 of 1000 labels of one class in four are not.

        Errors: UserError for labels outside 0 .. classes - 1, and for fewer than two classes.
        """
        labels, classes = self.train_labels, self.classes
        if classes < 2:
            raise UserError(f"{self.name} has classes={classes}: at least two are needed to tell apart")
        if not len(labels):
            raise UserError(f"{self.name} has no train labels: there is nothing to train on")
        if labels.min() < 0 or labels.max() >= classes:
            raise UserError(
                f"{self.name} has train labels from {int(labels.min())} to {int(labels.max())}, and classes={classes}: "
                f"labels are 0 to {classes - 1}"
            )
        return unequal_shares(labels, classes)


class Spec(NamedTuple):
    """What has to be known of a data set besides its files."""

    classes: int
    train_size: int
    levels: int  # the pixel value that means white
    mean: tuple[float, ...]  # per channel, of pixel / levels over the train set
    std: tuple[float, ...]


#: the constants of normalisation; docs/howto/data.md says where each comes from
SPECS: dict[str, Spec] = {
    "digits": Spec(10, 1437, 16, (0.3049,), (0.3760,)),
    "mnist": Spec(10, 60000, 255, (0.1307,), (0.3081,)),
    "fashion-mnist": Spec(10, 60000, 255, (0.2860,), (0.3530,)),
    "cifar10": Spec(10, 50000, 255, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Spec(100, 50000, 255, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}

DATASETS: tuple[str, ...] = tuple(SPECS)  #: the names `load_dataset` knows


def load_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    subset: int | None = None,
    label_noise: float = 0.0,
    noise_seed: int = 0,
    with_test: bool = True,
    verify: bool = True,
) -> Dataset:
    """Load ``name`` (one of `DATASETS`) from ``data_dir`` (default: the environment variable SCALEINV_DATA).

    ``subset``: the first n train images in the published order; the test set stays whole. Only what is used is read,
    normalised and held. ``with_test=False`` leaves the test tensors empty.

    ``label_noise`` p: round(p n) of the n train labels, chosen without replacement, are redrawn uniformly from all
    classes by a generator seeded with ``noise_seed``. A redrawn label may be the true one, so with C classes about
    p (1 - 1/C) of the labels are wrong. This is how the papers' code does it. Test labels are left alone.

    ``verify=False`` skips the published checksums (for files made by hand), not the checks of structure and labels.

    Raises `UserError`: unknown name, files missing or not as published, subset outside [2, size], noise outside [0, 1].

    >>> data = load_dataset("digits")
    >>> data.in_shape, len(data.train_images), len(data.test_images), data.classes
    ((1, 8, 8), 1437, 360, 10)
    """
    if name not in SPECS:
        raise UserError(f"unknown data set {name!r}{near(name, DATASETS)}; choose one of: {', '.join(DATASETS)}")
    spec = SPECS[name]
    if subset is not None and not 2 <= subset <= spec.train_size:
        raise UserError(f"subset {subset} of {name} is impossible: choose 2 to {spec.train_size} train images")
    if not 0.0 <= label_noise <= 1.0:  # NaN fails too
        raise UserError(f"label noise {label_noise} is no fraction of the labels: choose a value from 0 to 1")
    train, test = digits.load() if name == "digits" else find(name, data_dir).read(subset, with_test, verify)
    if subset is not None:
        train = RawSplit(train.images[:subset], train.labels[:subset])
    if test is None or not with_test:
        test = RawSplit(np.empty((0, *train.images.shape[1:]), np.uint8), np.empty(0, np.int64))
    for split in (train, test):
        if len(split.labels) and not 0 <= split.labels.min() <= split.labels.max() < spec.classes:
            raise UserError(f"{name} has labels outside 0..{spec.classes - 1}: its files are damaged; fetch them again")
    train = RawSplit(train.images, noisy(train.labels, spec.classes, label_noise, noise_seed))
    return Dataset(
        name=name,
        train_images=normalise(train.images, spec),
        train_labels=torch.from_numpy(train.labels),
        test_images=normalise(test.images, spec),
        test_labels=torch.from_numpy(test.labels),
        classes=spec.classes,
        fingerprint=_fingerprint(spec, train, test),
        pad_value=tuple(normalise(np.zeros((1, len(spec.mean), 1, 1), np.uint8), spec).flatten().tolist()),
    )


def noisy(labels: npt.NDArray[np.int64], classes: int, fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """Copy ``labels``, round(fraction * n) of them (chosen without replacement) redrawn uniformly."""
    out: npt.NDArray[np.int64] = labels.copy()
    count = round(fraction * len(labels))
    if count:
        where = _random.permutation(_random.NOISE, seed, 0, len(labels))[:count]
        out[where] = _random.below(classes, _random.words(_random.NOISE, seed, 1, count))
    return out


def normalise(images: npt.NDArray[np.uint8], spec: Spec) -> Tensor:
    """Return (images / levels - mean) / std per channel, float32, the only copy made."""
    shape = (1, len(spec.mean), 1, 1)
    out = torch.from_numpy(images.astype(np.float32))
    mean, std = (torch.tensor(values, device="cpu").view(shape) for values in (spec.mean, spec.std))
    return out.div_(spec.levels).sub_(mean).div_(std)


def _fingerprint(spec: Spec, train: RawSplit, test: RawSplit) -> str:
    digest = hashlib.sha256(f"scaleinv-data-1 {spec.classes} {spec.levels} {spec.mean} {spec.std}".encode())
    for split in (train, test):
        digest.update(f" {split.images.shape} ".encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()

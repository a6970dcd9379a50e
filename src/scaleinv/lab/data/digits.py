"""scikit-learn's handwritten digits: 1797 real 8x8 images that come with the package (UCI optdigits, test part)."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scaleinv.errors import UserError, how_to_install
from scaleinv.lab import random as _random
from scaleinv.lab.data.formats import RawSplit

TEST_SIZE = 360
SPLIT_SEED = 0
CHECKSUM = "e0a031d56d9f5542c7a17076305598edad1b2a83fa14e2579fd2b1764ff55b2b"  #: of the split, see `checksum`


def stratified_split(
    labels: npt.NDArray[np.int64], test_size: int = TEST_SIZE
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose indices (train, test), each in rising order, with the classes in equal proportion up to rounding.

    Class c with n_c of N images gets floor(n_c * test_size / N) test images; what rounding leaves goes to the largest
    remainders, ties to the smaller label. Within a class the test images are those with the smallest words of one
    Philox stream over all images (seed 0), so the split is the same for every version of every library.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(counts * test_size, len(labels))
    by_remainder = np.lexsort((classes, -remainder))
    quota[by_remainder[: test_size - quota.sum()]] += 1
    keys = _random.words(_random.DIGITS, SPLIT_SEED, 0, len(labels))
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, quota):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(keys[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def load() -> tuple[RawSplit, RawSplit]:
    """Read the train (1437) and test images (360) in the order of the source; pixels 0..16, shape (N, 1, 8, 8)."""
    # the file alone: importing scikit-learn takes a second
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"digits comes with scikit-learn, which is not installed: {how_to_install('sklearn', 'lab')}")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if path.exists():
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    else:
        from sklearn.datasets import load_digits

        source = load_digits()
        table = np.column_stack([source.data, source.target]).astype(np.uint8)
    images, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)
    train, test = stratified_split(labels)
    return RawSplit(images[train], labels[train]), RawSplit(images[test], labels[test])


def checksum(train: RawSplit, test: RawSplit) -> str:
    """Return the sha256 of train images, train labels, test images, test labels."""
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(split.images.tobytes())
        digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()

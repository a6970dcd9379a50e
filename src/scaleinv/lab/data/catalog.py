"""The published files of every data set: names, checksums, where they lie on disk and on the network. Facts only.

MD5 is what the authors publish; it guards against damage, not against malice (the readers guard against that).
"""

from typing import Literal, NamedTuple


class PublishedFile(NamedTuple):
    """One file of a data set."""

    name: str
    split: Literal["train", "test"]
    md5: str
    gz_md5: str = ""  # of the same file compressed, as published, with .gz after its name


class Archive(NamedTuple):
    """The .tar.gz that holds the files of a form."""

    name: str
    md5: str
    size: int  # bytes


class Form(NamedTuple):
    """One of the forms in which a data set is published."""

    kind: Literal["idx", "pickle", "binary"]
    folders: tuple[str, ...]  # below the data folder, the first one is where a download goes; "" is the folder itself
    files: tuple[PublishedFile, ...]  # train files first, in the order of their images
    archive: Archive | None = None
    system_folders: tuple[str, ...] = ()  # where the operating system's packages put it
    gz_sizes: tuple[int, ...] = ()  # bytes of the published .gz files, in the order of `files`
    url: str = ""  # the folder on the network from which to download; "" = this form is not downloaded


def _files(names: str, *sums: str) -> tuple[PublishedFile, ...]:
    """``sums``: the MD5 of the plain files and, if published, of their .gz, in the order of the names."""
    return tuple(
        PublishedFile(name, "test" if name.startswith(("t10k", "test")) else "train", *md5)
        for name, *md5 in zip(names.split(), *(text.split() for text in sums))
    )


_IDX = "train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte"
_CIFAR10 = "data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"

#: data set -> its forms; the first complete one on disk is used
CATALOG: dict[str, tuple[Form, ...]] = {
    "mnist": (
        Form(
            "idx",
            ("MNIST/raw", "mnist", "MNIST", ""),
            _files(
                _IDX,
                "6bbc9ace898e44ae57da46a324031adb a25bea736e30d166cdddb491f175f624 "
                "2646ac647ad5339dbf082846283269ea 27ae3e4e09519cfbb04c329615203637",
                "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
                "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
            ),
            gz_sizes=(9912422, 28881, 1648877, 4542),
            url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "fashion-mnist": (
        Form(
            "idx",
            ("FashionMNIST/raw", "fashion-mnist", "FashionMNIST", ""),
            _files(
                _IDX,
                "f4a8712d7a061bf5bd6d2ca38dc4d50a 9018921c3c673c538a1fc5bad174d6f9 "
                "8181f5470baa50b63fa0f6fddb340f0a 15d484375f8d13e6eb1aabb0c3f46965",
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
                "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
            ),
            system_folders=("/usr/share/datasets/fashion-mnist",),  # Debian and Ubuntu: dataset-fashion-mnist
            gz_sizes=(26421880, 29515, 4422102, 5148),
            url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    "cifar10": (
        Form(
            "pickle",
            ("cifar-10-batches-py", "cifar10/cifar-10-batches-py", ""),
            _files(
                _CIFAR10,
                "c99cafc152244af753f735de768cd75f d4bba439e000b95fd0a9bffe97cbabec 54ebc095f3ab1f0389bbae665268c751 "
                "634d18415352ddfa80567beed471001a 482c414d41f54cd18b22e5b47cb7c3cb 40351d587109b95175f43aff81a1287e",
            ),
            Archive("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170498071),
            url=_TORONTO,
        ),
        Form(
            "binary",
            ("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", ""),
            _files(
                " ".join(f"{name}.bin" for name in _CIFAR10.split()),
                "5dd7e06a14cb22eb9f671a540d1b7c25 5ea93a67294ea407fff1d09f752e9692 942cd6a4bcdd0dd3c604fbe906cb4421 "
                "ae636b3ba5c66a11e91e8cb52e771fcb 53f37980c15c3d472c316c40844f3f0d 803d5f7f4d78ea53de84dbe85f74fb6d",
            ),
            Archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170052171),
        ),
    ),
    "cifar100": (
        Form(
            "pickle",
            ("cifar-100-python", "cifar100/cifar-100-python", ""),
            _files("train test", "16019d7e3df5f24257cddd939b257f8d f0ef6b0ae62326f3e7ffdfab6717acfc"),
            Archive("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169001437),
            url=_TORONTO,
        ),
        Form(
            "binary",
            ("cifar-100-binary", "cifar100/cifar-100-binary", ""),
            _files("train.bin test.bin", "6172c7755cfe09b2fe270c85cebc1b15 4499cfba6c016c1be1438163640a0898"),
            Archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168513733),
        ),
    ),
}

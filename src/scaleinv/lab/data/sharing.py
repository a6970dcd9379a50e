"""Hold a data set once per machine: memory-mapped files that all worker processes open.

The processes share the pages of the operating system's file cache. A mapping is copy-on-write: a process that writes
to its tensors changes neither the files nor what others see.
"""

import errno
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scaleinv.errors import UserError, needs
from scaleinv.lab.data.dataset import Dataset
from scaleinv.lab.data.npy import npy_pieces
from scaleinv.runfolder.files import remove_tree, write_new

with needs("lab"):
    from filelock import FileLock


#: the fields of a data set that are tensors
TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class SharedDataset:
    """Says where a shared data set lies: small and picklable, to be handed to worker processes."""

    directory: str  # absolute; holds one .npy file per tensor
    name: str
    classes: int
    fingerprint: str
    pad_value: tuple[float, ...]
    channels_last: bool  # images lie as (N, H, W, C)

    def open(self) -> Dataset:
        """Map the data set from its files. Raises `UserError` if they are gone or cut short."""
        tensors = {}
        for field in TENSORS:
            path = Path(self.directory) / f"{field}.npy"
            try:
                # "c" maps privately: pages are shared until written, and torch does not warn of an unwritable array
                tensors[field] = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
            except (OSError, ValueError, EOFError) as error:
                raise UserError(f"shared data {path} cannot be opened ({error}); share the data set again") from error
            if self.channels_last and field.endswith("images"):
                tensors[field] = tensors[field].permute(0, 3, 1, 2)
        return Dataset(
            name=self.name, classes=self.classes, fingerprint=self.fingerprint, pad_value=self.pad_value, **tensors
        )

    def remove(self) -> None:
        """Delete the files. Processes that have them open keep their mapping; a second call does nothing.

        What a failing disk keeps is left to the next process that shares data there: the results do not need it gone.
        """
        folder = Path(self.directory)
        with suppress(OSError):
            if not folder.is_dir():
                return
            with FileLock(folder.parent / ".lock"):
                # renamed first: a process that opens it now finds all of it or nothing
                gone = folder.with_name(f"{folder.name}.part")
                if folder.is_dir():
                    folder.rename(gone)
                    remove_tree(gone)


def share(dataset: Dataset, directory: str | Path) -> SharedDataset:
    """Write ``dataset`` below ``directory`` once, for `SharedDataset.open` in any process of this machine.

    The files lie in a folder named after the fingerprint. It is built under another name and renamed, so it is there
    whole or not at all; if it is there already and equal to ``dataset``, it is used. Of several processes that share
    at the same time one writes and the others wait for it. Memory format (channels_last or not) is kept.

    Raises `UserError` if ``directory`` cannot be written or the disk is full; then nothing is left behind.
    """
    root = Path(directory).absolute()
    images = dataset.train_images
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    target = root / f"{dataset.name}-{dataset.fingerprint[:32]}-{'nhwc' if channels_last else 'nchw'}"
    handle = SharedDataset(
        str(target), dataset.name, dataset.classes, dataset.fingerprint, dataset.pad_value, channels_last
    )
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        if root.is_symlink() or (root.exists() and not root.is_dir()):
            raise NotADirectoryError(errno.ENOTDIR, "it is a link or a file, not a folder")
        root.mkdir(exist_ok=True)
        with FileLock(root / ".lock"):  # released by the system if we die
            for left in root.glob("*.part"):  # whoever wrote it has died: we hold the lock
                remove_tree(left)
            if not _holds(handle, dataset):
                remove_tree(target)
                _write(handle, dataset)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise UserError(
            f"cannot share {dataset.name} in {root}: {getattr(error, 'strerror', None) or error}; "
            f"it needs {-(-sum(getattr(dataset, field).nbytes for field in TENSORS) // 2**20)} MB of disk there"
        ) from error
    return handle


def _holds(handle: SharedDataset, dataset: Dataset) -> bool:
    """Whether the files are there and equal to ``dataset`` (files that outlived a power cut may be cut or empty)."""
    try:
        held = handle.open()
    except UserError:
        return False
    return all(torch.equal(getattr(held, field), getattr(dataset, field)) for field in TENSORS)


def _write(handle: SharedDataset, dataset: Dataset) -> None:
    target = Path(handle.directory)
    part = target.with_name(f"{target.name}.part")
    try:
        part.mkdir()
        for field in TENSORS:
            tensor: Tensor = getattr(dataset, field)
            if handle.channels_last and field.endswith("images"):
                tensor = tensor.permute(0, 2, 3, 1)
            write_new(part / f"{field}.npy", npy_pieces(tensor.contiguous().numpy()), flush=False)
        part.rename(target)
    except BaseException:
        remove_tree(part)
        raise

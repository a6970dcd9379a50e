"""Read the batches of a data set ahead, in other processes, with the draws that this process would have made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scaleinv.lab.global_random import READ, seed_all
from scaleinv.lab.splits import Streamed
from scaleinv.runfolder.threads import cores

#: batches that each process has ready
_READY = 2
Numbered = tuple[int, Tensor]  # the number of a batch in the run, and its examples


class _Reads(Dataset[Any]):
    """Batches by (number, examples); random transforms draw as from the seed and the number."""

    def __init__(self, split: Streamed, seed: int) -> None:
        self.split, self.seed = split, seed

    def __getitem__(self, asked: Numbered) -> Any:
        number, examples = asked
        seed_all(self.seed, READ, number)
        return self.split.read(examples)


@contextmanager
def ahead(split: Streamed, asked: Sequence[Numbered], seed: int, *, pinned: bool = False) -> Iterator[Iterator[Any]]:
    """Give (inputs, targets) of each batch that is asked for, in order, read by ``split.workers`` processes, at
    most one a core.

    - ``asked``: number of the batch in the run and its examples. ``seed``: of the run. ``pinned``: in memory from which
      a GPU copies without a stop.
    - Bits are those of ``split.batch`` after ``seed_all(seed, READ, number)``.
    """
    loader = DataLoader(
        _Reads(split, seed),
        sampler=asked,
        batch_size=None,
        num_workers=min(split.workers, cores()),
        prefetch_factor=_READY,
        pin_memory=pinned,
        generator=torch.Generator(),  # its own, so that the global one is left alone
    )
    found = iter(loader)
    try:
        yield found
    finally:
        del found, loader  # its processes end

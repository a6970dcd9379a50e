"""Memory of sweep workers on CIFAR-10: the data set is held once per machine. Goal: nothing of it private to a worker.

Two processes open the shared data set of 50 000 + 10 000 images and read every byte; the kernel's own account of their
mappings (/proc/PID/smaps) tells what is shared and what is private. Synthetic images of CIFAR-10's size.
"""

from __future__ import annotations

import dataclasses
import multiprocessing as mp
import tempfile
from multiprocessing.connection import Connection

import torch

from scaleinv.lab.data import SharedDataset, load_dataset, share


def account(folder: str) -> dict[str, int]:
    """kB of this process's mappings of files below ``folder``: resident, shared, private."""
    totals = dict.fromkeys(("Rss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"), 0)
    inside = False
    with open("/proc/self/smaps", encoding="utf-8") as lines:
        for line in lines:
            key, _, rest = line.partition(":")
            if "-" in key and " " in key:
                inside = folder in line
            elif inside and key in totals:
                totals[key] += int(rest.split()[0])
    return totals


def read_all(handle: SharedDataset, pipe: Connection) -> None:
    data = handle.open()
    total = float(data.train_images.sum() + data.test_images.sum())
    pipe.send(("read", total))
    pipe.recv()  # until the other has read as well
    pipe.send(account(handle.directory))
    pipe.recv()  # a page counts as shared only while the other maps it


def main() -> None:
    digits = load_dataset("digits")
    generator = torch.Generator().manual_seed(0)
    data = dataclasses.replace(
        digits,
        name="cifar10",
        train_images=torch.randn(50_000, 3, 32, 32, generator=generator),
        train_labels=torch.zeros(50_000, dtype=torch.int64),
        test_images=torch.randn(10_000, 3, 32, 32, generator=generator),
        test_labels=torch.zeros(10_000, dtype=torch.int64),
    )
    size = (data.train_images.numel() + data.test_images.numel()) * 4 / 1e6
    with tempfile.TemporaryDirectory() as folder:
        handle = share(data, folder)
        context = mp.get_context("spawn")
        crew = []
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=read_all, args=(handle, theirs))
            process.start()
            crew.append((process, ours))
        for _, pipe in crew:
            pipe.recv()
        for process, pipe in crew:
            pipe.send("go")
            found = pipe.recv()
            shared = (found["Shared_Clean"] + found["Shared_Dirty"]) / 1e3
            private = (found["Private_Clean"] + found["Private_Dirty"]) / 1e3
            print(f"worker {process.pid}: data {size:.0f} MB, shared {shared:.0f} MB, private {private:.1f} MB")
        for process, pipe in crew:
            pipe.send("leave")
            process.join()


if __name__ == "__main__":
    main()

"""One training step on the sphere, projection and online metrics included, against a bare tuned PyTorch loop.

ConvNet of width 16, batch 128, CIFAR-10-sized images, channels_last, data in memory, one thread. Both loops start from
the same weights and take turns, step by step; the ratio is the median over neighbouring steps. Goal: at most 1.05.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.nn import functional

from scaleinv.lab.build import build
from scaleinv.lab.config import Settings
from scaleinv.lab.data import Dataset
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import recorder_of, train_step

BATCH = 128


def images(count: int) -> Dataset:
    """Random images of CIFAR-10's form: the time of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(count, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    return Dataset("cifar10", pictures, labels, pictures[:0], labels[:0], 10, "synthetic", (0.0, 0.0, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=int, default=16)
    steps, width = (lambda a: (a.steps, a.width))(parser.parse_args())
    torch.set_num_threads(1)
    data = images(8 * BATCH)
    settings = Settings(data="cifar10", model="convnet", width=width, steps=steps)
    config = resolve(settings, data, elr=1e-3, lr=None, seed=0, threads=1)
    ours, bare = build(config, data), build(config, data)
    recorder = recorder_of(ours, steps + 5)
    weights = [p for p in bare.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=ours.learning_rates()[0], foreach=True)
    pictures, labels = ours.train
    ours.model.train()
    bare.model.train()

    def step_ours(index: torch.Tensor) -> None:
        train_step(ours, recorder, [(pictures[index], labels[index])])

    def step_bare(index: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(bare.model(pictures[index]), labels[index]).backward()
        optimizer.step()

    order = torch.Generator().manual_seed(1)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for k in range(steps + 5):
        index = torch.randint(len(labels), (BATCH,), generator=order)
        turn = [("ours", step_ours), ("bare", step_bare)]
        for name, step in turn if k % 2 else turn[::-1]:
            start = time.perf_counter()
            step(index)
            times[name].append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(times["ours"][5:], times["bare"][5:]))
    ms = {name: 1e3 * statistics.median(values[5:]) for name, values in times.items()}
    print(
        f"ConvNet k={width}, batch {BATCH}: bare {ms['bare']:.1f} ms a step, on the sphere with metrics "
        f"{ms['ours']:.1f} ms, ratio {ratio:.3f} (goal <= 1.05)"
    )


if __name__ == "__main__":
    main()

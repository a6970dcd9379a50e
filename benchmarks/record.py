"""What the record of every step costs, against a bare tuned PyTorch loop in the whole space and on the sphere.

Digits, batch 16: the ConvNet of width 8 (goal: at most 5 % of a step in the whole space) and the MLP of width 64 (at
most 15 %). Both loops start from the same weights and take turns, epoch by epoch; ours includes what is done with the
numbers at the end of an epoch and writing them to the disk; on the sphere both return to it. The ratio is the median
over neighbouring epochs, in seconds of the processor: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional

from scaleinv.lab.build import build
from scaleinv.lab.config import Settings
from scaleinv.lab.data import batches
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.train import open_store, recorder_of, train_step

GOALS = {"convnet": 1.05, "mlp": 1.15}
LR = 0.1
ELR = 1e-3


def measure(model: str, epochs: int, *, sphere: bool = False) -> None:
    settings = Settings(model=model, weight_decay=0.0 if sphere else 0.003, steps=10**6)
    data = load_data(settings)
    config = resolve(settings, data, elr=ELR if sphere else None, lr=None if sphere else LR, seed=0, threads=1)
    ours, bare = build(config, data), build(config, data)
    per_epoch = len(batches(len(data.train_labels), config.batch_size, seed=0, epoch=0))
    recorder = recorder_of(ours, per_epoch)
    weights = [p for p in bare.model.parameters() if p.requires_grad]
    plain = torch.optim.SGD(weights, lr=LR, weight_decay=config.weight_decay, foreach=True)
    optimizer = bare.optimizer if sphere else plain
    images, labels = ours.train
    ours.model.train()
    bare.model.train()
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "run", config, {}) as store:

        def epoch_ours(order: list[torch.Tensor], number: int) -> None:
            for index in order:
                train_step(ours, recorder, [(images[index], labels[index])])
            store.append(recorder.flush(per_epoch * number, number))
            store.append_steps(recorder.take_steps())
            if number % 10 == 0:  # as often as checkpoints come, or more
                store._write_next("steps", store._joined("none", store._steps))
                store._steps = []

        def epoch_bare(order: list[torch.Tensor], number: int) -> None:
            for index in order:
                x, y = images[index], labels[index]
                optimizer.zero_grad(set_to_none=True)
                functional.cross_entropy(bare.model(x), y).backward()
                optimizer.step()

        for number in range(1, epochs + 3):
            order = batches(len(labels), config.batch_size, seed=0, epoch=number)
            turn = [("ours", epoch_ours), ("bare", epoch_bare)]
            for name, run in turn if number % 2 else turn[::-1]:
                start = time.process_time()
                run(order, number)
                times[name].append(time.process_time() - start)
    ratio = statistics.median(a / b for a, b in zip(times["ours"][2:], times["bare"][2:]))
    us = {name: 1e6 * statistics.median(values[2:]) / per_epoch for name, values in times.items()}
    place, goal = ("on the sphere", "") if sphere else ("whole space", f" (goal <= {GOALS[model]:.2f})")
    print(
        f"{model}, {place}: bare {us['bare']:.0f} us a step, with the record {us['ours']:.0f} us, "
        f"ratio {ratio:.3f}{goal}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    for model in GOALS:
        for sphere in (False, True):
            measure(model, epochs, sphere=sphere)


if __name__ == "__main__":
    main()

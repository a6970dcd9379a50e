"""What the exact metrics of one evaluation epoch cost, and a whole short run with them.

The bound: one forward-backward pass over the train set plus one forward pass over the test set. Asked for the test
error with recomputed BN statistics as well (``recompute_bn``), the evaluation sees the test set twice; that is counted
apart. SI ConvNet of width 16, batch 128, channels_last. The parts take turns, round
by round, on one thread; ratios of processor time, medians over rounds. Proportions are those of 5000 and of 50 000
train images beside CIFAR-10's 10 000 test images. Goal: at most 1.05 times the bound.

The run: 5000 images of CIFAR-10 (random ones where it is not on disk), 2 epochs, exact metrics at epochs 0, 1 and 2, on
all cores. The authors' pipeline pays for each such epoch a train-mode pass, a test pass and a gradient pass over stored
checkpoints.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scaleinv.errors import UserError
from scaleinv.lab.build import build
from scaleinv.lab.config import Settings
from scaleinv.lab.data import Dataset, batches, eval_batches
from scaleinv.lab.evaluate import exact_metrics, test_metrics
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.train import run

BATCH = 128
GOAL = 1.05


def images(train: int, test: int) -> Dataset:
    """Random images of CIFAR-10's form: the time of a pass does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + test, 3, 32, 32, generator=generator)
    y = torch.randint(10, (train + test,), generator=generator)
    return Dataset("cifar10", x[:train], y[:train], x[train:], y[train:], 10, "synthetic", (0.0, 0.0, 0.0))


def timed(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds."""
    start = clock()
    action()
    return clock() - start


def pieces(train: int, test: int, width: int, rounds: int) -> None:
    """Print the multiples for these numbers of images."""
    data = images(train, test)
    settings = Settings(data="cifar10", model="convnet", width=width, epochs=1)
    config = resolve(settings, data, elr=1e-3, lr=None, seed=0, threads=torch.get_num_threads())
    ours, bare = build(config, data), build(config, data)
    tensors = [t for ts in bare.groups.values() for t in ts]
    optimizer = torch.optim.SGD(tensors, lr=ours.learning_rates()[0], foreach=True)
    x, y = bare.train
    order = batches(train, BATCH, seed=0, epoch=0)

    def epoch() -> None:
        bare.model.train()
        for index in order:
            optimizer.zero_grad(set_to_none=True)
            bare.loss(bare.model(x[index]), y[index]).backward()
            optimizer.step()

    def forward_backward() -> None:
        bare.model.train()
        for index in eval_batches(train, BATCH):
            part = slice(int(index[0]), int(index[-1]) + 1)
            torch.autograd.grad(bare.loss(bare.model(x[part]), y[part]), tensors)

    def evaluate(recompute_bn: bool) -> None:
        exact_metrics(ours.evaluated(), ours.learning_rates(), step=0, epoch=0, recompute_bn=recompute_bn)

    parts: dict[str, Callable[[], object]] = {
        "epoch": epoch,
        "pass": forward_backward,
        "test": lambda: test_metrics(bare.model, *bare.test, bare.loss),
        "exact": lambda: evaluate(False),
        "recomputed": lambda: evaluate(True),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for k in range(rounds + 1):
        for name in list(parts) if k % 2 else list(parts)[::-1]:
            times[name].append(timed(parts[name], time.process_time))
    rows = list(zip(*(values[1:] for values in times.values())))

    def middle(f: Callable[[float, float, float, float, float], float]) -> float:
        return statistics.median(f(*row) for row in rows)

    of_epoch, of_bound = middle(lambda e, p, t, x, r: x / e), middle(lambda e, p, t, x, r: x / (p + t))
    more, test_share = middle(lambda e, p, t, x, r: (r - x) / t), middle(lambda e, p, t, x, r: t / e)
    print(
        f"{train} train and {test} test images: exact metrics {of_epoch:.2f} of a bare training epoch; {of_bound:.2f} "
        f"of one forward-backward and one test pass (goal <= {GOAL}); with recomputed BN statistics {more:.2f} test "
        f"passes more; a test pass is {test_share:.2f} of the epoch"
    )


def whole(count: int, width: int) -> None:
    """Print wall time and images/s of the run."""
    settings = Settings(data="cifar10", subset=count, model="convnet", width=width, epochs=2, eval_every=1)
    try:
        data, kind = load_data(settings), "CIFAR-10"
    except UserError:
        data, kind = images(count, 2 * count), "random"
    threads = os.cpu_count() or 1
    config = resolve(settings, data, elr=1e-3, lr=None, seed=0, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed(lambda: run(config, data, Path(folder) / "run"))
    print(
        f"SI ConvNet k={width}, {count} {kind} images, 2 epochs, exact metrics at epochs 0, 1, 2 with "
        f"{len(data.test_labels)} test images, {threads} threads: {seconds:.1f} s, {2 * count / seconds:.0f} trained "
        f"images/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=5000, help="of the run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for train, test in ((640, 1280), (1280, 256)):
        pieces(train, test, options.width, options.rounds)
    whole(options.images, options.width)


if __name__ == "__main__":
    main()

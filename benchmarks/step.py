"""Training on the sphere, projection and online metrics included, against a bare tuned PyTorch loop.

Steps: ConvNet of width 16, batch 128, CIFAR-10-sized images (goal: at most 1.02); on digits, batch 16, the ConvNet of
width 8 (1.05) and the MLP of width 64 (1.15). Both loops start from the same weights and take turns, step by step; the
ratio is the median over neighbouring steps.

Whole runs: the MLP on digits at 8 steps an epoch, from the first step to the last file of the run folder, against a
bare loop of as many epochs over as many batches, which tests as often (goal: at most 1.2). Runs of both take turns; the
ratio is the median over neighbouring runs. Those of a sweep share the level of regime 3, which the first one measures;
a run alone measures it as well, and is told apart.

Data in memory, one thread, freed memory is kept with the process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from scaleinv.lab.build import Setup, build
from scaleinv.lab.config import RunConfig, Settings
from scaleinv.lab.data import Dataset, batches, load_dataset
from scaleinv.lab.evaluate import evaluation_epochs
from scaleinv.lab.levels import forget_shared_rows
from scaleinv.lab.memory import keep_freed_memory
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import recorder_of, run, train_step

WARM = 10
#: model, batch, goal
STEPS = {"cifar": ("convnet", 128, 1.02), "convnet": ("convnet", 16, 1.05), "mlp": ("mlp", 16, 1.15)}
RUN_GOAL, RUN_BATCH, RUN_EPOCHS = 1.2, 180, 100


def images(count: int) -> Dataset:
    """Random images of CIFAR-10's form: the time of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(count, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    return Dataset("cifar10", pictures, labels, pictures[:0], labels[:0], 10, "synthetic", (0.0, 0.0, 0.0))


def bare_step(setup: Setup) -> Callable[[torch.Tensor], None]:
    """The step of a loop that a user would write."""
    model, (pictures, labels) = setup.model.train(), setup.train
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=setup.learning_rates()[0], foreach=True)

    def step(index: torch.Tensor) -> None:
        index = index.to(labels.device)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(pictures[index]), labels[index]).backward()
        optimizer.step()

    return step


def steps(name: str, count: int, device: str = "cpu", together: int = 1) -> float:
    """Measure the ratio of a step; ``together``: how many between two looks at the clock, for which a GPU is waited."""
    model, batch, goal = STEPS[name]
    data = images(8 * batch) if name == "cifar" else load_dataset("digits")
    settings = Settings(
        data=data.name, model=model, width=16 if name == "cifar" else None, batch_size=batch, steps=count
    )
    config = resolve(settings, data, elr=1e-3, lr=None, seed=0, threads=1, device=device)
    ours = build(config, data)
    recorder = recorder_of(ours, (count + WARM) * together)
    pictures, labels = ours.train
    ours.model.train()

    def step_ours(index: torch.Tensor) -> None:
        index = index.to(labels.device)
        train_step(ours, recorder, [(pictures[index], labels[index])])

    wait = torch.cuda.synchronize if ours.device.type == "cuda" else lambda: None

    turn = [("ours", step_ours), ("bare", bare_step(build(config, data)))]
    order = torch.Generator().manual_seed(1)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for k in range(count + WARM):
        indices = [torch.randint(len(labels), (batch,), generator=order) for _ in range(together)]
        for who, step in turn if k % 2 else turn[::-1]:
            wait()
            start = time.perf_counter()
            for index in indices:
                step(index)
            wait()
            times[who].append((time.perf_counter() - start) / together)
    ratio = statistics.median(a / b for a, b in zip(times["ours"][WARM:], times["bare"][WARM:]))
    ms = {who: 1e3 * statistics.median(values[WARM:]) for who, values in times.items()}
    print(
        f"step on {device}, {model} of width {config.width} on {data.name}, batch {batch}: bare {ms['bare']:.2f} ms, "
        f"on the sphere with metrics {ms['ours']:.2f} ms, ratio {ratio:.3f} (goal <= {goal})",
        flush=True,
    )
    return ratio


def bare_run(config: RunConfig, data: Dataset) -> None:
    """Train and test as a user's loop does, at the epochs at which ours evaluates."""
    setup = build(config, data)
    step, model, count = bare_step(setup), setup.model, len(setup.train)
    per_epoch = len(batches(count, config.batch_size, seed=0, epoch=0))
    evaluated = set(evaluation_epochs(config.steps // per_epoch, config.eval_every))
    pictures, labels = setup.test
    for epoch in range(config.steps // per_epoch):
        for index in torch.randperm(count).split(config.batch_size)[:per_epoch]:
            step(index)
        if epoch + 1 in evaluated:
            model.eval()
            with torch.no_grad():
                for place in torch.arange(len(labels)).split(config.batch_size):
                    functional.cross_entropy(model(pictures[place]), labels[place]).item()
            model.train()


def runs(count: int) -> float:
    """Measure the ratio of whole runs; train metrics come from the training steps (``evaluation online``)."""
    data = load_dataset("digits")
    settings = Settings(model="mlp", batch_size=RUN_BATCH, epochs=RUN_EPOCHS, evaluation="online")
    config = resolve(settings, data, elr=1e-3, lr=None, seed=0, threads=1)
    times: dict[str, list[float]] = {"ours": [], "alone": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(count + 1):

            def ours(place: Path = Path(folder) / str(k)) -> None:
                run(config, data, place)

            def alone(place: Path = Path(folder) / f"alone-{k}") -> None:
                forget_shared_rows()
                run(config, data, place)

            turn = [("alone", alone), ("bare", lambda: bare_run(config, data)), ("ours", ours)]
            for who, whole in turn if k % 2 else turn[::-1]:
                start = time.perf_counter()
                whole()
                times[who].append(time.perf_counter() - start)
    ratio, apart = (
        statistics.median(a / b for a, b in zip(times[who][1:], times["bare"][1:])) for who in ("ours", "alone")
    )
    seconds = {who: statistics.median(values[1:]) for who, values in times.items()}
    print(
        f"run, mlp on digits, {config.steps // RUN_EPOCHS} steps an epoch, {RUN_EPOCHS} epochs: bare "
        f"{seconds['bare']:.2f} s, ours in a sweep {seconds['ours']:.2f} s, ratio {ratio:.3f} (goal <= {RUN_GOAL}); "
        f"alone {seconds['alone']:.2f} s, ratio {apart:.3f}"
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=60, help="of the largest network; small ones make ten times as many"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=(*STEPS, "runs"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    for name in STEPS:
        if chosen.only in (None, name):
            steps(name, chosen.steps * (1 if name == "cifar" else 10))
    if chosen.only in (None, "runs"):
        runs(chosen.runs)


if __name__ == "__main__":
    main()

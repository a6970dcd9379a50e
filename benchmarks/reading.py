"""What it costs to compare checksums when a run is read, as a ratio to reading it without (``--no-check``).

A run as long as those of the papers on CIFAR-10: 30 000 recorded steps of a network of 62 groups, rows of 77 epochs,
and weights of 11 million numbers kept three times. Each way of reading is done with and without checks in turn, files
in memory; the ratio is the median over neighbours. Goal: at most 1.02 for what is read of a run without its weights.

    python benchmarks/reading.py [--rounds 15] [--steps 30000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start, read_start
from scaleinv.lab.train import open_store
from scaleinv.report import write_report
from scaleinv.report.gather import run_facts
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.rows import Row
from scaleinv.runfolder.seal import unchecked
from scaleinv.runfolder.steps import load_steps

GOAL = 1.02
#: for each way, if it is quick: its time is short beside what disturbs it
SECONDS = 20.0
GROUPS = [f"layer{k // 15 + 1}.{k // 5}.conv{k % 5}.weight" for k in range(62)]
PER_EPOCH = 390


def make(folder: Path, steps: int, numbers: int) -> None:
    """Write the run as training writes it."""
    settings = Settings(model="mlp", width=8, weight_decay=0.003, steps=steps, keep_every=1)
    config = resolve(settings, load_data(settings), elr=None, lr=0.1, seed=0, threads=1)
    draw = np.random.default_rng(0)
    drift = np.linspace(3, 1, steps, dtype=np.float32)

    def walk() -> Any:
        return (drift * np.exp(draw.normal(0, 0.1, steps))).astype(np.float32)

    columns: dict[str, Any] = {"loss": walk(), "lr": np.full(steps, 0.1, np.float32), "total:angle": walk()}
    columns |= {f"{group}:{quantity}": walk() for group in GROUPS for quantity in ("rho_sq", "g", "angle")}
    weights = {group: torch.randn(numbers // len(GROUPS)) for group in GROUPS}
    with open_store(folder, config, {}) as store:
        for epoch in range(1, steps // PER_EPOCH + 1):
            store.append(
                [
                    Row(epoch * PER_EPOCH, epoch, split, group, quantity, float(draw.normal()))
                    for split in ("online", "train")
                    for group in ("total", *GROUPS)
                    for quantity in ("loss", "error", "rho", "g", "eg", "elr", "ess", "angle")
                ]
            )
        store.append_steps([columns])
        for epoch in (1, 2, 3):
            store.keep_weights(epoch, {name: tensor + epoch for name, tensor in weights.items()})
        result = {"status": "finished", "message": "", "steps": steps, "epochs": steps / PER_EPOCH}
        store.finish(steps, weights, {}, result | {"regime": None, "evidence": None, "timing": {}})


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    """Print a line a way of reading."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="at least; of a quick way more")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--numbers", type=int, default=11_000_000, help="numbers of the weights")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        make(folder, asked.steps, asked.numbers)

        def weights() -> None:
            for epoch in (1, 2, 3):
                start = find_start(f"{folder}@{epoch}")
                read_start(start.file, start.checksum)

        ways: dict[str, Callable[[], object]] = {
            "rows (load_run)": lambda: load_run(folder),
            "record of steps (load_steps)": lambda: load_steps(folder),
            "run and record": lambda: (load_run(folder), load_steps(folder)),
            "facts of a page": lambda: run_facts(load_run(folder)),
            "the page (scaleinv report)": lambda: write_report(folder),
            "kept weights (landscape, --from)": weights,
        }
        for name, read in ways.items():
            ratios, checked = [], []
            for k in range(max(asked.rounds, round(SECONDS / 2 / _seconds(read)))):
                times = {}
                for hurried in (k % 2 == 0, k % 2 == 1):
                    with unchecked(hurried):
                        times[hurried] = _seconds(read)
                checked.append(times[False])
                ratios.append(times[False] / times[True])
            low, ratio, high = statistics.quantiles(ratios, n=4)
            print(
                f"{name:<34} {1e3 * statistics.median(checked):7.1f} ms with checks, ratio {ratio:.3f} "
                f"(quartiles {low:.3f} to {high:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Throughput of a sweep with two workers against one, one thread each, interleaved. Goal: at least 1.8x."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.studies.sweep import SweepConfig, run_sweep

ROUNDS = 2
RUNS, EPOCHS = 6, 40


def main() -> None:
    settings = Settings(data="digits", model="convnet", epochs=EPOCHS)
    dataset = load_data(settings)
    base = resolve(settings, dataset, elr=1e-3, lr=None, seed=0, threads=1)
    sweep = SweepConfig(base, "elr", tuple(1e-3 * (1 + k / 10) for k in range(RUNS)), (0,))
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers in times:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                run_sweep(sweep, dataset, Path(folder) / "sweep", workers=workers)
                times[workers].append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(times[1], times[2]))
    one, two = statistics.median(times[1]), statistics.median(times[2])
    print(f"{RUNS} runs of {EPOCHS} epochs: 1 worker {one:.1f} s, 2 {two:.1f} s, ratio {ratio:.2f} (goal >= 1.8)")


if __name__ == "__main__":
    main()

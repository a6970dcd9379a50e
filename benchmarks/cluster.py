"""What launching costs: a look at 1000 run folders, and the driver's memory; 1000 runs as a map and a page.

python benchmarks/cluster.py [--runs 1000]

Prints seconds and megabytes. What an engine adds to a run: `--engine slurm` trains the same runs by processes and by
that engine, interleaved, and prints the ratio of core-seconds (the engine's own start of Python included).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from scaleinv.lab.config import Settings
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.choose import Choice
from scaleinv.lab.launch.polled import Polled
from scaleinv.lab.launch.unit import prepare
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.runfolder.progress import Progress
from scaleinv.studies.sweep import SweepConfig, run_sweep

SETTINGS = Settings(subset=64, model="mlp", width=4, steps=8)


class Watched(Polled):
    """Jobs that never end, to be looked at."""

    def held(self, jobs: object) -> set[Path]:
        return set()


def polling(count: int, root: Path) -> None:
    data = load_data(SETTINGS)
    base = resolve(SETTINGS, data, elr=1.0, lr=None, seed=0, threads=1)
    rates = [1e-4 * 1.01**k for k in range(count)]
    jobs = [Job(config, root / config.identity(), {}) for config in SweepConfig(base, "elr", tuple(rates), (0,)).runs()]
    begin = time.perf_counter()
    for job in jobs:
        prepare(job)
        Progress(job.folder, 8).write(1, 0)
    print(f"{count} folders prepared: {time.perf_counter() - begin:.2f} s")
    watcher, told = Watched(lambda jobs: None), []
    for words in ("every one has news", "none has news"):
        begin = time.perf_counter()
        for job in jobs:
            if watcher._ended(job) is None:
                watcher._tell(job, lambda job, event: told.append(event))
        print(f"a look at {count} folders, {words}: {time.perf_counter() - begin:.3f} s")
    assert len(told) == count
    print(f"the driver's memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def engine(name: str, root: Path, rounds: int, steps: int) -> None:
    settings = Settings(model="mlp", width=64, steps=steps, evaluation="online")
    data = load_data(settings)
    base = resolve(settings, data, elr=1e-3, lr=None, seed=0, threads=1)
    ratios = []
    for k in range(rounds):
        seconds = {}
        for where in ("processes", name):
            sweep = SweepConfig(base, "elr", (1e-3 + k * 1e-6, 1e-2 + k * 1e-6), (0,))
            out = root / f"{where}-{k}"
            begin = time.perf_counter()
            done = run_sweep(sweep, data, out, workers=2, launch=Choice(where))
            wall = time.perf_counter() - begin
            trained = sum(json.loads((one.job.folder / "result.json").read_text())["timing"]["seconds"] for one in done)
            seconds[where] = (wall, trained)
        ratios.append(seconds[name][1] / seconds["processes"][1])
        print(f"round {k}: " + ", ".join(f"{w}: wall {a:.1f} s, runs {b:.1f} core-s" for w, (a, b) in seconds.items()))
    print(f"core-seconds of the runs, {name} / processes: median {statistics.median(ratios):.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--engine", help="compare this launcher with processes in place of polling")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        if asked.engine:
            engine(asked.engine, Path(root), asked.rounds, asked.steps)
        else:
            polling(asked.runs, Path(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What waiting for runs costs: a look at 1000 run folders, and the driver's memory.

python benchmarks/cluster.py [--runs 1000]

Prints seconds and megabytes. What an engine adds to the runs: benchmarks/engine.py; the map and the page of so many:
benchmarks/sweep_page.py.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from scaleinv.lab.config import Settings
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.polled import Polled
from scaleinv.lab.launch.unit import prepare
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.runfolder.progress import Progress
from scaleinv.studies.sweep import SweepConfig

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        polling(asked.runs, Path(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())

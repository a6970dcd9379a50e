"""What an engine adds to the core-seconds of a sweep: the same runs by worker processes and by Slurm or Ray; and what
worker processes add to `scaleinv run` in two shells.

python benchmarks/engine.py slurm|ray|processes [--seconds 62] [--runs 2] [--rounds 1]

Two runs at a time, of about so many seconds each; with two runs each has its own start of Python, the most an engine
can cost. Core-seconds are those of all processes below this one: the command, its workers, the engine's daemons
(started before, and counted while the sweep runs) and all it starts. Printed are the ratio of both, and what each
spends beyond training: where trainings of the same bits differ, the machine did. Takes under four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MOST = 0.02
PACE = 2000  # steps of the runs that tell how long a step takes
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: daemons of ours stay below us
_TICKS = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    total: float  # core-seconds
    trained: float  # seconds within the runs, on one core each


def core_seconds() -> float:
    """Of all processes that were started below this one, those that have ended included."""
    parents, times = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            parents[int(place.name)] = int(fields[1])
            times[int(place.name)] = sum(map(int, fields[11:15])) / _TICKS  # own and those of children waited for
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for pid in times:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            total += times[pid]
    return total


def sweep(out: Path, runs: int, steps: int, *more: str, environment: dict[str, str]) -> Spent:
    """Train the sweep by the command, and add up what it took; with ``--prepare`` by `scaleinv run`, two at a time."""
    rates = ",".join(f"{1e-3 * 1.5**k:.6g}" for k in range(runs))
    own = [sys.executable, "-m", "scaleinv"]
    words = [*own, "sweep", "--data", "digits", "--model", "mlp", "--width", "64", "--quiet"]
    words += ["--evaluation", "online", "--steps", str(steps), "--elr", rates, "--out", str(out), *more]
    begin = core_seconds()
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    if "--prepare" in more:
        each = ["xargs", "-P", "2", "-n", "1", *own, "run", "--quiet"]
        subprocess.run(each, env=environment, check=True, input=done.stdout, text=True, stdout=subprocess.DEVNULL)
        subprocess.run(words[: -len(more)], env=environment, check=True, stdout=subprocess.DEVNULL)  # the map
    time.sleep(2)  # jobs that are cancelled and daemons that clear up after them belong to it
    total = core_seconds() - begin
    results = [json.loads(path.read_text()) for path in out.glob("runs/*/result.json")]
    assert [one["status"] for one in results] == ["finished"] * runs
    return Spent(total, sum(one["timing"]["seconds"] for one in results))


@contextlib.contextmanager
def processes(root: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    yield ["--workers", "2"], {}


@contextlib.contextmanager
def slurm(root: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    sys.path.insert(0, str(ROOT))
    from tests.launch.slurm_cluster import SlurmCluster

    cluster = SlurmCluster(root)
    try:
        yield ["--launcher", "slurm", "--launcher-args", "time=60"], cluster.environment
    finally:
        cluster.close()


_NODES = """
import sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
Path(sys.argv[1]).write_text(cluster.address)
while Path(sys.argv[1]).exists():
    time.sleep(1)
cluster.shutdown()
"""


@contextlib.contextmanager
def ray(root: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    root.mkdir()
    told = root / "address"
    nodes = subprocess.Popen([sys.executable, "-c", _NODES, str(told)], stderr=subprocess.DEVNULL)
    try:
        while not told.exists() or not told.read_text():
            assert nodes.poll() is None
            time.sleep(0.2)
        time.sleep(5)  # it has started its workers
        yield ["--launcher", "ray", "--launcher-args", f"address={told.read_text()}"], dict(os.environ)
    finally:
        told.unlink(missing_ok=True)
        nodes.wait(timeout=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("slurm", "ray", "processes"))
    parser.add_argument("--seconds", type=float, default=62.0, help="of a run")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = {"slurm": slurm, "ray": ray, "processes": processes}[asked.engine]
    other, plain = ("run", ["--prepare"]) if asked.engine == "processes" else ("processes", ["--workers", "2"])
    with tempfile.TemporaryDirectory() as made, start(Path(made) / "engine") as (flags, theirs):
        root = Path(made)
        first = sweep(root / "pace", 2, PACE, "--workers", "2", environment=environment)
        steps = round(asked.seconds * 2 * PACE / first.trained)
        print(f"{asked.runs} runs of {steps} steps, two at a time", flush=True)
        added, ratios = [], []
        for number in range(asked.rounds):
            spent = {}
            for name in (other, asked.engine) if number % 2 == 0 else (asked.engine, other):
                how, where = (plain, environment) if name == other else (flags, {**environment, **theirs})
                one = spent[name] = sweep(root / f"{name}-{number}", asked.runs, steps, *how, environment=where)
                beyond = one.total - one.trained
                print(
                    f"{name}: {one.total:.1f} core-s, of them {one.trained:.1f} s in training, {beyond:.1f} beyond, "
                    f"{beyond / asked.runs:.2f} a run",
                    flush=True,
                )
            there, here = spent[asked.engine], spent[other]
            ratios.append(there.total / here.total)
            added.append(((there.total - there.trained) - (here.total - here.trained)) / here.total)
            bits = [sorted(root.glob(f"{name}-{number}/runs/*/checkpoints/*/weights.safetensors")) for name in spent]
            assert len(bits[0]) >= asked.runs
            assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*bits, strict=True))
    share = statistics.median(added)
    told = (
        f"core-seconds, {asked.engine} / {other}: {statistics.median(ratios):.4f}; added beyond training: {share:.2%}"
    )
    print(f"{told} (goal: at most {MOST:.0%})")
    return 0 if share <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())

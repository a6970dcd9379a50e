"""What an engine adds to the core-seconds of a sweep: the same run by a worker process and by Slurm or Ray; and what a
worker process adds to `scaleinv run` in a shell.

python benchmarks/engine.py slurm|ray|processes [--seconds 62 | --steps 200] [--runs 2] [--rounds 1]
python benchmarks/engine.py ray --turns 60

Both train at the same time, side by side on two cores, one run after the other of about so many seconds each: what
disturbs the machine disturbs both. The fewer the runs the more an engine costs, since it starts once. On a machine with
other work trainings of the same bits differ by some per cent of core-seconds; what an engine adds whatever the length
of its runs is seen best where they are short (--steps 200); what its daemons take while they wait is told as well.
Whether training itself is slower in a worker of Ray is seen with --turns: two workers train the same 1000 steps, one of
Ray and one of Python's process pool, never both at a time, as often as said; a pair's ratio has nobody else in it.
Core-seconds are those of all processes: the command, its workers, the engine's daemons (started before, and counted
while the sweeps run) and all they start. The weights must be the same bit for bit. A round takes under four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from scaleinv.lab.launch.unit import train_folder
from scaleinv.text import count

ROOT = Path(__file__).parents[1]
MOST = 0.02
PACE = 8000  # steps of the runs that tell how long a step takes
LOOK = 0.1
WAITED = 20.0
TURN, WARM = 1000, 2  # steps; turns that do not count
LOCAL = ["--workers", "1"]
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: daemons of ours stay below us
_TICKS = os.sysconf("SC_CLK_TCK")


Table = dict[int, tuple[int, int, str, float]]


class Clock:
    """Core-seconds of all processes started below this one, those that have ended included: a parent that waits for
    its children has their times. Ray's daemon does not wait (it ignores SIGCHLD): its children are looked at
    every :data:`LOOK` seconds, and the last look at one that has ended counts.
    """

    def __init__(self) -> None:
        self._unwaited: dict[tuple[int, str], float] = {}  # process and its start
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Clock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        deaf: dict[int, bool] = {}
        while not self._over.wait(LOOK):
            table = processes_now()
            for pid, (parent, _, begun, seconds) in table.items():
                if parent not in deaf:
                    deaf[parent] = _ignores_children(parent)
                if deaf[parent] and _is_ours(pid, table):
                    self._unwaited[pid, begun] = seconds

    def settle(self) -> None:
        """Wait until daemons that have just been started are done with that."""
        end, before = time.monotonic() + 60, self.seconds()
        while time.monotonic() < end:
            time.sleep(3)
            now = self.seconds()
            if now - before < 0.3:
                return
            before = now

    def seconds(self) -> float:
        """Until now."""
        table = processes_now()
        total = _spent(resource.getrusage(resource.RUSAGE_CHILDREN))
        total += sum(seconds for pid, (_, _, _, seconds) in table.items() if _is_ours(pid, table))
        living = {(pid, begun) for pid, (_, _, begun, _) in table.items()}
        return total + sum(seconds for one, seconds in list(self._unwaited.items()) if one not in living)


def processes_now() -> Table:
    """Of each process: parent, session, when it began, core-seconds of itself and of the children it has waited for."""
    table = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            seconds = sum(map(int, fields[11:15])) / _TICKS
            table[int(place.name)] = (int(fields[1]), int(fields[3]), fields[19], seconds)
    return table


def _is_ours(pid: int, table: Table) -> bool:
    """Whether a process was started below this one."""
    above = table[pid][0]
    while above in table and above != os.getpid():
        above = table[above][0]
    return above == os.getpid()


def _ignores_children(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGCHLD - 1) & 1)
    return False


def _spent(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def command(out: Path, runs: int, steps: int, *more: str) -> list[str]:
    """The command of a sweep; with ``--prepare`` what does the same by `scaleinv run`."""
    rates = ",".join(f"{1e-3 * 1.5**k:.6g}" for k in range(runs))
    own = [sys.executable, "-m", "scaleinv"]
    words = [*own, "sweep", "--data", "digits", "--model", "mlp", "--width", "64", "--quiet"]
    words += ["--evaluation", "online", "--steps", str(steps), "--elr", rates, "--out", str(out)]
    if "--prepare" not in more:
        return [*words, *more]
    each, whole = shlex.join([*own, "run", "--quiet"]), shlex.join(words)
    return ["sh", "-c", f"{whole} --prepare | xargs -n 1 {each} && {whole}"]


def start(words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def seconds_of(process: subprocess.Popen[bytes]) -> float:
    """Wait for a command, and say what it and all that it started took."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.args
    left = [seconds for _, session, _, seconds in processes_now().values() if session == process.pid]
    return _spent(usage) + sum(left)  # those that it did not wait for as well


def trained(out: Path, runs: int) -> float:
    """Seconds that the runs of a sweep trained."""
    results = [json.loads(path.read_text()) for path in out.glob("runs/*/result.json")]
    assert [one["status"] for one in results] == ["finished"] * runs
    return float(sum(one["timing"]["seconds"] for one in results))


def steps_in(seconds: float, root: Path, environment: dict[str, str]) -> int:
    """Steps that a run takes in so many seconds while another one trains beside it."""
    both = [start(command(root / f"pace-{k}", 1, PACE, *LOCAL), environment) for k in range(2)]
    for one in both:
        seconds_of(one)
    return round(seconds * PACE / min(trained(root / f"pace-{k}", 1) for k in range(2)))


@contextlib.contextmanager
def processes(root: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    yield LOCAL, {}


@contextlib.contextmanager
def slurm(root: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    sys.path.insert(0, str(ROOT))
    from tests.launch.slurm_cluster import SlurmCluster

    cluster = SlurmCluster(root)
    try:
        yield ["--launcher", "slurm", "--launcher-args", "time=60,array_parallelism=1"], cluster.environment
    finally:
        cluster.close()


@contextlib.contextmanager
def ray(root: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    sys.path.insert(0, str(ROOT))
    from tests.launch.ray_cluster import RayCluster

    with RayCluster(root, cpus=1) as cluster:
        yield ["--launcher", "ray", "--launcher-args", f"address={cluster.address}"], dict(os.environ)


def train(folder: Path) -> float:
    """Train a folder; return the core-seconds that all threads of this process took meanwhile."""
    begin = time.process_time()
    train_folder(folder)
    return time.process_time() - begin


def turns(number: int, root: Path) -> int:
    """Print how much slower training is in a worker of Ray; 0 where that is at most the goal or not seen."""
    import ray

    prepared = command(root / "made", 1, TURN)
    subprocess.run([*prepared, "--prepare"], check=True, stdout=subprocess.DEVNULL)
    (source,) = (root / "made" / "runs").iterdir()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remote = ray.remote(train)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        who: dict[str, Callable[[Path], float]] = {
            "plain": lambda folder: pool.submit(train, folder).result(),
            "ray": lambda folder: float(ray.get(remote.remote(folder))),
        }
        spent: dict[str, list[float]] = {name: [] for name in who}
        for turn in range(WARM + number):
            for name in sorted(who, reverse=bool(turn % 2)):
                place = root / f"{name}-{turn}"
                shutil.copytree(source, place)
                spent[name].append(who[name](place))
    ray.shutdown()
    ratios = [math.log(b / a) for a, b in zip(spent["plain"][WARM:], spent["ray"][WARM:], strict=True)]
    more, error = statistics.mean(ratios), statistics.stdev(ratios) / number**0.5
    print(f"training in a worker of Ray takes {more:+.2%} core-seconds, standard error {error:.2%} ({number} pairs)")
    return 0 if more - 2 * error <= MOST else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("slurm", "ray", "processes"))
    parser.add_argument("--seconds", type=float, default=62.0, help="of a run")
    parser.add_argument("--steps", type=int, help="of a run, in place of --seconds")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--turns", type=int, help="compare training alone, so many times")
    asked = parser.parse_args()
    if asked.turns:
        os.environ["OMP_NUM_THREADS"] = "1"
        with tempfile.TemporaryDirectory() as made:
            return turns(asked.turns, Path(made))
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    engine = {"slurm": slurm, "ray": ray, "processes": processes}[asked.engine]
    other, plain = ("run", ["--prepare"]) if asked.engine == "processes" else ("processes", LOCAL)
    with tempfile.TemporaryDirectory() as made, engine(Path(made) / "engine") as (flags, theirs), Clock() as clock:
        root = Path(made)
        steps = asked.steps or steps_in(asked.seconds, root, environment)
        print(f"{count(asked.runs, 'run')} of {steps} steps by each, at the same time", flush=True)
        rounds: list[tuple[float, float]] = []  # core-seconds of the engine and of the other
        clock.settle()
        begin = clock.seconds()
        time.sleep(WAITED)
        print(f"waiting, it takes {(clock.seconds() - begin) / WAITED:.4f} core-s a second", flush=True)
        for number in range(asked.rounds):
            outs = {name: root / f"{name}-{number}" for name in (other, asked.engine)}
            begin = clock.seconds()
            there = start(command(outs[asked.engine], asked.runs, steps, *flags), {**environment, **theirs})
            here = start(command(outs[other], asked.runs, steps, *plain), environment)
            spent = {other: seconds_of(here)}
            seconds_of(there)
            time.sleep(2)  # jobs that are cancelled and daemons that clear up after them belong to it
            spent[asked.engine] = clock.seconds() - begin - spent[other]
            for name, seconds in spent.items():
                print(f"{name}: {seconds:.1f} core-s; the runs trained {trained(outs[name], asked.runs):.1f} s")
            rounds.append((spent[asked.engine], spent[other]))
            bits = [sorted(out.glob("runs/*/checkpoints/*/weights.safetensors")) for out in outs.values()]
            assert len(bits[0]) >= asked.runs
            assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*bits, strict=True))
    added = statistics.median(mine / plain for mine, plain in rounds) - 1
    more = statistics.median(mine - plain for mine, plain in rounds)
    print(f"{asked.engine} added {more:.1f} core-s, {added:.2%}, to those of {other} (goal: at most {MOST:.0%})")
    return 0 if added <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())

"""A sweep killed at any moment and started again gives the bits of one that was never killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from children import alive, children
from safetensors.torch import load_file
from tests import often

from scaleinv.runfolder.seal import read_sealed

pytestmark = pytest.mark.slow

SWEEP = [
    "sweep",
    "--data",
    "digits",
    "--subset",
    "400",
    "--label-noise",
    "0.1",
    "--augment",
    "--model",
    "convnet",
    "--width",
    "4",
    "--momentum",
    "0.9",
    "--elr",
    "1e-3,1e-2,1e-1,1e3",
    "--quiet",
]
STEPS = "300"


def hear_interrupts() -> None:
    """A shell's background job ignores SIGINT and so do its children: where these tests run as one, Ctrl-C is lost."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(out: Path, workers: int = 2) -> subprocess.Popen[str]:
    words = [*SWEEP, "--steps", STEPS, "--workers", str(workers), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "scaleinv", *words],
        env=often.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )


def finish(out: Path) -> None:
    process = start(out)
    _, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert complaints == ""


def newest_change(out: Path) -> float:
    """When a run was last written to."""
    times = [0.0]
    for path in out.glob("runs/*/checkpoints/*"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times)


def wait_for_training(out: Path, process: subprocess.Popen[str], since: float) -> None:
    deadline = time.monotonic() + 300
    while newest_change(out) <= since and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint within five minutes"
        time.sleep(0.005)


def workers_of(pid: int) -> list[int]:
    """Processes started by ``pid``, from /proc."""
    return [child for child, _, _ in children(pid)]


def assert_all_leave(crew: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(alive, crew)):
        assert time.monotonic() < deadline, "processes outlive their parent"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    """A sweep left alone, the seconds to its first checkpoint and the seconds of training of all its runs."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    began, before = time.time(), time.monotonic()
    process = start(out)
    wait_for_training(out, process, began)
    start_up = time.monotonic() - before
    _, complaints = process.communicate(timeout=300)
    assert (process.returncode, complaints) == (0, "")
    seconds = sum(json.loads(p.read_text())["timing"]["seconds"] for p in out.glob("runs/*/result.json"))
    return out, start_up, seconds


def assert_same_sweep(out: Path, other: Path) -> None:
    assert (out / "sweep.json").read_bytes() == (other / "sweep.json").read_bytes()
    assert (out / "sweep-config.json").read_bytes() == (other / "sweep-config.json").read_bytes()
    names = sorted(p.name for p in (out / "runs").iterdir())
    assert names == sorted(p.name for p in (other / "runs").iterdir())
    for name in names:
        ours, theirs = out / "runs" / name, other / "runs" / name
        metrics = [sorted(p.name for p in (run / "metrics").iterdir()) for run in (ours, theirs)]
        assert metrics == [["part-final.parquet"]] * 2
        assert (ours / "metrics/part-final.parquet").read_bytes() == (
            theirs / "metrics/part-final.parquet"
        ).read_bytes()
        (step,) = (p.name for p in (ours / "checkpoints").iterdir())
        weights = [load_file(run / "checkpoints" / step / "weights.safetensors") for run in (ours, theirs)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
        results = [read_sealed(run / "result.json") for run in (ours, theirs)]  # whole, by a checksum that holds times
        for result in results:
            del result["timing"]
        assert results[0] == results[1]


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.nightly)])
def test_a_sweep_killed_many_times_gives_the_same_bits(
    count: int, tmp_path: Path, uninterrupted: tuple[Path, float, float]
) -> None:
    whole, start_up, seconds = uninterrupted
    out = tmp_path / "sweep-0"
    draw = random.Random(20)
    kills = resumed = 0
    while kills < count:
        began = time.time()
        process = start(out, workers=1 + (kills % 4 == 1))  # their number is free
        if kills % 4 == 2:  # also while it starts
            time.sleep(draw.uniform(0, start_up))
        else:
            wait_for_training(out, process, began)
            time.sleep(draw.uniform(0, 0.03 * seconds))
        crew = workers_of(process.pid)
        process.kill()
        _, complaints = process.communicate()
        if process.returncode == 0:  # it ended before the kill: on with another one
            assert_same_sweep(out, whole)
            out = tmp_path / f"sweep-{kills}"
            continue
        assert process.returncode == -signal.SIGKILL, complaints
        assert complaints == ""
        assert_all_leave(crew)  # the next start would wait for them, but they must leave by themselves
        kills += 1
        resumed += any(out.glob("runs/*/checkpoints/step-*"))
    assert resumed > count / 2
    finish(out)
    assert_same_sweep(out, whole)


def test_second_process_dead_worker_and_interrupt(tmp_path: Path, uninterrupted: tuple[Path, float, float]) -> None:
    out = tmp_path / "sweep"
    began = time.time()
    process = start(out)
    wait_for_training(out, process, began)
    training = [pid for pid in workers_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(training) == 2
    while not any(out.glob("runs/*/checkpoints/step-*")):  # it may have been half-written when it was seen
        assert process.poll() is None
        time.sleep(0.005)
    for pid in training:  # they do not end before the second process has loaded torch
        os.kill(pid, signal.SIGSTOP)
    second = start(out)
    _, complaint = second.communicate(timeout=60)
    assert second.returncode == 2
    assert complaint == f"scaleinv: another process is working on {out}; wait for it, or choose another --out\n"
    os.kill(training[1], signal.SIGKILL)
    deadline = time.monotonic() + 60  # a new worker takes the place of the dead one
    while len({*workers_of(process.pid)} - {*training}) < 2:  # the resource tracker is the other
        assert time.monotonic() < deadline
        time.sleep(0.01)
    crew = workers_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to all processes of the terminal
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "scaleinv: interrupted; the same command resumes where `sweep` stopped\n"
    assert_all_leave(crew)
    assert not (out / ".shared").exists()
    assert list(out.glob("runs/*/checkpoints/step-*"))
    finish(out)
    assert_same_sweep(out, uninterrupted[0])

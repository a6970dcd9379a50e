"""GPUs shared out among workers: tried with GPUs that are only named, since the variable is all a worker is told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.devices import choose_device
from scaleinv.lab.launch import processes
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.crew import Crew, Report
from scaleinv.lab.launch.gpus import VISIBLE, visible_gpus, worker_environments
from scaleinv.lab.launch.names import device_elsewhere
from scaleinv.lab.launch.task import Task
from scaleinv.lab.resolve import load_data, resolve

SETTINGS = Settings(subset=64, model="mlp", width=4, steps=8)


def told(item: int, report: Report) -> tuple[int, str]:
    """In a worker: who it is, and which GPU it sees."""
    return os.getpid(), os.environ.get(VISIBLE, "")


def dies_once(place: str, report: Report) -> str:
    """In a worker: die, and the next one with the same GPU waits until those of all GPUs are there."""
    mine = Path(place) / os.environ[VISIBLE]
    if not mine.exists():
        mine.touch()
        os._exit(1)
    mine.with_name(f"{mine.name}-again").touch()
    end = time.monotonic() + 60
    while len(list(Path(place).glob("*-again"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    return mine.name


def seen_gpus() -> dict[str, str]:
    """A task: the GPUs its worker sees."""
    return {"seen": os.environ.get(VISIBLE, "")}


@pytest.mark.slow
def test_each_worker_has_a_gpu_and_all_have_their_turn() -> None:
    crew: Crew[int, tuple[int, str]] = Crew(told, 3, environments=worker_environments("cuda", 3, ["0", "GPU-8a"]))
    of_worker = dict(answer.result for answer in crew.run(range(12)) if answer.result)
    assert sorted(of_worker.values()) == ["0", "0", "GPU-8a"]
    assert os.environ.get(VISIBLE) != "GPU-8a"  # ours is as it was


@pytest.mark.slow
def test_who_takes_the_place_of_a_dead_worker_has_its_gpu(tmp_path: Path) -> None:
    crew: Crew[str, str] = Crew(dies_once, 2, environments=worker_environments("cuda", 2, ["0", "1"]))
    answers = [answer.result for answer in crew.run([str(tmp_path)] * 2)]
    assert sorted(filter(None, answers)) == ["0", "1"]


@pytest.mark.slow
def test_runs_on_cuda_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the launcher: two workers on two GPUs; four on one see what this process sees."""
    config = resolve(SETTINGS, load_data(SETTINGS), elr=0.1, lr=None, seed=0, threads=1, device="cuda")

    def seen(gpus: list[str], device: str, name: str) -> set[object]:
        monkeypatch.setattr(processes, "visible_gpus", lambda: gpus)
        task = Task("tests.launch.test_gpus:seen_gpus", {})
        jobs = [Job(config, tmp_path / name / str(k), {}, device=device, task=task) for k in range(2)]
        ended = list(processes.Processes(None, tmp_path / "shared", 2).run(jobs))
        assert [one.error for one in ended] == ["", ""]
        return {one.result["seen"] for one in ended if one.result}

    ours = os.environ.get(VISIBLE, "")
    assert seen(["0", "1"], "cuda", "two") <= {"0", "1"}
    assert seen(["0"], "cuda", "one") == {ours}


def test_the_gpus_that_are_visible_are_those_that_are_named() -> None:
    assert visible_gpus(0, {}) == []
    assert visible_gpus(1, {VISIBLE: "3, 4"}) == ["3"]
    assert visible_gpus() == visible_gpus(torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_a_device_of_another_machine_may_be_missing_here() -> None:
    assert choose_device("cuda:3", here=False) == "cuda"
    assert choose_device("cpu", here=False) == "cpu"
    with pytest.raises(UserError, match="nothing is trained there"):
        choose_device("xla", here=False)
    assert device_elsewhere("auto", "slurm", {"gres": "gpu:2"}) == "cuda"
    assert device_elsewhere("auto", "slurm", {"partition": "gpu"}) == "cpu"
    assert device_elsewhere("auto", "ray", {"gpus": 0.25}) == "cuda"
    assert device_elsewhere("auto", "ray", {"gpus": 0}) == "cpu"
    assert device_elsewhere("auto", "processes", {}) == "auto"
    assert device_elsewhere("cuda", "slurm", {}) == "cuda"

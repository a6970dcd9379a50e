"""Work that is no training, the landscape of runs: by every launcher the numbers of this process, and its mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.launch import sweeps

from scaleinv.errors import UserError
from scaleinv.lab.launch.base import Finished, Job, Launcher
from scaleinv.lab.launch.choose import LOCAL, Choice, LaunchSite, prepare_all
from scaleinv.lab.launch.polled import Polled
from scaleinv.lab.launch.slurm import TrainFolders
from scaleinv.lab.launch.task import Task, do_task, take_away, write_task
from scaleinv.lab.launch.unit import attempt
from scaleinv.runfolder.files import Lock, remove_tree
from scaleinv.runfolder.layout import ERROR, RESULT
from scaleinv.studies import pieces
from scaleinv.studies.landscape import TASKS, Study, study

QUICK = Study(images=64, probes=2, points=5, walk_steps=20, walk_seeds=1)
PARTS = ("sharpness", "paths", "walks")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "sweep"
    assert sweeps.within(sweeps.command(out, "--workers", "1", elr=(0.01, 0.1), epochs=2)) == 0
    return out


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What this process measures on one thread."""
    folder = tmp_path_factory.mktemp("measured") / "sweep"
    shutil.copytree(trained, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        study(folder, PARTS, settings=QUICK)
    finally:
        torch.set_num_threads(threads)
    return (folder / "landscape.json").read_text()


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "sweep")
    return tmp_path / "sweep"


class Out(Polled):
    """An engine that does its jobs in this process, the last first; told how many it was given."""

    engine = "the engine"

    def __init__(self, site: LaunchSite) -> None:
        super().__init__(lambda jobs: prepare_all(jobs, site))
        self.given = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in reversed(jobs):
            self.given += 1
            attempt(job.folder)

    def held(self, jobs: Sequence[Job]) -> set[Path]:
        return set()


def test_pieces_measured_elsewhere_are_those_of_this_process(folder: Path, measured: str, quick: None) -> None:
    seen: list[tuple[str, int, int]] = []
    study(folder, PARTS, settings=QUICK, launch=Out, watch=lambda *told: seen.append(told))
    assert (folder / "landscape.json").read_text() == measured
    assert [told[1:] for told in seen] == [(k, 4) for k in range(1, 5)]
    assert not (folder / TASKS).exists()
    never: Callable[[LaunchSite], Launcher] = lambda site: pytest.fail("launched again")  # noqa: E731
    study(folder, PARTS, settings=QUICK, launch=never)  # all is kept
    assert (folder / "landscape.json").read_text() == measured


def test_worker_processes_measure_the_same(folder: Path, measured: str) -> None:
    study(folder, PARTS, settings=QUICK, launch=LOCAL, workers=2)
    assert (folder / "landscape.json").read_text() == measured


def test_what_was_measured_before_a_kill_is_taken(folder: Path, measured: str, quick: None) -> None:
    class Killed(Out):
        def submit(self, jobs: Sequence[Job]) -> None:
            attempt(jobs[0].folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(folder, PARTS, settings=QUICK, launch=Killed)
    assert len(list((folder / TASKS).glob(f"*/{RESULT}"))) == 1
    made: list[Out] = []

    def launch(site: LaunchSite) -> Out:
        made.append(Out(site))
        return made[-1]

    study(folder, PARTS, settings=QUICK, launch=launch)
    assert made[0].given == 3
    assert (folder / "landscape.json").read_text() == measured


def test_a_piece_that_fails_leaves_the_others(
    folder: Path, measured: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "_path", refuse)
        with pytest.raises(UserError, match=r"^1 piece could not .*Error: out of memory \(traceback"):
            study(folder, PARTS, settings=QUICK, launch=Out)
    kept = json.loads((folder / "landscape.json").read_text())
    assert [len(kept[part]) for part in PARTS] == [2, 0, 1]
    study(folder, PARTS, settings=QUICK, launch=Out)
    assert (folder / "landscape.json").read_text() == measured
    assert not (folder / TASKS).exists()


def test_a_task_that_is_damaged_is_told(tmp_path: Path) -> None:
    write_task(tmp_path / "task", Task("json:loads", {"s": '{"a": [1]}'}), 1)
    assert do_task(tmp_path / "task") == {"a": [1]}
    (tmp_path / "task" / "task.json").write_text('{"format": 4, "task": {"call": 3}}')
    with pytest.raises(UserError, match="is not a task of this version"):
        do_task(tmp_path / "task")
    write_task(tmp_path / "gone", Task("no.such_module:f", {}), 1)
    assert attempt(tmp_path / "gone")
    assert "there is no module 'no.such_module'" in (tmp_path / "gone" / ERROR).read_text()
    folder = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="needs a folder that all nodes share"):
        pieces.measure_task("sharpness", {"images": 64, "probes": 2}, [folder], None)


def test_the_launcher_is_given_no_source(folder: Path) -> None:
    """A factory of one's own sees that there is nothing to train."""
    seen: list[LaunchSite] = []

    class Mine:
        def __init__(self, site: LaunchSite) -> None:
            seen.append(site)

        def run(self, jobs: Sequence[Job], watch: object = None) -> Any:
            for job in jobs:
                prepare_all([job], seen[0])
                command = [sys.executable, "-m", "scaleinv", "run", str(job.folder), "--quiet", "--json"]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
                yield Finished(job, json.loads(done.stdout))

        def cancel(self) -> None:
            pass

    found = study(folder, ("walks",), settings=QUICK, launch=Mine)
    assert len(found["walks"]) == 1
    assert seen[0].source is None
    with pytest.raises(UserError, match="unknown launcher 'condor'"):
        study(folder, ("paths",), settings=QUICK, launch=Choice("condor"))


def test_a_task_whose_result_was_taken_is_not_made_again(tmp_path: Path) -> None:
    """Another job of the array may come to it late: before it looks, or while it waits for the lock."""
    place = tmp_path / "tasks" / "task"
    write_task(place, Task("json:loads", {"s": '{"a": 1}'}), 1)
    assert attempt(place)
    assert json.loads((place / RESULT).read_text())["a"] == 1
    take_away(place)
    array = tmp_path / "array.json"
    array.write_text(json.dumps([str(place)]))
    for late_comer in (TrainFolders([str(place)]), TrainFolders([], str(array))):
        late_comer()
        assert not place.exists()

    write_task(place, Task("json:loads", {"s": '{"a": 1}'}), 1)
    with ThreadPoolExecutor(1) as pool:
        with Lock(place):
            late = pool.submit(attempt, place)
            time.sleep(0.5)
            while place.exists():  # who waits for the lock makes its file again
                remove_tree(place)
        assert late.result(timeout=30)
    assert not place.exists()

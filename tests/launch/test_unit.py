"""A run folder is all that a run needs: ``scaleinv run FOLDER`` starts and restarts it anywhere."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests import often
from tests.launch import sweeps

from scaleinv import cli
from scaleinv.cli.actions import run_folder
from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.launch.base import Finished, Job
from scaleinv.lab.launch.choose import Choice, LaunchSite
from scaleinv.lab.launch.polled import Polled
from scaleinv.lab.launch.slurm import TrainFolders
from scaleinv.lab.launch.unit import attempt, prepare, train_folder
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start
from scaleinv.lab.train import RunEvent, Stopped, run
from scaleinv.runfolder.files import Lock
from scaleinv.runfolder.layout import ERROR, PROGRESS, RESULT
from scaleinv.runfolder.progress import Progress, read_progress

SETTINGS = Settings(subset=64, model="mlp", width=4, steps=24)
WEIGHTS = "checkpoints/step-000000024/weights.safetensors"


def job(folder: Path, elr: float = 0.1) -> Job:
    data = load_data(SETTINGS)
    return Job(resolve(SETTINGS, data, elr=elr, lr=None, seed=0, threads=1), folder, {})


def test_a_prepared_folder_trains_to_the_bits_of_a_plain_run(tmp_path: Path) -> None:
    one = job(tmp_path / "prepared")
    prepare(one)
    prepare(one)  # a second time does nothing
    calls = iter(range(100))
    with pytest.raises(Stopped, match="stopped at step 7 of 24"):
        train_folder(one.folder, stop=lambda: next(calls) == 6)  # asked after every step
    assert not (one.folder / RESULT).exists()
    assert train_folder(one.folder)["status"] == "finished"
    run(one.config, load_data(SETTINGS), tmp_path / "plain")
    assert (one.folder / WEIGHTS).read_bytes() == (tmp_path / "plain" / WEIGHTS).read_bytes()
    assert not (one.folder / PROGRESS).exists()


def test_a_prepared_folder_knows_the_weights_it_starts_from(tmp_path: Path) -> None:
    first = job(tmp_path / "first")
    prepare(first)
    train_folder(first.folder)
    start = find_start(first.folder)
    config = resolve(SETTINGS, load_data(SETTINGS), elr=0.2, lr=None, seed=0, threads=1, start=start.checksum)
    second = Job(config, tmp_path / "second", {}, start)
    prepare(second)
    assert train_folder(second.folder)["status"] == "finished"
    run(config, load_data(SETTINGS), tmp_path / "plain", start=start)
    assert (second.folder / WEIGHTS).read_bytes() == (tmp_path / "plain" / WEIGHTS).read_bytes()


def test_what_goes_wrong_out_of_sight_is_in_the_folder(tmp_path: Path) -> None:
    one = job(tmp_path / "run")
    prepare(one)
    (one.folder / "metrics").write_text("in the way")
    assert attempt(one.folder)
    assert (one.folder / ERROR).read_text().startswith("UserError: cannot write ")
    assert attempt(tmp_path / "nowhere") is True
    assert "has no config.json" in (tmp_path / "nowhere" / ERROR).read_text()


class Engine(Polled):
    """An engine in this process that loses its jobs: as many times as it was told to."""

    engine = "the engine"

    def __init__(self, losses: int) -> None:
        super().__init__(lambda jobs: [prepare(one) for one in jobs])  # type: ignore[func-returns-value]
        self.losses, self.starts = losses, 0

    def submit(self, jobs: Sequence[Job]) -> None:
        for one in jobs:
            self.starts += 1
            if self.starts > self.losses:
                attempt(one.folder)

    def held(self, jobs: Sequence[Job]) -> set[Path]:
        return set()


def test_a_lost_job_is_started_again_and_not_for_ever(tmp_path: Path, quick: None) -> None:
    engine = Engine(losses=2)
    seen: list[RunEvent] = []
    (finished,) = engine.run([job(tmp_path / "run")], lambda _, event: seen.append(event))
    assert (finished.result or {})["status"] == "finished"
    assert seen == [RunEvent("ended", 24, 24, 6, message="finished")]  # it was never looked at before
    assert engine.starts == 3
    (finished,) = Engine(losses=99).run([job(tmp_path / "other", 0.2)])
    assert finished.error == "the engine ended it 3 times without a result"


def test_a_job_that_came_further_is_not_given_up(tmp_path: Path, quick: None) -> None:
    """Ten losses, but a step further each time."""
    one = job(tmp_path / "run")

    class Slow(Engine):
        def submit(self, jobs: Sequence[Job]) -> None:
            self.starts += 1
            if self.starts > 10:
                attempt(one.folder)
            else:
                Progress(one.folder, 24).write(self.starts, 0)

    seen: list[RunEvent] = []
    (finished,) = Slow(0).run([one], lambda _, event: seen.append(event))
    assert finished.result is not None
    assert [event.step for event in seen][:10] == list(range(1, 11))


def test_why_jobs_wait_is_told_when_it_changes(tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    one = job(tmp_path / "run")
    said = iter(["no node", "a moment", "no node", "no node", "no node", "no CPU", "no CPU", "", "moment", "", "", ""])

    class Full(Engine):
        def held(self, jobs: Sequence[Job]) -> set[Path]:
            return {one.folder}

        def why_waiting(self, jobs: Sequence[Job]) -> str:
            why = next(said, None)
            if why is None:
                attempt(one.folder)
            return why or ""

    (finished,) = Full(99).run([one])
    assert finished.result is not None
    told = ["no node", "no CPU", "the engine can begin the runs again"]
    assert capsys.readouterr().err == "".join(f"scaleinv: {line}\n" for line in told)


def test_a_job_trains_what_no_other_of_its_array_is_at(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, 0.1 * k) for k, name in enumerate(("own", "ended", "failed", "held", "free"), 1)]
    for one in jobs:
        prepare(one)
    own, ended, failed, held, free = (one.folder for one in jobs)
    train_folder(ended)
    (failed / ERROR).write_text("UserError: as ever")
    before = (ended / RESULT).stat().st_mtime_ns
    array = tmp_path / "array.json"
    array.write_text(json.dumps([str(one.folder) for one in jobs]))
    with Lock(held):
        TrainFolders([str(own)], str(array))()
    assert [(folder / RESULT).exists() for folder in (own, ended, failed, held, free)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert (ended / RESULT).stat().st_mtime_ns == before
    assert (failed / ERROR).read_text() == "UserError: as ever"
    TrainFolders([str(own)], str(array))()
    assert (held / RESULT).exists()


def test_progress_says_how_far_a_run_is(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    progress = Progress(tmp_path, 100)
    progress.write(7, 1, {"loss": 0.5, "eg": float("nan")})
    progress.write(8, 1)  # too soon
    told = read_progress(tmp_path)
    assert told is not None
    assert (told.step, told.steps, told.epoch, told.pid, told.numbers) == (7, 100, 1, os.getpid(), {"loss": 0.5})
    (tmp_path / PROGRESS).write_text("{")
    assert read_progress(tmp_path) is None
    progress.remove()
    assert list(tmp_path.iterdir()) == []


class Mine:
    """A launcher of one's own: one job after the other, in this process."""

    def __init__(self, place: LaunchSite, note: str = "") -> None:
        self.note = note

    def run(self, jobs: Sequence[Job], watch: object = None) -> Iterator[Finished]:
        for one in jobs:
            prepare(one)
            yield Finished(one, train_folder(one.folder))

    def cancel(self) -> None:
        pass


def test_a_launcher_of_ones_own(tmp_path: Path) -> None:
    place = LaunchSite(tmp_path, load_data(SETTINGS), 1)
    launcher = Choice("tests.launch.test_unit:Mine", {"note": "hello"})(place)
    (finished,) = launcher.run([job(tmp_path / "run")], lambda *_: None)
    assert finished.result is not None
    with pytest.raises(UserError, match="does not take this"):
        Choice("tests.launch.test_unit:Mine", {"colour": "red"})(place)
    with pytest.raises(UserError, match="unknown launcher 'condor'"):
        Choice("condor")(place)


def test_a_folder_that_another_process_is_at_is_to_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = job(tmp_path / "run")
    prepare(one)
    monkeypatch.setattr(run_folder, "train_folder", functools.partial(train_folder, lock_wait=0.0))
    with Lock(one.folder):
        assert cli.run(["run", str(one.folder), "--quiet"]) == 75
    said = capsys.readouterr().err
    assert said == f"scaleinv: another process is working on {one.folder}; start it again when that has ended\n"
    assert cli.run(["run", str(one.folder), "--quiet"]) == 0


@pytest.mark.slow
def test_the_command_stops_in_time_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sweep"
    assert sweeps.within(sweeps.command(out, "--prepare", elr=(0.03,), epochs=2000)) == 0
    folder = capsys.readouterr().out.strip()
    one = [sys.executable, "-m", "scaleinv", "run", folder, "--quiet"]
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        process = subprocess.Popen(one, stderr=subprocess.PIPE, text=True, env=often.environment())
        newest = _steps(folder)
        end = time.monotonic() + 120
        while _steps(folder) == newest:
            assert time.monotonic() < end
            time.sleep(0.1)
        asked = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, "stopped at step" in errors) == (75, True), errors
        assert time.monotonic() - asked < 15
        told = int(errors.split("stopped at step ")[1].split()[0])
        assert max(_steps(folder)) == told
    assert sweeps.within([*one, "--time-limit", "0.02"]) == 75
    assert sweeps.within([*one, "--time-limit", "-1"]) == 2
    assert sweeps.within([*one[:4], str(tmp_path)]) == 2


def _steps(folder: str) -> set[int]:
    return {int(path.name[5:]) for path in Path(folder).glob("checkpoints/step-*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The sweep as this process trains it."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    assert sweeps.within(sweeps.command(out, "--workers", "1")) == 0
    return sweeps.bits(out)


@pytest.mark.slow
def test_folders_trained_one_by_one_make_the_sweep(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parts"
    assert sweeps.within(sweeps.command(out, "--prepare")) == 0
    folders = capsys.readouterr().out.split()
    assert len(folders) == len(sweeps.ELR)
    for folder in folders:
        assert cli.run(["run", folder, "--quiet", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert sweeps.within(sweeps.command(out)) == 0
    assert sweeps.bits(out) == whole


@pytest.mark.slow
def test_the_launcher_of_the_docs(tmp_path: Path, whole: dict[str, bytes], quick: None) -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "cluster.md").read_text("utf-8")
    (tmp_path / "mycluster.py").write_text(page.split("```python\n")[1].split("```")[0])
    out = tmp_path / "mine"
    assert sweeps.within(sweeps.command(out, "--launcher", f"{tmp_path}/mycluster.py:launcher")) == 0
    assert sweeps.bits(out) == whole

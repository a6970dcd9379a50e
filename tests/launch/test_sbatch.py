"""What is asked of Slurm: the scripts that an sbatch which takes everything was given."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.launch import slurm
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.unit import prepare
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.runfolder.layout import RESULT

pytest.importorskip("submitit")
SETTINGS = Settings(subset=64, model="mlp", width=4, steps=8)
#: numbers its jobs, and refuses the one after `most`
SBATCH = """#!/bin/sh
number=$(($(cat {here}/number) + 1))
echo $number > {here}/number
cp "$1" {here}/script-$number
[ $number -le $(cat {here}/most) ] || {{ echo "sbatch: error: Job violates limit" >&2; exit 1; }}
echo Submitted batch job $number
"""


@pytest.fixture(autouse=True)
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "bin"
    here.mkdir()
    (here / "number").write_text("0")
    (here / "most").write_text("99")
    (here / "sbatch").write_text(SBATCH.format(here=here))
    (here / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    return here


def made(out: Path, count: int, device: str = "cpu") -> list[Job]:
    data = load_data(SETTINGS)
    configs = [
        resolve(SETTINGS, data, elr=0.1 * k, lr=None, seed=0, threads=1, device=device) for k in range(1, count + 1)
    ]
    return [Job(config, out / "runs" / config.identity(), {}) for config in configs]


def write(jobs: Sequence[Job]) -> None:
    for job in jobs:
        prepare(job)


def submit(out: Path, count: int, device: str = "cpu", **arguments: object) -> None:
    slurm.Slurm(out, write, **arguments).submit(made(out, count, device))


@pytest.mark.parametrize(
    ("device", "arguments", "lines"),
    [
        ("cuda", {"gpus_per_node": 2}, ["#SBATCH --gpus-per-node=2"]),
        ("cuda", {}, ["#SBATCH --gpus-per-node=1"]),
        ("cuda", {"gres": "gpu:a100:1"}, ["#SBATCH --gres=gpu:a100:1"]),
        ("cpu", {}, []),
        ("cpu", {"exclusive": "true", "no_requeue": "true"}, ["#SBATCH --exclusive", "#SBATCH --no-requeue"]),
        ("cpu", {"time": 1}, ["#SBATCH --time=1", "#SBATCH --signal=USR2@20"]),
        ("cpu", {"time": 60}, ["#SBATCH --time=60", "#SBATCH --signal=USR2@90"]),
        ("cpu", {"nice": 5}, ["#SBATCH --requeue", "#SBATCH --nice=5"]),
        ("cpu", {"partition": "gpu", "qos": "high"}, ["#SBATCH --partition=gpu", "#SBATCH --qos=high"]),
    ],
)
def test_options_stand_in_the_script(
    tmp_path: Path, sbatch: Path, device: str, arguments: dict[str, object], lines: list[str]
) -> None:
    submit(tmp_path / "sweep", 1, device, **arguments)
    written = (sbatch / "script-1").read_text()
    for line in lines:
        assert f"{line}\n" in written
    assert ("gpus-per-node" in written) == any("gpus-per-node" in line for line in lines)


def test_more_runs_than_an_array_may_have_are_several(
    tmp_path: Path, sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "ELEMENTS", 3)
    submit(tmp_path / "sweep", 7, array_parallelism=6)
    scripts = [(sbatch / f"script-{k}").read_text() for k in (1, 2, 3)]
    assert ["#SBATCH --array=0-2%2\n" in text for text in scripts] == [True, True, False]
    jobs = json.loads((tmp_path / "sweep" / ".slurm" / "jobs.json").read_text())
    assert sorted(jobs.values()) == ["1_0", "1_1", "1_2", "2_0", "2_1", "2_2", "3"]
    (array,) = (tmp_path / "sweep" / ".slurm").glob("array-*.json")
    assert set(json.loads(array.read_text())) == set(jobs)


def test_a_job_whose_runs_are_trained_starts_no_python(tmp_path: Path, sbatch: Path) -> None:
    submit(tmp_path / "a sweep", 5, runs_per_job=2)
    (sbatch / "srun").write_text(f"#!/bin/sh\necho $SLURM_ARRAY_TASK_ID >> '{sbatch}/started'\n")
    (sbatch / "srun").chmod(0o755)
    (array,) = (tmp_path / "a sweep" / ".slurm").glob("array-*.json")
    folders = json.loads(array.read_text())
    for folder in (folders[0], folders[1], folders[2], folders[4]):
        Path(folder).mkdir(parents=True)
        (Path(folder) / RESULT).write_text("{}")
    for element in range(4):  # the last has no folders: nothing is known of it
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(element)}
        subprocess.run(["bash", str(sbatch / "script-1")], env=environment, check=True)
    assert (sbatch / "started").read_text().split() == ["1", "3"]


def test_what_was_taken_before_a_refusal_is_known(
    tmp_path: Path, sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "ELEMENTS", 2)
    (sbatch / "most").write_text("1")
    with pytest.raises(UserError, match="Slurm refuses the jobs: Job violates limit; mend --launcher-args"):
        submit(tmp_path / "sweep", 4)
    jobs = json.loads((tmp_path / "sweep" / ".slurm" / "jobs.json").read_text())
    assert sorted(jobs.values()) == ["1_0", "1_1"]


@pytest.mark.parametrize(("state", "asked"), [("RUNNING", "requeue 7_2"), ("COMPLETING", "")])
def test_a_job_that_was_cancelled_is_not_put_back(
    sbatch: Path, monkeypatch: pytest.MonkeyPatch, state: str, asked: str
) -> None:
    for name, line in (("squeue", f"echo {state}"), ("scontrol", f"echo $@ >> '{sbatch}/asked'")):
        (sbatch / name).write_text(f"#!/bin/sh\n{line}\n")
        (sbatch / name).chmod(0o755)
    for name, value in (("JOB_ID", "9"), ("ARRAY_JOB_ID", "7"), ("ARRAY_TASK_ID", "2")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    (sbatch / "asked").write_text("")
    slurm._requeue()
    assert (sbatch / "asked").read_text().strip() == asked


def test_where_no_controller_answers_the_arguments_are_not_blamed(tmp_path: Path, sbatch: Path) -> None:
    said = "sbatch: error: _establish_config_source: failed to fetch config"
    (sbatch / "sbatch").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    with pytest.raises(UserError, match="no Slurm controller answers this machine: _estab"):
        submit(tmp_path / "sweep", 1)


@pytest.mark.parametrize(
    ("queue", "told"),
    [
        ("1_0 R None", ""),
        ("1_0 PD None;1_1 PD None", ""),
        ("1_0 PD None;1_1 PD Priority", "jobs wait in Slurm: Priority"),
        ("1_0 PD Resources;1_1 PD Priority", "jobs wait in Slurm: Priority; Resources"),
        ("1_0 R None;1_1 PD Resources", ""),
        ("1_0 R None;1_1 PD PartitionDown", "jobs wait in Slurm: PartitionDown"),
        (
            "1_0 PD Nodes required for job are DOWN, DRAINED or reserved;9_9 R None",
            "jobs wait in Slurm: Nodes required for job are DOWN, DRAINED or reserved",
        ),
        (
            "1_0 R None;1_1 PD launch failed requeued held",
            "Slurm holds jobs 1_1 (launch failed requeued held): scontrol release 1_1 lets them go",
        ),
    ],
)
def test_why_jobs_wait_is_what_squeue_says(tmp_path: Path, sbatch: Path, queue: str, told: str) -> None:
    jobs = made(tmp_path / "sweep", 2)
    launcher = slurm.Slurm(tmp_path / "sweep", write)
    launcher.submit(jobs)
    lines = queue.replace(";", "\n")
    (sbatch / "squeue").write_text(f"#!/bin/sh\necho '{lines}'\n")
    (sbatch / "squeue").chmod(0o755)
    launcher.held(jobs)
    assert launcher.why_waiting(jobs) == told
    if "1_0 R" in queue:  # its own run has ended, and it goes on with the others
        assert launcher.why_waiting(jobs[1:]) == told

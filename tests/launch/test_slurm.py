"""Sweeps through a real Slurm controller: the same bits as on one machine, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.launch import slurm_cluster, sweeps
from tests.launch.slurm_cluster import SlurmCluster

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("often"),
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "there is a cluster"),
]
LONG = 150  # epochs: a second or more a run, of which the third begins when another has ended


@pytest.fixture(scope="module")
def cluster(often: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    made = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def here(often: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The sweep as this process trains it."""
    out = tmp_path_factory.mktemp("here") / "sweep"
    assert sweeps.within(sweeps.command(out, "--workers", "1", epochs=LONG)) == 0
    return sweeps.bits(out)


def hear_interrupts() -> None:
    """A shell's background job ignores SIGINT and so do its children: where these tests run as one, Ctrl-C is lost."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def launched(
    cluster: SlurmCluster,
    out: Path,
    *more: str,
    elr: tuple[float, ...] = sweeps.ELR,
    epochs: int = LONG,
    minutes: int = 10,
) -> subprocess.Popen[str]:
    flags = ("--launcher", "slurm", "--launcher-args", f"time={minutes}", *more)
    words = sweeps.command(out, *flags, elr=elr, epochs=epochs)
    return subprocess.Popen(
        words,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )


def in_training(cluster: SlurmCluster, out: Path, **options: Any) -> subprocess.Popen[str]:
    """A sweep of which a run has written its first checkpoint."""
    process = launched(cluster, out, **options)
    cluster.wait_for("a run trains", lambda: any(out.glob("runs/*/checkpoints/step-*")), 120)
    return process


def test_the_bits_are_those_of_one_machine_after_a_cancelled_job(
    cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path
) -> None:
    process = in_training(cluster, tmp_path / "sweep")
    cluster.ask("scancel", "--me")
    sweeps.ends(process)
    assert sweeps.bits(tmp_path / "sweep") == here


@pytest.mark.nightly
def test_a_job_out_of_time_goes_on_under_its_number(
    cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    process = in_training(cluster, out)
    running = cluster.ask("squeue", "--me", "--noheader", "--array", "--states=R", "--format=%i").split()
    for number in running:
        cluster.ask("scancel", "--signal=USR2", number)  # what Slurm sends before the end of the time
    sweeps.ends(process)
    assert sweeps.bits(out) == here
    numbers = set(json.loads((out / ".slurm" / "jobs.json").read_text()).values())
    assert set(running) <= numbers


@pytest.mark.nightly
def test_a_run_longer_than_the_time_of_its_jobs(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Slurm itself warns each job before its minute is over: it goes back into the queue under its number."""
    whole, out = tmp_path / "whole", tmp_path / "sweep"
    elr = sweeps.ELR[:1]
    assert sweeps.run(sweeps.command(tmp_path / "pace", elr=elr, epochs=LONG)).returncode == 0
    (result,) = (tmp_path / "pace").glob("runs/*/result.json")
    epochs = round(LONG * 100 / json.loads(result.read_text())["timing"]["seconds"])
    process = launched(cluster, out, elr=elr, epochs=epochs, minutes=1)
    assert sweeps.run(sweeps.command(whole, elr=elr, epochs=epochs)).returncode == 0
    sweeps.ends(process)
    assert sweeps.bits(out) == sweeps.bits(whole)
    (number,) = json.loads((out / ".slurm" / "jobs.json").read_text()).values()
    (log,) = (out / ".slurm").glob("*_log.out")
    assert log.name.startswith(f"{number}_")
    assert log.read_text().count("Starting with") > 1  # times it was started


@pytest.mark.nightly
def test_a_preempted_job_goes_back_into_the_queue_by_itself(cluster: SlurmCluster, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "sweep"
    longer: dict[str, Any] = {"elr": sweeps.ELR[:2], "epochs": 8 * LONG}  # they train until Slurm has made up its mind
    assert sweeps.run(sweeps.command(whole, **longer)).returncode == 0
    process = in_training(cluster, out, **longer)
    process.send_signal(signal.SIGINT)  # nobody is there to submit it again
    process.communicate(timeout=60)
    before = (out / ".slurm" / "jobs.json").read_text()
    number = cluster.ask("squeue", "--me", "--noheader", "--array", "--states=R", "--format=%i").split()[0]
    quick = ("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    cluster.ask(*quick)
    state = ("squeue", "--noheader", f"--jobs={number}", "--format=%t")
    cluster.wait_for("it is in the queue, long before its grace is over", lambda: "PD" in cluster.ask(*state), 30)
    sweeps.ends(launched(cluster, out, **longer))
    assert (out / ".slurm" / "jobs.json").read_text() == before  # nothing was submitted again
    assert sweeps.bits(out) == sweeps.bits(whole)


def test_a_dead_node_loses_nothing(cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path) -> None:
    process = in_training(cluster, tmp_path / "sweep")
    cluster.kill_node()
    cluster.give_node_up()
    cluster.start_node()
    sweeps.ends(process)
    assert sweeps.bits(tmp_path / "sweep") == here


@pytest.mark.nightly
def test_a_partition_that_is_down_is_told(cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    cluster.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        process = launched(cluster, out)
        assert process.stderr is not None
        assert process.stderr.readline() == "scaleinv: jobs wait in Slurm: PartitionDown\n"
        cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
        assert process.stderr.readline() == "scaleinv: Slurm can begin the runs again\n"
    finally:
        cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
    sweeps.ends(process)
    assert sweeps.bits(out) == here


@pytest.mark.nightly
def test_jobs_that_are_held_are_told(cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    cluster.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        process = launched(cluster, out)
        ours = ("squeue", "--me", "--noheader", "--format=%F")
        cluster.wait_for("the jobs are there", lambda: cluster.ask(*ours), 120)
        number = cluster.ask(*ours).split()[0]
        cluster.ask("scontrol", "hold", number)
        cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
        assert process.stderr is not None
        told = next(line for line in process.stderr if "holds" in line)
        held = ",".join(f"{number}_{k}" for k in range(3))
        assert told == f"scaleinv: Slurm holds jobs {held} (JobHeldAdmin): scontrol release {held} lets them go\n"
        cluster.ask("scontrol", "release", held)
    finally:
        cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
    sweeps.ends(process)
    assert sweeps.bits(out) == here


def test_a_killed_driver_comes_back_to_its_jobs(cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    process = in_training(cluster, out)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = (out / ".slurm" / "jobs.json").read_text()
    sweeps.ends(launched(cluster, out))
    assert (out / ".slurm" / "jobs.json").read_text() == before  # nothing was submitted twice
    assert sweeps.bits(out) == here


def test_cancel_ends_the_jobs_and_the_same_command_goes_on(
    cluster: SlurmCluster, here: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    process = in_training(cluster, out)
    process.send_signal(signal.SIGINT)  # Ctrl-C leaves the jobs where they are
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--cancel" in errors
    assert cluster.ask("squeue", "--me", "--noheader")
    told, _ = sweeps.ends(launched(cluster, out, "--cancel"))
    assert "cancelled" in told
    cluster.wait_for("no job is left", lambda: not cluster.ask("squeue", "--me", "--noheader"))
    time.sleep(2)
    assert not cluster.ask("squeue", "--me", "--noheader")  # none has put itself back into the queue
    sweeps.ends(launched(cluster, out))
    assert sweeps.bits(out) == here


@pytest.mark.nightly
def test_a_job_goes_on_with_what_the_others_of_its_array_have_not_begun(cluster: SlurmCluster, tmp_path: Path) -> None:
    """So that the runs of a sweep cost no more starts of Python than there are places."""
    rates = tuple(round(1e-3 * 2.0**k, 6) for k in range(6))
    whole, out = tmp_path / "whole", tmp_path / "sweep"
    assert sweeps.run(sweeps.command(whole, elr=rates, epochs=60)).returncode == 0
    more = ("--launcher", "slurm", "--launcher-args", "time=10")
    done = sweeps.run(sweeps.command(out, *more, elr=rates, epochs=60), SLURM_CONF=str(cluster.conf))
    assert done.returncode == 0, done.stderr
    assert sweeps.bits(out) == sweeps.bits(whole)
    assert len(list((out / ".slurm").glob("*_log.out"))) < 6
    cluster.wait_for("no job is left", lambda: not cluster.ask("squeue", "--me", "--noheader"))


def _numbers(told: str) -> list[dict[str, object]]:
    """What claims found, without the time they took."""
    return [{k: v for k, v in one.items() if k not in ("seconds", "cached")} for one in json.loads(told)["claims"]]


@pytest.mark.nightly
def test_verify_trains_its_runs_there(cluster: SlurmCluster, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "scaleinv", "verify", "--only", "equal-product", "--scale", "digits", "--json"]
    here = sweeps.run([*words, "--quiet", "--cache", str(tmp_path / "here")])
    cache = tmp_path / "there"
    more = ("--quiet", "--cache", str(cache), "--launcher", "slurm", "--launcher-args", "time=10")
    there = sweeps.run([*words, *more], SLURM_CONF=str(cluster.conf))
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert _numbers(there.stdout) == _numbers(here.stdout)
    jobs = json.loads((cache / "runs" / ".slurm" / "jobs.json").read_text())
    assert {Path(folder).name for folder in jobs} == {path.parent.name for path in cache.glob("runs/*/result.json")}
    cancelled = sweeps.run([*words, *more, "--cancel"], SLURM_CONF=str(cluster.conf))
    said = "0 jobs cancelled; Slurm has none of them any more\n"
    assert (cancelled.returncode, cancelled.stdout) == (0, said)


@pytest.mark.nightly
def test_reproduce_trains_its_runs_there(cluster: SlurmCluster, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "scaleinv", "reproduce", "fig6-right", "--scale", "digits", "--format", "svg"]
    words += ["--quiet", "--runs", str(tmp_path / "runs")]
    more = ("--launcher", "slurm", "--launcher-args", "time=10,runs_per_job=2")
    there = sweeps.run([*words, "--out", str(tmp_path / "there"), *more], SLURM_CONF=str(cluster.conf))
    assert there.returncode == 0, there.stderr
    jobs = json.loads((tmp_path / "runs" / ".slurm" / "jobs.json").read_text())
    assert {Path(folder).name for folder in jobs} == {
        path.parent.name for path in (tmp_path / "runs").glob("*/result.json")
    }
    here = sweeps.run([*words, "--out", str(tmp_path / "here")])  # the runs are there: nothing is trained
    assert here.returncode == 0, here.stderr
    numbers = [(tmp_path / name / "fig6-right-digits.json").read_text() for name in ("there", "here")]
    assert numbers[0] == numbers[1]


@pytest.mark.nightly
def test_landscape_is_measured_there(cluster: SlurmCluster, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    assert sweeps.run(sweeps.command(out, epochs=2)).returncode == 0
    words = [sys.executable, "-m", "scaleinv", "landscape", str(out), "--images", "64", "--quiet"]
    more = ("--launcher", "slurm", "--launcher-args", "time=10,runs_per_job=3")
    there = sweeps.run([*words, *more], SLURM_CONF=str(cluster.conf))
    assert there.returncode == 0, there.stderr
    measured = (out / "landscape.json").read_text()
    assert len(json.loads((out / ".slurm" / "jobs.json").read_text())) == 5  # three ends, two paths
    assert not (out / ".landscape").exists()
    (out / "landscape.json").unlink()
    assert sweeps.run(words, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1").returncode == 0
    assert (out / "landscape.json").read_text() == measured


def test_forty_runs_through_two_slots_and_one_that_fails(
    cluster: SlurmCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rates = tmp_path / "sweep", tuple(round(1e-3 * 1.2**k, 6) for k in range(40))
    assert sweeps.within(sweeps.command(out, "--prepare", elr=rates, epochs=1)) == 0
    prepared = capsys.readouterr().out.split()
    assert len(prepared) == 40
    (Path(prepared[3]) / "metrics").write_text("in the way")
    more = ("--launcher", "slurm", "--launcher-args", "time=10,runs_per_job=10,array_parallelism=2")
    done = sweeps.run(sweeps.command(out, *more, elr=rates, epochs=1), SLURM_CONF=str(cluster.conf))
    assert done.returncode == 1, done.stderr
    assert sweeps.results(out) == ["finished"] * 39
    failed = [row for row in json.loads((out / "sweep.json").read_text())["runs"] if row["status"] == "failed"]
    assert [row["run"] for row in failed] == [Path(prepared[3]).name]
    assert "cannot write" in failed[0]["evidence"]["reason"]


@pytest.mark.skipif(slurm_cluster.cannot_hide(), reason="no mount namespaces here: nodes cannot be given another disk")
def test_nodes_that_do_not_share_the_folder_are_told(cluster: SlurmCluster, tmp_path: Path) -> None:
    cluster.kill_node()
    cluster.start_node(hidden=tmp_path)
    try:
        more = ("--launcher", "slurm", "--launcher-args", "time=10")
        done = sweeps.run(sweeps.command(tmp_path / "sweep", *more, epochs=1), SLURM_CONF=str(cluster.conf))
    finally:
        cluster.kill_node()
        cluster.start_node()
    assert done.returncode == 2, done.stderr
    *waited, said = done.stderr.strip().splitlines()
    assert f"the nodes do not see {tmp_path / 'sweep' / '.slurm'}: 3 jobs have left nothing there" in said
    assert all(line.startswith("scaleinv: ") for line in waited)  # why jobs wait: asked often, it is told soon


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("partition=nowhere", "Slurm refuses the jobs: "),
        ("time=soon", "--launcher-args time=soon: must be a whole number"),
        ("colour", "--launcher-args colour: give name=value pairs"),
    ],
)
def test_what_slurm_refuses_is_told_in_one_line(
    cluster: SlurmCluster,
    tmp_path: Path,
    arguments: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    more = ("--launcher", "slurm", "--launcher-args", arguments)
    assert sweeps.within(sweeps.command(tmp_path / "sweep", *more, epochs=1)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_without_sbatch_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert sweeps.within(sweeps.command(tmp_path / "sweep", "--launcher", "slurm", epochs=1)) == 2
    assert "sbatch is not found" in capsys.readouterr().err

"""What cannot be launched: one line that says why and what to do, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

from scaleinv.cli import run
from scaleinv.cli.landscape import LandscapeCommand
from scaleinv.cli.parse import parse
from scaleinv.cli.reproduce import ReproduceCommand
from scaleinv.cli.sweep import SweepCommand
from scaleinv.cli.verify import VerifyCommand
from scaleinv.errors import UserError
from scaleinv.runfolder.seal import read_object

SWEEP = (
    "sweep",
    "--data",
    "digits",
    "--subset",
    "64",
    "--model",
    "mlp",
    "--width",
    "4",
    "--elr",
    "0.1",
    "--epochs",
    "1",
)


def refused(capsys: pytest.CaptureFixture[str], out: Path, *more: str) -> str:
    """What is said; a single line and exit code 2, and no run has begun."""
    assert run([*SWEEP, "--quiet", "--out", str(out), *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert not list(out.glob("runs/*/checkpoints/*"))
    return line


@pytest.mark.parametrize(
    ("launcher", "arguments", "words"),
    [
        ("slurn", "", "unknown launcher 'slurn' (did you mean slurm?)"),
        (
            "condor",
            "",
            "unknown launcher 'condor'; choose one of: processes, slurm, ray, or give PACKAGE.MODULE:F",
        ),
        ("processes", "gpus=1", "--launcher-args gpus=1: the launcher processes takes none; it has --workers"),
        ("ray", "gpus", "--launcher-args gpus: give name=value pairs"),
        ("ray", "colour=red", "--launcher-args colour=red: the launcher ray does not take this"),
        ("no.such:factory", "", "there is no module 'no.such'"),
        ("json:nothing", "", "json has no 'nothing'"),
        ("json:__name__", "", "the launcher json:__name__ is not something that can be called"),
    ],
)
def test_launchers_that_do_not_exist(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, launcher: str, arguments: str, words: str
) -> None:
    more = ("--launcher-args", arguments) if arguments else ()
    assert words in refused(capsys, tmp_path / "sweep", "--launcher", launcher, *more)


@pytest.mark.parametrize(("name", "module"), [("slurm", "submitit"), ("ray", "ray")])
def test_what_is_not_installed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(capsys, tmp_path / "sweep", "--launcher", name)
    assert f"the launcher {name} needs {module}, which is missing: " in line
    assert f"pip install '.[{name}]'" in line or f"[{name}]" in line


def test_no_slurm_here(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch is not found" in refused(capsys, tmp_path / "sweep", "--launcher", "slurm")


def test_what_slurm_says(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    for name, text in {
        "sbatch": "echo 'sbatch: error: invalid partition specified: moon' >&2; exit 1",
        "squeue": "exit 0",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    more = ("--launcher", "slurm", "--launcher-args", "partition=moon")
    assert "Slurm refuses the jobs: invalid partition specified: moon; mend --launcher-args" in refused(
        capsys, tmp_path / "sweep", *more
    )
    for name in ("time=soon", "runs_per_job=0", "array_parallelism=x"):
        said = refused(capsys, tmp_path / "sweep", "--launcher", "slurm", "--launcher-args", name)
        assert f"--launcher-args {name}: must be a whole number, at least 1" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_runs_on_gpus_are_prepared_where_there_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As on the machine that one types on: the nodes have them."""
    pytest.importorskip("submitit")
    out = tmp_path / "sweep"
    words = ("--launcher", "slurm", "--launcher-args", "gpus_per_node=1", "--prepare")
    assert run([*SWEEP, "--quiet", "--out", str(out), *words]) == 0
    (folder,) = capsys.readouterr().out.split()
    assert read_object(Path(folder) / "config.json")["config"]["device"] == "cuda"


def test_no_ray_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as held:
        free = held.getsockname()[1]
    for address in (f"127.0.0.1:{free}", "no-such-host.invalid:6379"):
        said = refused(capsys, tmp_path / "sweep", "--launcher", "ray", "--launcher-args", f"address={address}")
        assert f"no Ray cluster answers at {address}: " in said
        assert "start one, or leave address= out" in said


def test_what_has_no_jobs_to_cancel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("processes", "ray"):
        said = refused(capsys, tmp_path / "sweep", "--launcher", name, "--cancel")
        assert f"--cancel: the launcher {name} has no jobs that outlive its command" in said


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (SweepCommand, ["--elr", "0.1"]),
        (LandscapeCommand, ["folder"]),
        (VerifyCommand, []),
        (ReproduceCommand, ["fig2"]),
    ],
)
def test_every_command_with_launchers_checks_them_at_once(kind: type, words: list[str]) -> None:
    command = parse(kind, [*words, "--launcher", "slurm", "--launcher-args", "time=5,partition=gpu", "--cancel"])
    assert (command.launcher, command.launcher_args, command.cancel) == ("slurm", "time=5,partition=gpu", True)
    with pytest.raises(UserError, match="unknown launcher 'slurn'"):
        parse(kind, [*words, "--launcher", "slurn"])
    with pytest.raises(UserError, match="the launcher processes takes none"):
        parse(kind, [*words, "--launcher-args", "time=5"])

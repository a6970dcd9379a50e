"""The command line as a whole: overview, unknown commands, missing extras, exit codes."""

from __future__ import annotations

import builtins
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scaleinv
from scaleinv import __version__, cli
from scaleinv.cli.parse import one_line


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in cli.COMMANDS)
    assert max(map(len, said.splitlines())) <= 80
    assert cli.run([]) == 2
    capsys.readouterr()
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"scaleinv {__version__}\n"


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["swep"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(
        "scaleinv: unknown command 'swep', did you mean 'sweep'?; choose one of: demo, sweep, train, "
    )
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["sweep", "train", "report", "data"])
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.run([name, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: scaleinv {name}" in said
    assert "{None}" not in said  # a flag that may be left out takes an INT, not a {None}|INT


def test_the_frame_of_a_message_is_dropped() -> None:
    framed = (
        "╭─ Title ───╮\n│ What is \x1b[1mwrong\x1b[0m,  │\n│   and where. │\n│ ──────── │\n│ For help │\n╰─────────╯\n"
    )
    plain = " Title    \n ---------- \n  What is wrong,\n    and where. \n  --------\n  For help\n"
    assert one_line(framed) == one_line(plain) == "What is wrong, and where"
    assert one_line("") == "the arguments are not understood"
    assert one_line("a line\nanother\n") == "a line another"


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_flag_that_is_missing(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.run(["run"]) == 2
    assert capsys.readouterr() == (
        "",
        "scaleinv: Missing from scaleinv run: FOLDER The folder of a run, with its config.json. (required); "
        "see scaleinv run --help\n",
    )


@pytest.mark.parametrize(("command", "extra"), [("sweep", "lab"), ("train", "lab"), ("report", "report")])
@pytest.mark.parametrize("absent", ["tyro", "pyarrow", "rich", "safetensors"])
def test_a_missing_extra_is_told_in_one_line(
    command: str,
    extra: str,
    absent: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if command == "report" and absent in ("rich", "safetensors"):
        pytest.skip("report does not need it")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in (absent, "scaleinv")}
    for name in before:
        if name not in ("scaleinv", "scaleinv.cli", "scaleinv.errors"):
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == absent:
            raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    arguments = [str(tmp_path)] if command == "report" else ["--elr", "0.1,1", "--out", str(tmp_path / "x")]
    if command == "train":
        arguments[1] = "0.1"
    if command == "report":
        (tmp_path / "config.json").write_text('{"format": 3, "config": {"data": "digits"}}')
        (tmp_path / "metrics").mkdir()
        (tmp_path / "metrics" / "part-final.parquet").write_bytes(b"")
    try:
        assert cli.run([command, *arguments]) == 2
    finally:
        monkeypatch.undo()
        for name in [name for name in sys.modules if name.startswith("scaleinv.") and name not in before]:
            del sys.modules[name]
        sys.modules.update(before)
        for name, module in before.items():  # a second import has put its modules into their packages
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
    out, error = capsys.readouterr()
    assert out == ""
    assert error == (
        f"scaleinv: `scaleinv {command}` needs {absent}, which is not installed: pip install {absent} "
        f"(or, in a clone, all of its kind: pip install '.[{extra}]')\n"
    )
    assert not (tmp_path / "x").exists()


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of ours that is missing is no missing extra."""

    def broken(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError("No module named 'scaleinv.lab.nothing'", name="scaleinv.lab.nothing")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        cli.run(["train", "--elr", "1", "--out", "x"])


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    from scaleinv.cli.actions import train

    monkeypatch.setattr(train, "run", interrupted)
    assert cli.run(["train", "--elr", "1", "--out", str(tmp_path / "x")]) == 130
    assert capsys.readouterr().err == "scaleinv: interrupted; the same command resumes where `train` stopped\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.run(
        f"{sys.executable} -m scaleinv --help | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert process.stdout == "0\n"
    assert process.stderr == ""


def test_the_current_directory_is_importable_where_a_command_loads_a_module_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\nnet = nn.Linear(2, 2)\n")
    code = (
        "import os, sys; from scaleinv import cli; cli.run(['nothing']); cli.run(['data', 'fetch']); "
        "assert os.getcwd() not in sys.path; from scaleinv.symmetry.inputs import load_model; "
        "print(load_model('mine:net').in_features, os.getcwd() in sys.path)"
    )
    safe = ["-P"] if sys.version_info >= (3, 11) else []  # without it python -c itself adds the directory
    package = Path(scaleinv.__file__).parents[1]  # PYTHONPATH may be relative to where the tests run
    done = subprocess.run(
        [sys.executable, *safe, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "2 False\n", done.stderr

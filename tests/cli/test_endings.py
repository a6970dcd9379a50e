"""However a command ends, it is one line and an exit code: full and closed streams, no memory, odd settings."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scaleinv import cli
from scaleinv.cli.parse import check_at_least, parse
from scaleinv.cli.train import TrainCommand
from scaleinv.errors import StateError, UserError
from scaleinv.runfolder.threads import check_openmp, cores


def shell(line: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Run a line in which S is the command; its code, and what it said on either stream."""
    line = line.replace("S ", f"{sys.executable} -m scaleinv ")
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stderr + done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_or_closed_stdout_is_told(unbuffered: str, tmp_path: Path) -> None:
    full = "scaleinv: cannot write the answer: No space left on device\n"
    assert shell("S reproduce --list >/dev/full", tmp_path, PYTHONUNBUFFERED=unbuffered) == (2, full)
    code, said = shell("S data >&-", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (code, said) == (2, "scaleinv: standard output is closed; send it to a file, or to /dev/null\n")


@pytest.mark.parametrize("line", ["data --help", "--help", "--version", "doctor --help"])
def test_help_to_a_full_disk(line: str, tmp_path: Path) -> None:
    assert shell(f"S {line} >/dev/full", tmp_path)[0] == 2


def test_a_reader_that_has_left_is_no_error(tmp_path: Path) -> None:
    for line in ("reproduce --list", "demo"):  # by print, and by rich
        assert shell(f"S {line} | true; exit ${{PIPESTATUS[0]}}", tmp_path) == (0, "")


def test_without_a_stderr_the_answer_is_the_same(tmp_path: Path) -> None:
    assert shell("S --version 2>&-", tmp_path)[0] == 0
    assert shell("S nothing 2>/dev/full", tmp_path) == (2, "")
    assert shell("S nothing 2>&-", tmp_path) == (2, "")
    assert shell("S --version <&-", tmp_path)[0] == 0


def test_the_current_folder_is_gone(tmp_path: Path) -> None:
    for line in ("data", "doctor x.py:make --input 3", "train --elr 1"):
        code, said = shell(f"mkdir -p gone; cd gone; rmdir ../gone; S {line}", tmp_path)
        assert (code, said) == (2, "scaleinv: the current folder is gone; change into one that is there\n")


def test_a_terminal_without_the_characters_gets_their_codes(tmp_path: Path) -> None:
    code, said = shell("S demo", tmp_path, PYTHONIOENCODING="ascii")
    assert code == 0
    assert said.isascii()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (StateError("the gradient is not finite"), 2, "the gradient is not finite; the weights are as they were"),
        (MemoryError(), 2, "there is not enough memory; take a smaller model"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried\nmore"),
            2,
            "not enough memory",
        ),
        (RecursionError("maximum recursion depth exceeded"), 2, "deeper within itself than Python's stack"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "cannot use a/b: No space left on device"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a\x1b[2J\u202e"), 2, r"a\x1b[2J\u202e: File name too long"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "the system refuses: Broken pipe"),  # a worker's, not stdout's
        (KeyboardInterrupt(), 130, "interrupted; the same command resumes where `data` stopped"),
        (UserError("a\nb \x07"), 2, r"scaleinv: a b \x07"),
        (
            ModuleNotFoundError("no", name="pyarrow.parquet"),
            2,
            "`scaleinv data` needs pyarrow.parquet, which is not",
        ),
    ],
)
def test_every_end_is_a_line(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: Any) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.run(["data"]) == code
    out, said = capsys.readouterr()
    assert out == ""
    assert line in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError("a bug"), ModuleNotFoundError("x", name="scaleinv.x")])
def test_a_bug_keeps_its_traceback(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: Any) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    with pytest.raises(type(error)):
        cli.run(["data"])


@pytest.mark.parametrize(
    ("threads", "settings", "named"),
    [
        (4, {"OMP_THREAD_LIMIT": "1"}, "OMP_THREAD_LIMIT=1"),
        (2, {"OMP_DYNAMIC": " TRUE "}, "OMP_DYNAMIC"),
        (2, {"OMP_MAX_ACTIVE_LEVELS": "0"}, "OMP_MAX_ACTIVE_LEVELS=0"),
        (None, {"OMP_NUM_THREADS": "8,2", "OMP_THREAD_LIMIT": "7"}, "fewer than the 8 threads"),
        (1, {"OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true", "OMP_MAX_ACTIVE_LEVELS": "0"}, ""),
        (None, {"OMP_NUM_THREADS": "1", "OMP_DYNAMIC": "true"}, ""),
        (4, {"OMP_THREAD_LIMIT": "4", "OMP_DYNAMIC": "false", "OMP_MAX_ACTIVE_LEVELS": "1"}, ""),
        (4, {"OMP_THREAD_LIMIT": "none", "OMP_DYNAMIC": "", "OMP_MAX_ACTIVE_LEVELS": "x"}, ""),
    ],
)
def test_settings_that_hang_torch(threads: int | None, settings: Mapping[str, str], named: str) -> None:
    if not named:
        check_openmp(threads, settings)
        return
    with pytest.raises(UserError, match=named):
        check_openmp(threads, settings)


def test_they_are_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    told = shell("S data", tmp_path, OMP_NUM_THREADS="2", OMP_DYNAMIC="true")
    assert told[0] == 2
    assert "OMP_DYNAMIC=true gives torch fewer than the 2 threads" in told[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--threads 100000", "--threads 100000: must be at most 1024"),
        (f"--threads {cores() + 1}", f"--threads {cores() + 1}: this process has"),
        ("--seed " + "9" * 40, "is not a whole number from 0 to"),
        ("--seed -1", "--seed -1 is not"),
        ("--seed " + "9" * 5000, "is not a whole number"),
        ("--epochs 1e40", "'1e40' is not a whole number"),
        ("--epochs " + "9" * 40, "is not a positive whole number up to 1e12"),
        ("--steps " + "9" * 13, "is not a positive whole number up to 1e12"),
        (f"--width {2**31}", "width 2147483648 is not a positive number of channels up to"),
        (f"--batch-size {2**31}", "batch-size 2147483648 is not at least 2"),
        ("--norm 1e300", "norm 1e+300 is not"),
        ("--head-norm 1e300", "head-norm 1e+300 is not"),
        ("--other-lr 1e300", "other-lr 1e+300 is not"),
        ("--eval-every " + "9" * 40, "is not a positive number of epochs"),
        ("--warmup " + "9" * 40, "is not a number of steps"),
        ("--schedule step:1e300@0.5,0.75", "1e300 is not a number from 0 to 1e+30"),
        ("--schedule step:1e20@0.5,0.75", "1e+20 to the power of 2 is above"),
        ("--out " + "a" * 300, "has a name of 300 bytes"),
        ("--out " + "a/" * 3000, "a path has at most 4095"),
        ("--out a\udce9", "is not UTF-8"),
        ("--data-dir a\udce9", "is not UTF-8"),
        ("--problem x\udce9.py:f", "is not UTF-8"),
    ],
)
def test_numbers_and_names_have_bounds(line: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse(TrainCommand, ["--elr", "1", *line.split()])


def test_more_threads_than_cores_where_one_insists() -> None:
    line = ["--elr", "1", "--threads", str(cores() + 1), "--oversubscribe"]
    assert parse(TrainCommand, line).threads == cores() + 1


def test_counts_have_both_bounds() -> None:
    check_at_least(1, 3, seeds=3, workers=None)
    with pytest.raises(UserError, match="--walk-seeds 4: must be at most 3"):
        check_at_least(1, 3, walk_seeds=4)

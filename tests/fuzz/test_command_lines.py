"""No command line ends in a traceback, hangs, or leaves half a file: 200 at random, 20 of them as real commands."""

from __future__ import annotations

import itertools
import os
import sys
import time
import warnings
from pathlib import Path

import command_lines
import pytest
import trial
from grammar import GOOD, flags_of
from trial import forked, preload, real
from world import build

from scaleinv.cli import COMMANDS


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    preload()
    return tmp_path_factory.mktemp("fuzz")


def test_the_grammar_is_that_of_the_parser() -> None:
    """Every command has its flags from the parser, with their kinds."""
    flags = {command: {flag.name: flag for flag in flags_of(command)} for command in COMMANDS}
    assert all(flags[name] or name in ("demo",) for name in COMMANDS)
    assert flags["train"]["--epochs"].takes == "INT"
    assert flags["train"]["--out"].takes == "PATH"
    assert flags["train"]["--gradient"].choices == ("batch", "full", "accumulate")
    assert flags["train"]["--json"].takes == ""
    assert flags["periods"][""].takes
    assert set(GOOD) <= set(COMMANDS)


@pytest.mark.slow
def test_lines_at_random(scratch: Path) -> None:
    ended = command_lines.tried(200, 24, forked, scratch)
    assert len(ended) >= 150
    assert [one.told() for one in ended if one.faults] == []
    codes = {one.code for one in ended}
    assert {0, 2} <= codes  # some are right: the rest is refused for a reason, not all for one


@pytest.mark.slow
def test_lines_at_random_as_real_commands(scratch: Path) -> None:
    ended = command_lines.tried(20, 25, real, scratch)
    assert [one.told() for one in ended if one.faults] == []


@pytest.mark.nightly
def test_two_thousand_lines(scratch: Path) -> None:
    counts, wrong = command_lines.figures(1.0, 0)
    assert wrong == []
    assert counts["lines"] >= 1500


def _crash() -> int:
    raise KeyError("a bug")


def _sleep() -> int:
    time.sleep(60)
    return 0


def _half() -> int:
    Path("new.json").write_text('{"a": ')
    Path(".x.part").write_text("")
    Path("error.txt").write_text("Traceback (most recent call last): a worker's")
    sys.stdout.write("\x1b[2J")
    return 2


@pytest.mark.parametrize(
    ("child", "faults"),
    [
        (_crash, ["exit code 98"]),
        (_sleep, ["no end within 0.3 s"]),
        (_half, ["without a line", "control characters", "cut short", "left .x.part", "a worker's traceback"]),
    ],
)
def test_a_trial_finds_what_it_looks_for(child, faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The judge is one that can say no."""
    monkeypatch.setattr(trial, "LIMIT", 0.3 if child is _sleep else 20.0)
    world = tmp_path / "world"
    world.mkdir()
    found = trial._tried(["x"], world, tmp_path / "trial", child).faults
    assert all(any(fault in one for one in found) for fault in faults), found


def test_a_judge_that_was_halted_finds_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = time.monotonic, itertools.count()
    monkeypatch.setattr(trial, "LIMIT", 5.0)
    monkeypatch.setattr("trial.time.monotonic", lambda: clock() + (1000.0 if next(calls) > 3 else 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        time.sleep(0.3)
        os._exit(7)
    assert trial._wait(child, clock()) == 7


def test_a_traceback_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaleinv import cli

    def fail(argv: object) -> int:
        raise TypeError("a bug")

    monkeypatch.setattr(cli, "_run", fail)
    world = tmp_path / "world"
    world.mkdir()
    assert "traceback" in forked(["data"], world, tmp_path / "trial").faults


def test_the_world_can_be_built_and_its_runs_read(scratch: Path, tmp_path: Path) -> None:
    world = scratch / "world"
    if not world.exists():
        build(world)
    for line in (["report", "run"], ["report", "sweep"], ["train", "--elr", "1", "--steps", "1", "--model", "mlp"]):
        ended = forked(line, world, tmp_path / line[0])
        assert (ended.code, ended.faults) == (0, []), ended

"""One way of flags: the same thing has the same flag in every command, and --wd is short for --weight-decay."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from scaleinv.cli import COMMANDS, command_class
from scaleinv.cli.parse import parse
from scaleinv.errors import UserError


def fields(name: str) -> set[str]:
    return {one.name for one in dataclasses.fields(command_class(name))}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_every_command_answers_in_json(name: str) -> None:
    """``completion`` prints a script, which is nothing but text."""
    assert "json" in fields(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_flag_has_a_name_of_its_own_for_what_others_have(name: str) -> None:
    not_used = {"wd", "decay", "learning_rate", "output_dir", "outdir", "silent", "num_workers", "n_seeds", "verbose"}
    assert fields(name) & not_used == set()


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("periods", ["log.csv"], 0.01),
        ("doctor", ["net.py:make", "--input", "2,3", "--optimizer", "adamw"], 0.01),
        ("train", ["--lr", "0.1"], 0.01),
        ("sweep", ["--lr", "0.1"], "0.01"),
    ],
)
def test_the_weight_decay_has_one_flag_and_a_short_form(name: str, arguments: list[str], value: object) -> None:
    kind = command_class(name)
    assert "weight_decay" in fields(name)
    for said in (["--weight-decay", "0.01"], ["--wd", "0.01"], ["--wd=0.01"], ["--weight-decay=0.01"]):
        assert parse(kind, [*arguments, *said]).weight_decay == value
    with pytest.raises(UserError, match="weight-decay"):
        parse(kind, [*arguments, "--wd", "-1"])


def test_the_short_form_of_a_file_of_flags(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    path = tmp_path / "flags.toml"
    path.write_text("wd = 0.02\nlr = 0.1\n")
    assert parse(command_class("train"), ["--config", str(path)]).weight_decay == 0.02
    assert parse(command_class("train"), ["--config", str(path), "--wd", "0.03"]).weight_decay == 0.03


def test_a_command_without_weight_decay_has_no_short_form() -> None:
    with pytest.raises(UserError, match=r"Unrecognized options: --wd"):
        parse(command_class("toy"), ["--wd", "0.1"])


def test_pages_and_help_say_the_long_form() -> None:
    root = Path(__file__).parents[2]
    places = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.py")]
    places += [path for path in (root / "src").rglob("*.py") if path.name != "parse.py"]
    short = [path for path in places if re.search(r"--wd\b", path.read_text(encoding="utf-8"))]
    assert [path.relative_to(root).as_posix() for path in short if path.name != "changelog.md"] == []

"""--help shows the flags in groups, with the choices; what was meant is asked."""

from __future__ import annotations

import dataclasses
import inspect
import re
from itertools import pairwise

import pytest

from scaleinv import cli
from scaleinv.cli import COMMANDS, command_class
from scaleinv.cli.help import GROUPS, field_texts

GROUPED = ("train", "sweep")


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        cli.run([name, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", GROUPED)
def test_every_flag_stands_in_one_group(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {one.name for one in dataclasses.fields(command_class(name))}
    grouped = [field for names in GROUPS.values() for field in names]
    assert len(grouped) == len(set(grouped))
    assert fields <= set(grouped)
    boxes = re.split(r"(?:─|^) (\w+) options +(?:─|$)", help_of(name, capsys), flags=re.MULTILINE)
    shown = dict(zip(boxes[1::2], boxes[2::2]))
    assert list(shown) == list(GROUPS)
    for title, names in GROUPS.items():
        for field in fields & set(names):
            flag = "--from" if field == "start" else f"--{field.replace('_', '-')}"
            assert re.search(rf"{flag}[ │]", shown[title]), (title, flag)


def test_no_group_names_what_no_command_has() -> None:
    fields = {one.name for name in GROUPED for one in dataclasses.fields(command_class(name))}
    assert not {field for names in GROUPS.values() for field in names} - fields


@pytest.mark.parametrize("name", GROUPED)
def test_every_flag_keeps_its_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", help_of(name, capsys)).split())
    for field, text in field_texts(command_class(name)).items():
        for word in re.findall(r"[\w-]+", text):
            assert word in said, (field, word)


@pytest.mark.parametrize(
    "choices",
    [
        "--model {mlp,convnet,resnet18}|FILE.py:FACTORY",
        "--optimizer {sgd,adam,adamw}|FILE.py:CLASS",
        "--loss {ce,mse,bce,l1,huber}|FILE.py:NAME",
        "--granularity {total,group,tensor,row}",
        "--data {digits,mnist,fashion-mnist,cifar10,cifar100}|FILE.py:NAME",
        "--launcher {processes,slurm,ray}|PACKAGE.MODULE:FACTORY",
    ],
)
def test_choices_are_shown(choices: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert choices in help_of("sweep", capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["swep"], "unknown command 'swep', did you mean 'sweep'?; choose one of: "),
        (["sweep", "--elr", "1", "--widht", "3"], "--widht, 3, did you mean '--width'?; see scaleinv sweep --help"),
        (["train", "--elr", "1", "--varient", "si"], "did you mean '--variant'?"),
        (
            ["train", "--elr", "1", "--variant", "standart"],
            "unknown variant 'standart', did you mean 'standard'?; choose",
        ),
        (["train", "--elr", "1", "--optimizer", "adamx"], "unknown optimizer 'adamx', did you mean 'adam"),
        (["train", "--elr", "1", "--data", "cifar11"], "unknown data set 'cifar11', did you mean 'cifar10"),
        (["train", "--elr", "1", "--loss", "bec"], "unknown loss 'bec', did you mean 'bce'?"),
        (["train", "--elr", "1", "--loss", "bce", "--out", "made"], "loss 'bce' is for data of your own"),
    ],
)
def test_what_was_meant(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert cli.run(arguments) == 2
    out, error = capsys.readouterr()
    assert said in error
    assert (out, error.count("\n")) == ("", 1)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_breaks_between_words_where_the_terminal_ends(
    name: str, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider than the terminal, and none of the lines of a flag ends early, as in the source."""
    monkeypatch.setenv("COLUMNS", str(width))
    shown = help_of(name, capsys)
    assert [line for line in shown.splitlines() if len(line) > width] == []
    described = " ".join(re.sub(r"[│╭╮╰╯─]", " ", shown).split())
    for text in (inspect.getdoc(command_class(name)) or "", *field_texts(command_class(name)).values()):
        for word in re.findall(r"[^\s,]+", text):
            assert word in described, word
    lines = shown.splitlines()
    for line, following in pairwise(lines):
        if re.match(r"│ {9,}[a-z]", following):  # the sentence goes on: its first word did not fit any more
            text = line.rstrip("│ ")
            assert len(text) + len(f" {following.strip('│ ').split(' ')[0]}") > len(line) - 2, (line, following)

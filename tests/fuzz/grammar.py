"""Command lines at random: subcommands and flags as the parser has them, values from pools of what went wrong."""

from __future__ import annotations

import argparse
import warnings
from functools import cache
from typing import NamedTuple

import tyro
from hypothesis import strategies as st

from scaleinv.cli import COMMANDS, command_class
from scaleinv.cli.parse import _RULES, _SWITCHES

NUMBERS = [
    "0", "1", "2", "3", "-1", "0.5", "1e-3", "-0", "nan", "inf", "-inf", "1e300", "1e-320", "1e40", "1e999", "9" * 40,
    "1" + "0" * 400, "1" * 5000, str(2**31), str(2**32), str(2**63 - 1), str(2**63), str(2**64), "0x10", "1_0", "١٢",
    "", " ", "1,2", "one", "--", "-", "1e400", "5e-324", "1.7976931348623157e308", "100000", "3.0",
]  # fmt: skip
GRIDS = [
    "0.02:1:2", "1e-3:1:10001", "1:1e400:3", "0:1:3", "1e-320:1e300:5", "1:2:1e9", ",", "1,,2", "1:1:2", "1:2", "a:b:c",
    "1:2:" + "9" * 30, "1e300,1e-300", "1e308:1.7e308:4", "0.1,0.1", "1:2:-3", "nan:1:3",
]  # fmt: skip
#: what the world holds (world.py), and what it does not
PATHS = [
    ".", "..", "", "~nouser", "~", "a" * 300, "b/" * 2100, "zero", "full", "null", "nowhere", "nowhere/x/y",
    "log.csv", "log.csv/x", "bad.json", "deep.json", "long.json", "digits.json", "run", "sweep", "run/config.json",
    "pipe", "socket", "loop", "empty", "empty.csv", "other", "forms", "form", "broken", "weights", "binary.csv",
    "utf16.csv", "huge.csv", "steps.csv", "bomb.csv.gz", "bad.toml", "long.toml", "wrong.toml", "nul.toml",
    "esc\x1b[2J.csv", "bidi\u202e.csv", "latin\udce9.csv", "latin\udce9", "new line\n.csv", "-dash", "grüße", "漢字",
    "run@", "run@1", "run@0", "run@9" + "9" * 30, "run@x", "@", "out.html", "link-out", "monitored", "columns.csv",
    "deep.jsonl", "state.json",
]  # fmt: skip
TEXTS = [
    "", " ", "x", "a=1", "width=1e999", "width=" + "9" * 5000, "width=[" + "[" * 3000, "a=b=c", "=1", "width=16,,",
    ",", "mynet.py:make", "mynet:make", "mynet.py:fails", "mynet.py:wants", "mynet.py:number", "mynet.py:deep",
    "mynet.py:lazy", "mynet.py:huge", "mynet.py:exits", "mynet.py:", ":make", ":", "::",
    "nofile.py:f", "run:make", "copy.py:make",
    "os:getcwd", "broken.py:make", "mynet.py:make.__class__", "..:x", "digits", "mnist", "cifar10", "mlp", "convnet",
    "{}", "[" * 5000, "a" * 5000, "💥", "\x1b]0;t\x07", "\u202eabc", "\udce9", "step:1e300@0.5,0.75", "step:0.1@0.5",
    "stages:0.5=inf", "cosine", "adamw", "SGD", "LBFGS", "Muon", "mynet.py:Opt", "loss=loss", "loss=", "rho=|w|",
    "svg", "svg,png", "gif", "8,3,32,32", "4,6", "4", "0,6", "-1,6", "int:2,16:50257", "int:4,6:" + "9" * 30,
    "bool:4,6", "x=4,6", "1" * 400 + ",2", "2147483647", "1," * 100 + "1", "65536,32768", "cuda", "cuda:99", "meta",
    "mps", "auto", "partition=gpu", "sharpness", "sharpness,paths,walks", "minima", "toy", "digits,toy", "all",
    "li2020-none", "fig3", "file:///etc/passwd", "http://127.0.0.1:9/", "ftp://x", "gopher://x", "http://[", "%s%n",
    "../../x", "si", "None", "slurm", "ray", "processes", "nosuch.module:Launcher", "1,2,3", "1e300,1e300", "1e-320",
]  # fmt: skip
#: short beginnings that are good, so that what is drawn behind them is reached
GOOD = {
    "demo": ["", "--json"],
    "sweep": [
        "--elr 0.01,0.1 --steps 1 --model mlp --workers 1", "--lr 0.1,0.2 --steps 1 --model mlp --workers 1",
        "--elr 0.1,1 --steps 2 --model mlp --workers 1 --out new --prepare",
    ],
    "train": [
        "--elr 0.1 --steps 2 --model mlp", "--lr 0.1 --steps 2 --model mlp --weight-decay 0.1",
        "--elr 0.1 --steps 2 --model mynet.py:make", "--elr 0.1 --steps 1 --model mlp --out new",
        "--lr 0.1 --steps 2 --problem mynet.py:problem", "--elr 0.1 --steps 1 --model mlp --from run",
    ],
    "run": ["run", "prepared", ""],
    "periods": ["log.csv", "log.csv --lr 0.1 --wd 0.01", "steps.csv", "run", ""],
    "landscape": ["run", "sweep", ""],
    "report": ["run", "sweep", "run sweep", ""],
    "data": ["", "list", "fetch mnist"],
    "doctor": ["mynet.py:make --input 4,64", "mynet.py:make", ""],
    "toy": ["--elr 0.02:1:2 --steps 200 --seeds 1", "--steps 200 --seeds 1 --elr 1"],
    "verify": ["--list", "--only none --cache c", "--list --scale toy"],
    "reproduce": ["--list", "--list --scale digits", "--scale toy"],
}  # fmt: skip
#: how often a command is drawn: those that read the most the most, those that always compute seldom
_SHARES = {"train": 12, "periods": 12, "doctor": 8, "sweep": 8, "toy": 2, "demo": 1}


class Flag(NamedTuple):
    """A flag of a command, as its parser has it."""

    name: str  # empty: a place, not a flag
    takes: str  # "", INT, FLOAT, PATH, STR, ...
    choices: tuple[str, ...]


@cache
def flags_of(command: str) -> tuple[Flag, ...]:
    """Take the flags out of the parser itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # still the only way to have the parser
        parser: argparse.ArgumentParser = tyro.extras.get_parser(
            command_class(command), registry=_RULES, config=_SWITCHES
        )
    found = []
    for action in parser._actions:
        if action.dest == "help":
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
        takes = "" if action.nargs == 0 else metavar.replace("{None}|", "") or "STR"
        found.append(Flag((action.option_strings or [""])[0], takes, tuple(map(str, action.choices or ()))))
    return tuple(found)


def values(flag: Flag) -> st.SearchStrategy[str]:
    """Draw a value: of the flag's kind as a rule, of any kind now and then."""
    anything = st.sampled_from([*NUMBERS, *GRIDS, *PATHS, *TEXTS])
    kinds = {"INT": NUMBERS, "FLOAT": NUMBERS, "PATH": PATHS, "DIR": PATHS, "FOLDER": PATHS}
    own = next((pool for kind, pool in kinds.items() if kind in flag.takes.upper()), [*TEXTS, *GRIDS, *PATHS])
    if flag.name in ("--elr", "--lr", "--alpha", "--weight-decay", "--wd"):
        own = [*NUMBERS, *GRIDS]
    if flag.choices:
        own = [*flag.choices, "nosuch"]
    odd = st.text(st.characters(exclude_characters="\0"), max_size=30)
    return st.one_of(st.sampled_from(own), st.sampled_from(own), st.sampled_from(own), anything, odd)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """Draw a command line."""
    command = draw(st.sampled_from([name for name in COMMANDS for _ in range(_SHARES.get(name, 5))]))
    if draw(st.integers(0, 60)) == 60:
        return draw(st.lists(st.sampled_from([*TEXTS, *NUMBERS, *PATHS, *COMMANDS, "--help", "--version"]), max_size=4))
    words = draw(st.sampled_from(GOOD.get(command, [""]))).split()
    options = [flag for flag in flags_of(command) if flag.name]
    places = [flag for flag in flags_of(command) if not flag.name]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 5]))):
        if not options or (places and draw(st.integers(0, 4)) == 0):
            if places:
                words.insert(draw(st.integers(0, len(words))), draw(values(places[0])))
            continue
        flag = draw(st.sampled_from(options))
        if not flag.takes:
            words.append(flag.name)
        elif draw(st.booleans()):
            words += [flag.name, draw(values(flag))]
        else:
            words.append(f"{flag.name}={draw(values(flag))}")
    if words and draw(st.integers(0, 9)) == 9:
        words.pop(draw(st.integers(0, len(words) - 1)))
    return [command, *bounded(command, words)]


def bounded(command: str, words: list[str]) -> list[str]:
    """Leave out what would compute for long though it is right: more steps, walks or figures than a trial has time
    for. What is left is refused or soon done."""
    if command in ("train", "sweep") and not any(word.startswith(("--steps", "--epochs")) for word in words):
        words = [*words, "--steps", "1"]
    if command == "toy" and not any(word.startswith("--steps") for word in words):
        words = [*words, "--steps", "200"]
    if command == "toy" and not any(word.startswith("--elr") for word in words):
        words = [*words, "--elr", "1"]
    if command == "reproduce" and not any(word.startswith("--list") for word in words):
        words = [*words, "--list"]
    if command == "verify" and not any(word.startswith(("--list", "--only")) for word in words):
        words = [*words, "--list"]
    return words

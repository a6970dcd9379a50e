"""The commands. A command is a frozen dataclass (its fields are the flags) with ``run() -> int``; no logic lives here.

Only the chosen command's module is imported, so ``scaleinv --help`` is quick and a missing extra is told in one line.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

from scaleinv import __version__
from scaleinv.errors import UserError, how_to_install


class Command(NamedTuple):
    """Where a command lives, what it is for, and which extra it needs."""

    target: str
    summary: str
    extra: str = "lab"


class Runnable(Protocol):
    """What every command's dataclass offers."""

    def run(self) -> int: ...


COMMANDS: dict[str, Command] = {
    "sweep": Command("scaleinv.cli.sweep:SweepCommand", "train at many ELRs on the sphere and map the three regimes"),
    "train": Command("scaleinv.cli.train:TrainCommand", "train one network and record its metrics"),
    "periods": Command(
        "scaleinv.cli.periods:PeriodsCommand", "find the periods (break-downs) of a training with weight decay"
    ),
    "landscape": Command("scaleinv.cli.landscape:LandscapeCommand", "curvature, paths, walks, minima of ended runs"),
    "report": Command("scaleinv.cli.report:ReportCommand", "make the page (or figures) of a run or a sweep", "report"),
    "data": Command("scaleinv.cli.data:DataCommand", "which data sets are there, where, and are they intact"),
    "doctor": Command("scaleinv.cli.doctor:DoctorCommand", "which weights of a model have no scale"),
    "toy": Command("scaleinv.cli.toy:ToyCommand", "the toy function of the papers: theory beside simulation"),
    "verify": Command("scaleinv.cli.verify:VerifyCommand", "check the claims of the papers"),
    "reproduce": Command("scaleinv.cli.reproduce:ReproduceCommand", "draw the figures of the papers"),
}


def usage() -> str:
    """The overview that ``scaleinv --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: scaleinv COMMAND [options]",
            "",
            "Training dynamics of networks whose weights have no scale.",
            "",
            "commands:",
            *lines,
            "",
            "scaleinv COMMAND --help shows a command's options.",
        ]
    )


def complain(message: str) -> int:
    """Print one line for the user and return the exit code of a user's mistake."""
    print("scaleinv: " + " ".join(message.split()), file=sys.stderr)
    return 2


def run(argv: Sequence[str]) -> int:
    """Run ``scaleinv ARGV``; the exit code: 0 done, 1 the answer is no, 2 the user's mistake, 130 interrupted."""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader (head, less) has left: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"scaleinv {__version__}")
        return 0
    name = argv[0]
    command = COMMANDS.get(name)
    if command is None:
        return complain(f"unknown command {name!r}; choose one of: {', '.join(COMMANDS)}")
    try:
        from scaleinv.cli.parse import parse

        module, _, attribute = command.target.partition(":")
        kind = getattr(importlib.import_module(module), attribute)
        parsed = cast("Runnable", parse(kind, argv[1:], f"scaleinv {name}"))
        return parsed.run()
    except UserError as error:
        return complain(str(error))
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "scaleinv":
            raise
        install = how_to_install(error.name or "", command.extra)
        return complain(f"`scaleinv {name}` needs {error.name}, which is not installed: {install}")
    except KeyboardInterrupt:
        print(f"scaleinv: interrupted; the same command goes on where `{name}` stopped", file=sys.stderr)
        return 130

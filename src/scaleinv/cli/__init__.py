"""Run the commands. A command has its flags in ``cli/NAME.py`` and what it does in ``cli/actions/NAME.py``.

The flags are a frozen dataclass, such as ``SweepCommand``, whose fields are the options; its ``check()`` refuses what
can be refused at once. They import no torch, so that ``--help`` and every usage error are quick.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from scaleinv import __version__
from scaleinv.errors import UserError, how_to_install
from scaleinv.text import near


class Command(NamedTuple):
    """What a command is for, and which extra it needs."""

    summary: str
    extra: str = "lab"


COMMANDS: dict[str, Command] = {
    "demo": Command("what this is about, live, in half a minute", "cli"),
    "sweep": Command("train at many ELRs on the sphere and map the three regimes"),
    "train": Command("train one network and record its metrics"),
    "run": Command("train the run of a folder to its end, on any machine"),
    "periods": Command("find the periods (break-downs) of a training with weight decay"),
    "landscape": Command("curvature, paths, walks, minima of ended runs"),
    "report": Command("make the page (or figures) of a run or a sweep", "report"),
    "data": Command("which data sets are there, where, and are they intact"),
    "doctor": Command("which weights of a model have no scale", "cli"),
    "toy": Command("the toy function of the papers: theory beside simulation"),
    "verify": Command("check the claims of the papers"),
    "reproduce": Command("draw the figures of the papers"),
    "completion": Command("print the completion script of a shell", "cli"),
}


#: of a command whose name is taken here
_MODULES = {"run": "run_folder"}


def command_class(name: str) -> type[Any]:
    """Give the dataclass that holds the flags of a command."""
    flags = importlib.import_module(f"scaleinv.cli.{_MODULES.get(name, name)}")
    return getattr(flags, f"{name.title()}Command")  # type: ignore[no-any-return]


def usage() -> str:
    """Write the overview that ``scaleinv --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return f"""usage: scaleinv COMMAND [options]

Training dynamics of networks whose weights have no scale.

commands:
{lines}

scaleinv COMMAND --help shows a command's options."""


def complain(message: str) -> int:
    """Print one line for the user and return the exit code of a user's mistake."""
    print("scaleinv: " + " ".join(message.split()), file=sys.stderr)
    return 2


def run(argv: Sequence[str]) -> int:
    """Run ``scaleinv ARGV``.

    Exit status 0: done. 1: the answer is no. 2: the user's mistake. 3: the evidence does not decide. 130: interrupted.
    """
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
    if name not in COMMANDS:
        return complain(f"unknown command {name!r}{near(name, COMMANDS)}; choose one of: {', '.join(COMMANDS)}")
    try:
        kind = command_class(name)
        parse = importlib.import_module("scaleinv.cli.parse").parse
        parsed = parse(kind, argv[1:])
        code: int = importlib.import_module(f"scaleinv.cli.actions.{_MODULES.get(name, name)}").run(parsed)
        return code
    except UserError as error:
        return complain(str(error))
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "scaleinv":
            raise
        install = how_to_install(error.name or "", COMMANDS[name].extra)
        return complain(f"`scaleinv {name}` needs {error.name}, which is not installed: {install}")
    except KeyboardInterrupt as interrupt:
        remedy = str(interrupt) or f"the same command resumes where `{name}` stopped"
        print(f"scaleinv: interrupted; {remedy}", file=sys.stderr)
        return 130

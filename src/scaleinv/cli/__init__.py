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
from scaleinv.cli.ending import complain, reader_left, told, watched_streams
from scaleinv.runfolder.seal import unchecked
from scaleinv.runfolder.threads import check_openmp
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
    "check": Command("are the files of runs and sweeps as they were written"),
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


def run(argv: Sequence[str]) -> int:
    """Run ``scaleinv ARGV``.

    Exit status 0: done. 1: the answer is no. 2: the user's mistake, or what the system refuses (a full disk, no
    memory). 3: the evidence does not decide. 130: interrupted.
    """
    with watched_streams() as stdout_open:
        if not stdout_open:
            return complain("standard output is closed; send it to a file, or to /dev/null")
        return _ended(argv)


def _ended(argv: Sequence[str]) -> int:
    """Run and end: the exit code, SystemExit of ``--help``, or a bug as it is."""
    name = argv[0] if argv else ""
    try:
        try:
            code = _run(argv)
        except SystemExit as end:  # of --help
            if reader_left(end):
                return 0
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return code
    except SystemExit:
        raise
    except BaseException as error:
        known = told(error, name, COMMANDS[name].extra if name in COMMANDS else "cli")
        if known is None:
            raise
        return known


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
    check_openmp()
    try:
        os.getcwd()
    except OSError:  # MKL would end the process with a riddle
        return complain("the current folder is gone; change into one that is there")
    kind = command_class(name)
    parse = importlib.import_module("scaleinv.cli.parse").parse
    parsed = parse(kind, argv[1:])
    with unchecked(getattr(parsed, "no_check", False)):
        code: int = importlib.import_module(f"scaleinv.cli.actions.{_MODULES.get(name, name)}").run(parsed)
    return code

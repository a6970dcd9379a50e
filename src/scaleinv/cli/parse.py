"""Make a command of its arguments; tell a mistake in one line. Flags and checks that several commands share."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from scaleinv.cli.help import flags_in_groups, lines_of_words
from scaleinv.errors import UserError
from scaleinv.lab.config import Names
from scaleinv.lab.launch.names import LAUNCHERS
from scaleinv.reading import parse_json, path_fault, read_text
from scaleinv.text import near


def _number(kind: Callable[[str], Any], what: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a {what}") from None

    return convert


_KINDS: dict[type, tuple[str, Callable[[str], Any]]] = {
    int: ("INT", _number(int, "whole number")),
    float: ("FLOAT", _number(float, "number")),
    str: ("STR", str),
    Path: ("PATH", Path),
}
#: of a count that has no bound of its own: what counts that many does not end
MOST_COUNT = 10**9
#: processes of 300 MB each, and at most one a run works
MOST_WORKERS = 256
#: each is a run, or a row of a table
MOST_SEEDS = 100_000
_RULES = ConstructorRegistry()
_SWITCHES = (tyro.conf.FlagCreatePairsOff,)  # --json, no --no-json
_SHOWN = (*_SWITCHES, tyro.conf.OmitArgPrefixes)
Command = TypeVar("Command")
#: what else a flag may be called, in every command that has it
SHORT = {"--wd": "--weight-decay"}

DataDir = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Folder of the data sets (default: the environment variable SCALEINV_DATA, else the cache directory)."
    ),
]
Json = Annotated[bool, tyro.conf.arg(help="Print the answer as JSON on stdout, and nothing else.")]
NoCheck = Annotated[bool, tyro.conf.arg(help="Compare no checksums: read damaged or edited files as they are.")]
Quiet = Annotated[bool, tyro.conf.arg(help="Show no progress.")]
Device = Annotated[
    str,
    tyro.conf.arg(
        help="Where to train: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.",
        metavar="auto|cpu|cuda|cuda:N|mps",
    ),
]
CpuDevice = Annotated[
    str,
    tyro.conf.arg(
        help="Where networks train: cpu, auto (a GPU if there is one), cuda, cuda:1 or mps. A run on another type of "
        "device is another run.",
        metavar="auto|cpu|cuda|cuda:N|mps",
    ),
]
LauncherName = Annotated[
    str,
    Names(LAUNCHERS, "PACKAGE.MODULE:FACTORY"),
    tyro.conf.arg(
        name="launcher",
        help="Where runs run: processes (this machine), slurm, ray, or PACKAGE.MODULE:FACTORY of your own.",
    ),
]
LauncherArgs = Annotated[
    str,
    tyro.conf.arg(
        name="launcher-args",
        help="What the launcher takes, as name=value pairs: partition=gpu,time=240,runs_per_job=4 or gpus=0.25.",
    ),
]
Cancel = Annotated[
    bool, tyro.conf.arg(name="cancel", help="Cancel the jobs that an engine (slurm) still has of this command.")
]
Workers = Annotated[
    int | None, tyro.conf.arg(help="Runs at a time, one thread each (default: one per core, or one per GPU).")
]


def check_at_least(least: int, most: int = MOST_COUNT, **numbers: int | None) -> None:
    """Raise a :class:`UserError` for a number, by the name of its flag, that is below ``least`` or above ``most``; None
    passes."""
    for name, number in numbers.items():
        if number is None:
            continue
        if number < least:
            raise UserError(f"--{name.replace('_', '-')} {number}: must be at least {least}")
        if number > most:
            raise UserError(f"--{name.replace('_', '-')} {number}: must be at most {most}; is that meant?")


def check_texts(command: Any) -> None:
    """Refuse paths that no file can have and texts that are no UTF-8, by the names of their flags, before any work."""
    hints = get_type_hints(type(command), include_extras=True)
    for one in dataclasses.fields(command):
        given = getattr(command, one.name)
        place = "Positional" in repr(hints[one.name])
        for value in given if isinstance(given, tuple) else (given,):
            fault = path_fault(str(value)) if isinstance(value, Path) else ""
            if isinstance(value, str):
                fault = path_fault(value[:1000].replace("/", "-")) if _odd(value) else ""
            if fault:
                raise UserError(f"{'' if place else f'--{_flag_name(one, type(command))} '}{value} {fault}")


def _odd(text: str) -> bool:
    """Tell a text that holds NUL or is no UTF-8."""
    return "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)


def names_in(text: str | None) -> tuple[str, ...]:
    """Split a comma list; repeats are dropped.

    >>> names_in("svg, pdf,,svg")
    ('svg', 'pdf')
    """
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


@_RULES.primitive_rule
def _may_be_left_out(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Let ``int | None`` take an INT; ``None`` is what stands there without the flag."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if len(kinds) == 1 and len(get_args(info.type)) == 2 and get_origin(kinds[0]) is Literal:
        names = get_args(kinds[0])
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{" + ",".join(names) + "}",
            instance_from_str=lambda words: words[0],
            is_instance=lambda value: value is None or value in names,
            str_from_instance=lambda value: ["none" if value is None else str(value)],
            choices=names,
        )
    if len(kinds) != 1 or len(get_args(info.type)) != 2 or kinds[0] not in _KINDS:
        return None
    name, convert = _KINDS[kinds[0]]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=name,
        instance_from_str=lambda words: convert(words[0]),
        is_instance=lambda value: value is None or isinstance(value, kinds[0]),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


def parse(kind: type[Command], arguments: Sequence[str]) -> Command:
    """Make a command of its arguments; :class:`UserError` where they do not fit. ``--help`` exits.

    The help names no default of a switch, nor one that is empty: the flag's text says what then holds.
    """
    arguments = with_config(kind, spelled_out(kind, arguments))
    if arguments and arguments[0].startswith("--tyro-"):
        raise UserError(f"{arguments[0]} completes one command; for all: scaleinv completion bash, or zsh")
    prog = f"scaleinv {kind.__name__.removesuffix('Command').lower()}"
    hints = get_type_hints(kind, include_extras=True)
    for one in dataclasses.fields(kind):  # type: ignore[arg-type]
        if one.default is None or one.default is False or one.default == "":
            hints[one.name] = Annotated[hints[one.name], tyro.conf.arg(help_behavior_hint="")]
        if form := names_form(hints[one.name]):
            hints[one.name] = Annotated[hints[one.name], tyro.conf.arg(metavar=form)]
        kind.__annotations__[one.name] = hints[one.name]
    if any(word in ("-h", "--help") for word in arguments):
        with lines_of_words():
            tyro.cli(flags_in_groups(kind), args=["--help"], prog=prog, registry=_RULES, config=_SHOWN)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.cli(kind, args=list(arguments), prog=prog, registry=_RULES, config=_SWITCHES)
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        raise UserError(f"{_meant(_choices(one_line(said.getvalue())), hints)}; see {prog} --help") from None
    check_texts(command)
    if hasattr(command, "check"):
        command.check()
    return command


def spelled_out(kind: type[Any], arguments: Sequence[str]) -> list[str]:
    """Put the flag that is meant for its short form: ``--weight-decay`` for ``--wd``, where the command has it."""
    names = {one.name for one in dataclasses.fields(kind)}
    found = []
    for word in arguments:
        flag, equals, value = word.partition("=")
        meant = SHORT.get(flag, flag)
        known = meant.removeprefix("--").replace("-", "_") in names
        found.append(meant + equals + value if known else word)
    return found


def names_form(hint: Any) -> str:
    """Write which names a flag takes, for its help; empty where any text is one.

    >>> names_form(Annotated[str, Names(("mlp", "convnet"), "FILE.py:FACTORY")])
    '{mlp,convnet}|FILE.py:FACTORY'
    """
    own = next((f"|{extra.own}" for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Names)), "")
    return "{" + ",".join(known_names(hint)) + "}" + own.rstrip("|") if known_names(hint) else ""


def known_names(hint: Any) -> tuple[str, ...]:
    """Give the names that stand for something of the package where names of one's own may stand as well."""
    return next((extra.known for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Names)), ())


def with_config(kind: type[Any], arguments: Sequence[str]) -> list[str]:
    """Put the flags that ``--config FILE.toml`` holds before those that were typed, which therefore win."""
    names = {one.name for one in dataclasses.fields(kind)}
    given = list(arguments)
    place = next((k for k, word in enumerate(given) if word == "--config" or word.startswith("--config=")), None)
    if place is None or "config" not in names:
        return given
    word = given.pop(place)
    path = word.partition("=")[2] or (given.pop(place) if place < len(given) else "")
    return [*_flags(Path(path), kind), *given]


def _flags(path: Path, kind: type[Any]) -> list[str]:
    """Read the flags of a TOML file; tables are groups of flags and may have any name."""
    try:
        import tomllib  # type: ignore[import-not-found]
    except ImportError:  # Python 3.10
        raise UserError("--config needs Python 3.11 or newer, which reads TOML; give the flags") from None
    try:
        content = tomllib.loads(read_text(path))
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"--config: {error}") from None
    except (ValueError, RecursionError) as error:
        why = "it holds a number of thousands of digits" if "int_max_str_digits" in str(error) else error
        raise UserError(f"--config {path} is not TOML: {why}") from None
    fields = {_flag_name(one, kind): one for one in dataclasses.fields(kind) if one.name != "config"}
    flags: list[str] = []
    for name, value in _flat(content).items():
        flag = SHORT.get(f"--{name}", name).removeprefix("--").replace("_", "-")
        if flag not in fields:
            raise UserError(
                f"--config {path}: unknown key {name!r}{near(flag, fields)}; keys are the flags of the command"
            )
        if isinstance(value, bool) and fields[flag].type in (bool, "bool", Json, Quiet):
            flags += [f"--{flag}"] if value else []
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            flags += [f"--{flag}={text}"]
    return flags


def _flag_name(one: Any, kind: type[Any]) -> str:
    return "from" if one.name == "start" else str(one.name).replace("_", "-")


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) and name not in ("model_args", "model-args", "optimizer_args", "optimizer-args"):
            found |= _flat(value)
        elif isinstance(value, dict):
            found[name] = ",".join(f"{key}={one}" for key, one in value.items())
        else:
            found[name] = value
    return found


def named_values(text: str, flag: str) -> dict[str, Any]:
    """Read ``NAME=VALUE,NAME=VALUE``; a value is a number, true, false, none, a JSON list or a text.

    >>> named_values("width=16,act=relu,betas=[0.9,0.95]", "--model-args")
    {'width': 16, 'act': 'relu', 'betas': [0.9, 0.95]}
    """
    found: dict[str, Any] = {}
    for piece in filter(None, re.split(r",(?![^\[]*\])", text)):
        name, equals, value = piece.strip().partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"{flag} {piece!r} is not NAME=VALUE; write {flag} width=16,depth=2")
        try:
            found[name] = (
                {"True": True, "False": False, "None": None}[value]
                if value in ("True", "False", "None")
                else parse_json(value)
            )
        except ValueError:
            found[name] = value
    return found


def _choices(message: str) -> str:
    """Tell an unknown choice in the words of all other such messages.

    >>> _choices("invalid choice 'vgg' for argument '--model'. Expected one of ('mlp', 'convnet')")
    "unknown model 'vgg'; choose one of: mlp, convnet"
    """
    found = re.fullmatch(r"invalid choice '(.*)' for argument '-*(.*)'\. Expected one of \((.*)\)", message)
    if found is None:
        return message
    value, flag, listed = found.groups()
    choices = listed.rstrip(",").replace("'", "")
    return f"unknown {flag} {value!r}{near(value, choices.split(', '))}; choose one of: {choices}"


def _meant(message: str, names: Iterable[str]) -> str:
    """Add to a message about an unknown flag which one of the fields ``names`` was meant.

    >>> _meant("Unrecognized options: --widht, 3", ["width", "seed"])
    "Unrecognized options: --widht, 3, did you mean '--width'?"
    """
    found = re.match(r"Unrecognized options?: (--[^\s,=]+)", message)
    if found is None:
        return message
    flags = ["--" + ("from" if name == "start" else name.replace("_", "-")) for name in names]
    return message + near(found[1], flags)


def one_line(box: str) -> str:
    """Take what a boxed message says, up to its first rule, without the frame."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = list(filter(None, (line.strip("│| ") for line in text.splitlines())))
    rules = [k for k, line in enumerate(lines) if not set(line) - set("─-")]
    if lines and lines[0].startswith("╭"):
        first = 1
    else:  # no frame where the terminal has ASCII alone: the title stands above a rule
        first = rules.pop(0) + 1 if rules else 0
    end = next((k for k, line in enumerate(lines) if k in rules or line.startswith("╰")), len(lines))
    return " ".join(lines[first:end]).rstrip(".") or "the arguments are not understood"

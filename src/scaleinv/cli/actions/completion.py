"""Write the completion scripts of `scaleinv completion`."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from scaleinv.cli import COMMANDS, command_class
from scaleinv.cli.completion import CompletionCommand
from scaleinv.cli.help import field_texts
from scaleinv.cli.parse import known_names


class Flag(NamedTuple):
    """A flag as a shell completes it."""

    names: tuple[str, ...]
    takes: Literal["nothing", "choice", "name", "file", "text"]  # name: a choice, or a FILE.py:NAME
    choices: tuple[str, ...]
    help: str


def run(command: CompletionCommand) -> int:
    """Print the script."""
    flags = {name: list(flags_of(command_class(name))) for name in COMMANDS}
    print(bash(flags) if command.shell == "bash" else zsh(flags))
    return 0


def flags_of(kind: type[Any]) -> Iterator[Flag]:
    """List the flags of a command; what is given by place is no flag."""
    hints, texts = get_type_hints(kind, include_extras=True), field_texts(kind)
    yield Flag(("-h", "--help"), "nothing", (), "Show the options.")
    for one in dataclasses.fields(kind):
        hint, extras = hints[one.name], getattr(hints[one.name], "__metadata__", ())
        if any("POSITIONAL" in str(extra).upper() for extra in extras):
            continue
        named = next((extra.name for extra in extras if getattr(extra, "name", None)), one.name.replace("_", "-"))
        aliases = tuple(a for extra in extras for a in getattr(extra, "aliases", None) or ())
        told = next((extra.help for extra in extras if getattr(extra, "help", None)), texts.get(one.name, ""))
        plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        takes, choices = _takes(plain, known_names(hint))
        takes = "file" if takes == "text" and "FILE.py" in told else takes
        yield Flag((f"--{named}", *aliases), takes, choices, " ".join(told.split()))


def _takes(
    kind: Any, names: tuple[str, ...]
) -> tuple[Literal["nothing", "choice", "name", "file", "text"], tuple[str, ...]]:
    parts = () if get_origin(kind) is Literal else get_args(kind)
    kinds = set(parts or (kind,)) - {NoneType}
    literal = next((get_args(part) for part in kinds if get_origin(part) is Literal), ())
    if literal or names:
        return ("choice" if literal else "name"), tuple(map(str, literal or names))
    if kind is bool:
        return "nothing", ()
    if bool in kinds:
        return "choice", ("True", "False")
    return ("file" if Path in kinds else "text"), ()


def bash(flags: dict[str, list[Flag]]) -> str:
    """Write the function of bash: choices after a flag that has them, names of files where a path or a name of one's
    own may stand, flags after a dash, files elsewhere.
    """
    lines = [
        "_scaleinv() {",
        '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
        "    COMPREPLY=()",
        "    if (( COMP_CWORD == 1 )); then",
        f'        COMPREPLY=($(compgen -W "{" ".join(flags)} --help --version" -- "$cur"))',
        "        return",
        "    fi",
        '    case "$command $prev" in',
    ]
    for command, listed in flags.items():
        for flag in listed:
            places = "|".join(f'"{command} {name}"' for name in flag.names)
            if flag.takes in ("choice", "name"):
                words = " ".join(flag.choices)
                lines.append(f'        {places}) COMPREPLY=($(compgen -W "{words}" -- "$cur")); return ;;')
            elif flag.takes == "file":
                lines.append(f"        {places}) return ;;")
            elif flag.takes == "text":
                lines.append(f"        {places}) compopt +o default 2>/dev/null; return ;;")
    lines += ["    esac", '    [[ "$cur" == -* ]] || return', '    case "$command" in']
    for command, listed in flags.items():
        words = " ".join(name for flag in listed for name in flag.names)
        lines.append(f'        {command}) COMPREPLY=($(compgen -W "{words}" -- "$cur")) ;;')
    return "\n".join([*lines, "    esac", "}", "complete -o default -F _scaleinv scaleinv"])


def zsh(flags: dict[str, list[Flag]]) -> str:
    """Write the function of zsh, with what every command and flag is for."""
    lines = ["#compdef scaleinv", "_scaleinv_name() {", '    _alternative "names:name:($*)" "files:file:_files"', "}"]
    lines += ["_scaleinv() {", "    local -a commands", "    commands=("]
    lines += [f"        {_quoted(f'{name}:{COMMANDS[name].summary}')}" for name in flags]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe command commands",
        "        return",
        "    fi",
    ]
    lines += ["    local command=$words[2]", "    shift words", "    (( CURRENT-- ))", "    case $command in"]
    for command, listed in flags.items():
        lines += [f"        {command})", "            _arguments \\"]
        for flag in listed:
            told = re.sub(r"([][:])", r"\\\1", _sentence(flag.help))
            apart = f"({' '.join(flag.names)})" if len(flag.names) > 1 else ""
            value = {
                "nothing": "",
                "choice": f":value:({' '.join(flag.choices)})",
                "name": f":value: _scaleinv_name {' '.join(flag.choices)}",
                "file": ":path:_files",
                "text": ":value: ",
            }
            lines += [f"                {_quoted(f'{apart}{n}[{told}]{value[flag.takes]}')} \\" for n in flag.names]
        lines += ["                '*:file:_files'", "            ;;"]
    lines += ["    esac", "}", 'if [ "$funcstack[1]" = "_scaleinv" ]; then _scaleinv "$@"']
    return "\n".join([*lines, "else compdef _scaleinv scaleinv", "fi"])


def _sentence(text: str) -> str:
    """Take the first sentence, without its full stop."""
    return text.partition(". ")[0].rstrip(".")


def _quoted(text: str) -> str:
    """Quote a text for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"

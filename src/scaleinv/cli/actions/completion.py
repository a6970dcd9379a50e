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
from scaleinv.lab.config import DATA_SETS
from scaleinv.papers import shelf
from scaleinv.papers.scales import SCALES
from scaleinv.plots.style import FORMATS
from scaleinv.runfolder.layout import LANDSCAPE_PARTS

#: choice: one of the choices; list: a comma list of them; name: a choice, or a FILE.py:NAME
Takes = Literal["nothing", "choice", "list", "name", "file", "text"]


class Flag(NamedTuple):
    """A flag, or what is given by place, as a shell completes it."""

    names: tuple[str, ...]  # none: given by place
    takes: Takes
    choices: tuple[str, ...]
    help: str
    several: bool = False  # places


def run(command: CompletionCommand) -> int:
    """Print the script."""
    flags = {name: list(flags_of(command_class(name))) for name in COMMANDS}
    print(bash(flags) if command.shell == "bash" else zsh(flags))
    return 0


def texts_of(kind: type[Any]) -> dict[str, tuple[Takes, tuple[str, ...]]]:
    """Give what stands in the fields of a command that take a text of certain words."""
    devices = ("auto", "cpu", "cuda", *(() if kind.__name__ == "DoctorCommand" else ("mps",)))
    scales = (*(("quick", "all") if kind.__name__ == "VerifyCommand" else ()), *SCALES)
    return {
        "device": ("choice", devices),
        "scale": ("choice", scales),
        "name": ("choice", tuple(name for name in DATA_SETS if name != "digits")),  # which is built in
        "figures": ("choice", tuple(shelf.figures())),
        "only": ("list", tuple(shelf.claims())),
        "parts": ("list", LANDSCAPE_PARTS),
        "format": ("list", FORMATS),
    }


def flags_of(kind: type[Any]) -> Iterator[Flag]:
    """List the flags of a command and what it takes by place."""
    hints, texts, words = get_type_hints(kind, include_extras=True), field_texts(kind), texts_of(kind)
    yield Flag(("-h", "--help"), "nothing", (), "Show the options.")
    for one in dataclasses.fields(kind):
        hint, extras = hints[one.name], getattr(hints[one.name], "__metadata__", ())
        placed = any("POSITIONAL" in str(extra).upper() for extra in extras)
        named = next((extra.name for extra in extras if getattr(extra, "name", None)), one.name.replace("_", "-"))
        aliases = tuple(a for extra in extras for a in getattr(extra, "aliases", None) or ())
        told = next((extra.help for extra in extras if getattr(extra, "help", None)), texts.get(one.name, ""))
        plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        takes, choices = _takes(plain, known_names(hint))
        if takes == "text":
            takes, choices = words.get(one.name, ("file" if "FILE.py" in told else "text", ()))
        names = () if placed else (f"--{named}", *aliases)
        yield Flag(names, takes, choices, " ".join(told.split()), get_origin(plain) is tuple)


def _takes(kind: Any, names: tuple[str, ...]) -> tuple[Takes, tuple[str, ...]]:
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
    own may stand, flags after a dash, elsewhere what is given by place. Bash takes = for a word of its own.
    """
    lines = [
        "_scaleinv() {",
        '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
        '    if [[ "$cur" == "=" ]]; then cur=""',
        '    elif [[ "$prev" == "=" ]]; then prev="${COMP_WORDS[COMP_CWORD-2]}"; fi',
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
            if places and flag.takes != "nothing":
                lines.append(f"        {places}) {_bash_value(flag)}; return ;;")
    lines += ["    esac", '    case "$command" in']
    for command, listed in flags.items():
        words = " ".join(name for flag in listed for name in flag.names)
        lines += [f"        {command})", f'            if [[ "$cur" == -* ]]; then {_bash_words(words)}']
        placed = [flag for flag in listed if not flag.names]
        for second in placed[1:]:
            lines.append(f'            elif [[ "$prev" != "$command" ]]; then {_bash_value(second)}')
        lines += [f"            else {_bash_value(first)}" for first in placed[:1]]
        lines.append("            fi ;;")
    return "\n".join([*lines, "    esac", "}", "complete -o default -F _scaleinv scaleinv"])


def _bash_words(words: str) -> str:
    return f'COMPREPLY=($(compgen -W "{words}" -- "$cur"))'


def _bash_value(flag: Flag) -> str:
    """Write what offers the value of a flag; without an offer, readline names files."""
    words = " ".join(flag.choices)
    if flag.takes == "list":
        return f'COMPREPLY=($(compgen -P "${{cur%"${{cur##*,}}"}}" -W "{words}" -- "${{cur##*,}}"))'
    if flag.choices:
        return _bash_words(words)
    return "return" if flag.takes == "file" else "compopt +o default 2>/dev/null"


def zsh(flags: dict[str, list[Flag]]) -> str:
    """Write the function of zsh, with what every command and flag is for."""
    lines = ["#compdef scaleinv", "_scaleinv_name() {", '    _alternative "names:name:($*)" "files:file:_files"', "}"]
    lines += ["_scaleinv() {", "    local -a commands", "    commands=("]
    lines += [f"        {_quoted(f'{name}:{COMMANDS[name].summary}')}" for name in flags]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        if [[ $words[2] == -* ]]; then compadd -- --help --version",
        "        else _describe command commands; fi",
        "        return",
        "    fi",
    ]
    lines += ["    local command=$words[2]", "    shift words", "    (( CURRENT-- ))", "    case $command in"]
    for command, listed in flags.items():
        lines += [f"        {command})", "            _arguments \\"]
        for flag in listed:
            told = re.sub(r"([][:])", r"\\\1", _sentence(flag.help))
            apart = f"({' '.join(flag.names)})" if len(flag.names) > 1 else ""
            words = " ".join(flag.choices)
            value = {
                "nothing": "",
                "choice": f":value:({words})",
                "list": f":value:_sequence compadd - {words}",
                "name": f":value: _scaleinv_name {words}",
                "file": ":path:_files",
                "text": ":value: ",
            }[flag.takes]
            equals = "=" if value else ""  # --flag value and --flag=value
            before = "*" if flag.several else apart  # may be repeated
            forms = [f"{before}{name}{equals}[{told}]{value}" for name in flag.names]
            forms = forms or [f"{'*' if flag.several else ''}{value}"]
            lines += [f"                {_quoted(form)} \\" for form in forms]
        lines[-1] = lines[-1].removesuffix(" \\")
        lines += ["            ;;"]
    lines += ["    esac", "}", 'if [ "$funcstack[1]" = "_scaleinv" ]; then _scaleinv "$@"']
    return "\n".join([*lines, "else compdef _scaleinv scaleinv", "fi"])


def _sentence(text: str) -> str:
    """Take the first sentence, without its full stop."""
    return text.partition(". ")[0].rstrip(".")


def _quoted(text: str) -> str:
    """Quote a text for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"

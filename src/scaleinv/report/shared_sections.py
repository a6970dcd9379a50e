"""The sections that the page of a run and of a sweep share: what the words mean, how to reproduce it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from scaleinv.plots.drawing import Drawing
from scaleinv.report.facts import AnyFacts
from scaleinv.report.page import Section, fragment
from scaleinv.text import clean, plain

_LABELS = {
    "git": "git revision",
    "scaleinv": "scaleinv version",
    "data_fingerprint": "data fingerprint (sha256)",
    "start": "start weights (sha256)",
}


class Glossary(Section[AnyFacts]):
    """What the words mean, folded."""

    def html(self, facts: AnyFacts, drawn: Sequence[Drawing]) -> str:
        return fragment("parts.html.j2", "glossary", facts.has_periods)


class Reproduce(Section[AnyFacts]):
    """The command, the versions, the seed and the data behind the page."""

    def html(self, facts: AnyFacts, drawn: Sequence[Drawing]) -> str:
        first: Mapping[str, Any] = next(iter(facts.environments), {})
        argv = first.get("argv")
        command = command_line([clean(part) for part in argv]) if isinstance(argv, list) and argv else ""
        keys = {key for other in facts.environments for key in {*other, *first} if other.get(key) != first.get(key)}
        config = {key: value for key, value in facts.config.items() if value is not None}
        told = [("seed" if len(facts.seeds) == 1 else "seeds", ", ".join(map(str, facts.seeds)))] if facts.seeds else []
        told += _told({k: v for k, v in facts.config.items() if "fingerprint" in str(k) or "sha256" in str(k)})
        told += _told({key: value for key, value in first.items() if key != "argv"})
        names = ", ".join(map(_words, sorted(map(str, keys))))
        return fragment("parts.html.j2", "reproduce", command, told, names, _told(config))


def _told(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_words(key), plain(value)) for key, value in values.items()]


def command_line(argv: Sequence[str]) -> str:
    """Write the command as one types it: without the path of the program.

    >>> command_line(["/home/me/.venv/bin/scaleinv", "sweep", "--elr", "1e-4:1:21"])
    'scaleinv sweep --elr 1e-4:1:21'
    """
    program = argv[0].replace("\\", "/").rsplit("/", 1)[-1]
    if program == "__main__.py":
        return shlex.join(["python", "-m", "scaleinv", *argv[1:]])
    return shlex.join([program, *argv[1:]])


def _words(key: Any) -> str:
    return _LABELS.get(key, str(key).replace("_", " "))

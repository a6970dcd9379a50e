"""Read what others wrote: files of one kind and a bounded size, JSON whose numbers and depth are bounded."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError

#: the most bytes of one file of JSON or TOML that are read: beyond any that is written, and soon read
MOST_BYTES = 1 << 28
#: digits of a whole number: with more it has no float, 1.8e308 being the largest
MOST_DIGITS = 308
_LONG = re.compile(rf"[0-9]{{{MOST_DIGITS + 1}}}")
#: bytes of a name and of a path on Linux and macOS
_NAME, _PATH = 255, 4095
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def kind_of(path: Path) -> str:
    """Say what is there: ``a folder``, ``a device``, ``a pipe``, ``a socket``; empty for a file; OSError for nothing.

    >>> kind_of(Path("/dev/null"))
    'a device'
    """
    mode = path.stat().st_mode
    return next((name for test, name in _KINDS if test(mode)), "")


def refuse_other_kinds(path: Path) -> None:
    """Refuse what is no file, before it is opened: a device has no end, and a pipe may never begin.

    Raises UserError for a folder, a device, a pipe or a socket, and the OSError of what cannot be looked at.
    """
    if kind := kind_of(path):
        more = "; write what comes out of it into a file and name that" if kind in ("a pipe", "a device") else ""
        raise UserError(f"{path} is {kind}, not a file{more}")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a whole file of at most ``most`` bytes.

    Raises UserError for another kind and for a larger file, OSError where it cannot be read.
    """
    refuse_other_kinds(path)
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path} holds more than {most >> 20} MiB; that is not what is read here")
    return content


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Read a whole file of UTF-8 text; raises as :func:`read_bytes`, and UnicodeDecodeError for other text."""
    return read_bytes(path, most).decode("utf-8")


def parse_json(text: str, *, constant: Callable[[str], Any] | None = None) -> Any:
    """Parse JSON; ``constant``: called for NaN and Infinity.

    Raises ValueError, in a few words, for what is no JSON, for a whole number of more than 308 digits, which no float
    holds, and for lists in lists beyond what the interpreter's stack holds.

    >>> parse_json('{"steps": 12}')
    {'steps': 12}
    >>> parse_json("1" + 400 * "0")
    Traceback (most recent call last):
    ...
    ValueError: holds a whole number of 401 digits; numbers end at 1.8e308
    """
    try:
        # the hook costs a call a number, and few texts need it
        return json.loads(text, parse_int=_whole if _LONG.search(text) else None, parse_constant=constant)
    except RecursionError:
        raise ValueError("lists and objects lie too deep within one another") from None


def _whole(digits: str) -> int:
    if len(digits) - digits.startswith("-") > MOST_DIGITS:
        raise ValueError(f"holds a whole number of {len(digits.lstrip('-'))} digits; numbers end at 1.8e308")
    return int(digits)


def home_expanded(path: str | Path) -> Path:
    """Put the home folder in the place of ``~``; UserError for a user who is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user; write ./{path} for a folder of that name") from None


def path_fault(text: str) -> str:
    """Say why no file can have this name, as the end of a sentence; empty where one can.

    >>> path_fault("runs/a"), path_fault("a" * 300)
    ('', 'has a name of 300 bytes; a name has at most 255')
    """
    if not text:
        return "is empty"
    if "\0" in text:
        return "holds the character NUL, which no path can"
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8, so it cannot be written into config.json or a page; rename it"
    longest = max(map(len, encoded.split(os.sep.encode())))
    if longest > _NAME:
        return f"has a name of {longest} bytes; a name has at most {_NAME}"
    return f"has {len(encoded)} bytes; a path has at most {_PATH}" if len(encoded) > _PATH else ""

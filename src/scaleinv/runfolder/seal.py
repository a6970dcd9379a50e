"""Guard JSON files by a checksum of their own content, so that damage and later edits are seen.

A file holds ``"checksum"``: the sha256 of everything else in it, as JSON with sorted keys and no spaces. File and
checksum are one, so that no kill can part them. A file without one is of an earlier version (or the line was removed by
hand): it is read, and that nothing guards it is said once a folder.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.runfolder.files import plain, read_json, write_json

SEAL = "checksum"
_checking: ContextVar[bool] = ContextVar("checking", default=True)
_told: set[Path] = set()
_log = logging.getLogger("scaleinv")
#: what can be done about a damaged file
REMEDY = "restore it or remove the run's folder and run it again; `scaleinv check` says what can still be used"
_EDITED = 'restore it, or remove its line "checksum" to have it read as it is'


class Damaged(UserError):
    """A file is not what was written."""


@contextmanager
def unchecked(hurried: bool = True) -> Iterator[None]:
    """Compare no checksums within (``--no-check``): what is damaged is then read as it is, where it can be read."""
    token = _checking.set(not hurried)
    try:
        yield
    finally:
        _checking.reset(token)


def checking() -> bool:
    """Whether checksums are compared."""
    return _checking.get()


def digest_of(content: Mapping[str, Any]) -> str:
    """Compute the checksum of what a file holds besides it.

    >>> digest_of({"b": 1, "a": 0.5}) == digest_of({"a": 0.5, "b": 1, "checksum": "..."})
    True
    """
    return _digest(plain({name: value for name, value in content.items() if name != SEAL}))


def _digest(content: Mapping[str, Any]) -> str:
    """Compute the checksum of what was read from JSON: its types are those of JSON, and NaN, which none writes, is not
    null.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the checksum to what a file is to hold."""
    return {**content, SEAL: digest_of(content)}


def write_sealed(path: Path, content: Mapping[str, Any], **options: Any) -> None:
    """Write a JSON object with its checksum, whole or not at all; ``options`` of ``write_bytes``."""
    write_json(path, sealed(content), **options)


def rewrite_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of ours anew, with a checksum if it had one: what is of an earlier version stays so."""
    (write_sealed if is_sealed(path) else write_json)(path, dict(content))


def is_sealed(path: Path) -> bool:
    """Whether a file is there and has a checksum."""
    return path.exists() and SEAL in _object(read_json(path, nan=True))


def _object(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def read_sealed(path: Path, *, nan: bool = False, quiet: bool = False, **options: Any) -> Any:
    """Read a JSON file and compare its checksum, which is left out of what is returned.

    ``quiet``: say nothing where there is none. ``options`` of ``read_json``.

    Errors: :class:`Damaged` where the content is not that of the checksum.
    """
    content = read_json(path, nan=nan, **options)
    if not isinstance(content, dict):
        return content
    held = content.pop(SEAL, None)
    if not checking():
        return content
    if held is None:
        if not quiet:
            say_unguarded(path.parent)
    elif held != _digest(content):
        raise Damaged(
            f"{path} is damaged or was edited after it was written (its checksum is of other content): {_EDITED}"
        )
    return content


def read_object(path: Path, **options: Any) -> dict[str, Any]:
    """Read a file of ours as :func:`read_sealed` does; a UserError where it is JSON and no object."""
    content = read_sealed(path, **options)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, expected a JSON object: not a file of scaleinv")
    return content


def say_unguarded(folder: Path) -> None:
    """Say once that a folder has no checksums; of the runs of a sweep, or of a cache, once for all."""
    runs, top = folder.parent, folder
    if runs.name == "runs":
        top = runs.parent if (runs.parent / "sweep-config.json").exists() else runs
    place = top.absolute()
    if place not in _told:
        _told.add(place)
        _log.warning(
            "%s has files without checksums, as earlier versions wrote them: damage in them is not noticed", top
        )

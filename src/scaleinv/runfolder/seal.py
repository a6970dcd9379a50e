"""Guard JSON files by a checksum of their own content, so that damage and later edits are seen.

A file holds ``"checksum"``: the sha256 of everything else in it, as JSON with sorted keys and no spaces. File and
checksum are one, so that no kill can part them. A file without one is of an earlier version (or the line was removed by
hand): it is read, and that nothing guards it is said once a folder.

``"token"`` says which folder a file belongs to: config.json (of a sweep sweep-config.json, of a task task.json) has
one, and every other such file of the folder the same, so that a file copied whole from another run is seen as well.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from scaleinv.errors import UserError
from scaleinv.runfolder.files import plain, read_json, write_json

SEAL, TOKEN = "checksum", "token"
#: the files whose token is that of their folder: of a run, of a sweep, of a task
HEADS = ("config.json", "sweep-config.json", "task.json")
_checking: ContextVar[bool] = ContextVar("checking", default=True)
_told: set[Path] = set()
_log = logging.getLogger("scaleinv")
#: what can be done about a damaged file
_SAYS = "`scaleinv check` says what can still be used"
REMEDY = f"restore it or remove the run's folder and run it again; {_SAYS}"


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


def sealed(content: Mapping[str, Any], path: Path | None = None) -> dict[str, Any]:
    """Add the folder's token and the checksum to what a file is to hold; ``path``: its own, of a file of a folder."""
    if path is not None and path.name not in HEADS and (token := token_of(path)) is not None:
        content = {**content, TOKEN: token}
    return {**content, SEAL: digest_of(content)}


def token_of(path: Path) -> str | None:
    """Read the token of the folder that a file, or a file of one of its checkpoints, is in; None where it has none."""
    return next(_tokens_above(path), None)


def _tokens_above(path: Path) -> Iterator[str | None]:
    """The token of the file's folder, if that has a head."""
    folder = path.parents[2] if path.parent.parent.name == "checkpoints" else path.parent
    for name in HEADS:
        with suppress(OSError):
            state = (folder / name).stat()
            yield _token_in(folder / name, (state.st_ino, state.st_size, state.st_mtime_ns))
            return


@functools.lru_cache(256)
def _token_in(head: Path, stamp: tuple[int, ...]) -> str | None:
    """Read the token in a head, once as long as the file is what it was: a folder has one for good."""
    return _object(read_json(head, nan=True)).get(TOKEN)


def is_foreign(path: Path, content: Mapping[str, Any]) -> bool:
    """Whether a file, by its token, is one of another folder; a head that cannot be read is for its readers to tell."""
    with suppress(UserError):
        return path.name not in HEADS and any(token != content.get(TOKEN) for token in _tokens_above(path))
    return False


def write_sealed(path: Path, content: Mapping[str, Any], *, token: str | None = None, **options: Any) -> None:
    """Write a JSON object with its checksum, whole or not at all; ``options`` of ``write_bytes``.

    ``token``: of the folder, where a file that has it is not there yet.
    """
    write_json(path, sealed(content if token is None else {**content, TOKEN: token}, path), **options)


def rewrite_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of ours anew, with a checksum if it had one: what is of an earlier version stays so."""
    (write_sealed if is_sealed(path) else write_json)(path, dict(content))


def is_sealed(path: Path) -> bool:
    """Whether a file is there and has a checksum."""
    return path.exists() and SEAL in _object(read_json(path, nan=True))


def _object(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


class Fault(NamedTuple):
    """What is wrong with a file."""

    short: str
    words: str  # more, with what can be done


def fault_of(path: Path, content: Mapping[str, Any]) -> Fault | None:
    """Judge all that a file holds by its checksum and its token; None: nothing is wrong, or nothing guards it."""
    lines = 'line "checksum"' if path.name in HEADS else 'lines "checksum" and "token"'
    edited = f"restore it, or remove its {lines} to have it read as it is"
    held, others = content.get(SEAL), {name: value for name, value in content.items() if name != SEAL}
    if held is None:
        if TOKEN in content and path.name not in HEADS:  # one flipped bit makes of "checksum" another name
            short = "has a token and no checksum"
            return Fault(short, f"is damaged (it {short}): {edited}")
        return None
    if held != _digest(others):
        words = f"is damaged or was edited after it was written (its checksum is of other content): {edited}"
        return Fault("was changed after it was written", words)
    if is_foreign(path, others):
        short = "is of another run"
        return Fault(short, f"{short} (its token is another): put back the one that was here; {_SAYS}")
    return None


def read_sealed(path: Path, *, nan: bool = False, quiet: bool = False, **options: Any) -> Any:
    """Read a JSON file and compare its checksum and its token, which are left out of what is returned.

    ``quiet``: say nothing where there is none. ``options`` of ``read_json``.

    Errors: :class:`Damaged` where the content is not that of the checksum, or of another folder.
    """
    content = read_json(path, nan=nan, **options)
    if not isinstance(content, dict):
        return content
    if checking():
        if fault := fault_of(path, content):
            raise Damaged(f"{path} {fault.words}")
        if content.get(SEAL) is None and not quiet:
            say_unguarded(path.parent)
    ours = (SEAL,) if path.name in HEADS else (SEAL, TOKEN)
    return {name: value for name, value in content.items() if name not in ours}


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

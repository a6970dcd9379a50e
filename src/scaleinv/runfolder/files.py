"""Keep files either whole or absent: atomic writes, checksums, locks, and disk errors in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from scaleinv.errors import UserError
from scaleinv.reading import parse_json, read_text

_ADVICE = "what was saved before is intact; free the disk or choose another --out"


@contextmanager
def disk_errors(path: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Turn an ``OSError`` (disk full, read-only folder, ...) into one clear line, which ends with ``advice``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def sha256(path: Path) -> str:
    """Compute the checksum of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have the file on the disk before going on: a power cut may not leave an empty file under a good name."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows syncs what may be written only
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written(path: Path, *, flush: bool = True, locked: bool = True, advice: str = _ADVICE) -> Iterator[Path]:
    """Give a temporary path to write to: afterwards the file is at ``path`` whole, or, after an error, not at all.

    ``flush``: have it on the disk before it gets its name, so that a power cut leaves no empty file there. ``locked``:
    no other process writes this file at the same time; else the temporary path is this process's own.
    """
    part = path.with_name(f".{path.name}.part" if locked else f".{path.name}.{os.getpid()}.part")
    with disk_errors(path, advice):
        try:
            yield part
            if flush:
                sync(part)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes, *, parents: bool = False, advice: str = _ADVICE) -> None:
    """Write a file whole or not at all; ``parents``: in a folder that is made, and that other processes write to."""
    if parents:
        with disk_errors(path, advice):
            path.parent.mkdir(parents=True, exist_ok=True)
    with written(path, locked=not parents, advice=advice) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; see :func:`json_text`."""
    write_bytes(path, json_text(value, indent=1).encode() + b"\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Write ``value`` as JSON; NaN and infinities become null, since JSON has no word for them.

    >>> json_text({"loss": float("nan")})
    '{"loss": null}'
    """
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """Put ``value`` into JSON types: arrays become lists, dataclasses objects, paths texts, NaN and infinities None.

    >>> plain({"x": (1.5, float("inf")), 2: Path("a/b")})
    {'x': [1.5, None], '2': 'a/b'}
    """
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "tolist"):  # an array or a number of numpy
        return plain(value.tolist())
    return str(value) if isinstance(value, Path) else value


_MEND = "mend the file or start in another folder"


def read_json(path: Path, *, advice: str = _MEND, nan: bool = False) -> Any:
    """Parse a JSON file; damage, such as ``NaN`` unless ``nan``, is told in one line, which ends with ``advice``."""

    def refuse(word: str) -> Any:
        raise UserError(f"{path}: holds {word}, which is not a number; {advice}")

    try:
        return parse_json(read_text(path), constant=None if nan else refuse)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON ({error}); {advice}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


#: what flock says on NFS without a lock daemon, and where it is not known
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
#: the lock of a folder whose file system has none
LINK = ".lock.link"
_WAIT = "wait for it, or choose another --out"


class Busy(UserError):
    """Another process is working on the folder."""


class Lock:
    """The exclusive right to write into a folder: a lock on ``folder/.lock``, gone with the process that holds it."""

    def __init__(
        self, folder: Path, *, wait: float = 0.0, holder: str = "another process", advice: str = _WAIT
    ) -> None:
        path = folder / ".lock"
        self._lock: BaseFileLock
        with disk_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            # not for each thread: a finalizer may release it from another one
            self._lock = FileLock(path, timeout=wait, thread_local=False)
            try:
                self._acquire(path, wait)
            except Timeout:
                raise Busy(f"{holder} is working on {folder}; {advice}") from None

    def _acquire(self, path: Path, wait: float) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            if isinstance(error, TimeoutError) or error.errno not in _NO_FLOCK:
                raise
            # a file that only one process can make; a holder that died on this machine is found out by its pid
            link = path.with_name(LINK)
            warnings.warn(
                f"{path.parent} lies on a file system without locks ({error.strerror}): {link.name} stands for one; "
                "remove it if the machine that made it is gone",
                stacklevel=3,
            )
            self._lock = SoftFileLock(link, timeout=wait, thread_local=False)
            self._lock.acquire()

    def release(self) -> None:
        """Let the next process in; a second call does nothing."""
        self._lock.release()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

"""Files that are either whole or absent: atomic writes, checksums, locks, and disk errors in one line."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scaleinv.errors import UserError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` (disk full, read-only folder, ...) into one clear line."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        advice = "what was saved before is intact; free the disk or choose another --out"
        raise UserError(f"cannot write {path}: {why}; {advice}") from error


def sha256(path: Path) -> str:
    """Checksum of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have the file on the disk before going on: a power cut may not leave an empty file under a good name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename."""
    part = path.with_name(f".{path.name}.part")
    with disk_errors(path):
        try:
            with part.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Atomic JSON; NaN and infinities become null, since JSON has no word for them."""
    write_bytes(path, json_text(value, indent=1).encode() + b"\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON; NaN and infinities become null.

    >>> json_text({"loss": float("nan")})
    '{"loss": null}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def read_json(path: Path, *, advice: str = "mend the file or start in another folder") -> Any:
    """Parse a JSON file; a damaged one is told in one line, which ends with ``advice``. ``NaN``, which Python would
    accept, is damage.
    """

    def refuse(word: str) -> Any:
        raise UserError(f"{path}: holds {word}, which is not a number; {advice}")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); {advice}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


class Lock:
    """An exclusive ``flock`` on ``folder/.lock``: gone with the process that holds it, however it ends."""

    def __init__(self, folder: Path, *, wait: float = 0.0) -> None:
        self._path = folder / ".lock"
        with disk_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._handle: IO[str] | None = self._path.open("a")
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.release()
                    raise UserError(
                        f"another process is working on {folder}; wait for it, or choose another --out"
                    ) from None
                time.sleep(0.05)
            except OSError as error:  # a file system without locks
                self.release()
                raise UserError(f"cannot lock {self._path}: {error.strerror}; choose another --out") from error

    def release(self) -> None:
        """Let the next process in."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

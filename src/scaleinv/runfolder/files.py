"""Keep files either whole or absent: atomic writes, checksums, locks, and disk errors in one line."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import os
import shutil
import stat
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError, needs
from scaleinv.reading import parse_json, read_text, refuse_other_kinds

with needs("lab"):
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Buffer = bytes | bytearray | memoryview

#: checksums of files, with what :func:`_stamp` said of each; how many are kept
_summed: dict[str, tuple[tuple[int, ...], str]] = {}
_REMEMBERED = 256
#: seconds without a change after which the next one gets another time, on file systems with whole seconds too
_SETTLED = 3.0

_ADVICE = "what was saved before is intact; free the disk or choose another --out"


@contextmanager
def disk_errors(path: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Turn an ``OSError`` (disk full, read-only folder, ...) into one clear line, which ends with ``advice``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def content_of(path: Path) -> bytes:
    """Read the bytes of a file of a run, of any size; a UserError for another kind, such as a device without an end."""
    refuse_other_kinds(path)
    return path.read_bytes()


def sha256(path: Path) -> str:
    """Compute the checksum of a file's bytes, hexadecimal; a UserError for what is no file."""
    refuse_other_kinds(path)
    with path.open("rb") as handle:
        state, now = os.fstat(handle.fileno()), time.time()
        digest = hashlib.sha256()
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    found = digest.hexdigest()
    if state.st_ctime < now - _SETTLED:  # a later write changes the time, whatever the clock's steps
        _summed[os.fspath(path.absolute())] = (_stamp(state), found)
        while len(_summed) > _REMEMBERED:
            _summed.pop(next(iter(_summed)))
    return found


def remembered_sha256(path: Path, data: Buffer) -> str:
    """Compute the checksum of ``data``, read from a file; of one that is as it was when this process computed its
    checksum, that one is given.
    """
    stamp, found = _summed.get(os.fspath(path.absolute()), (None, ""))
    with suppress(OSError):
        if stamp is not None and stamp == _stamp(path.stat()) and len(data) == stamp[2]:
            return found
    return hashlib.sha256(data).hexdigest()


def _stamp(state: os.stat_result) -> tuple[int, ...]:
    """What changes where a file is written."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def refuse_links(*paths: Path) -> None:
    """Refuse a link in the place of a folder inside one of ours, through which files of others would be written or
    removed, by a :class:`UserError`.
    """
    for path in paths:
        if path.is_symlink():
            raise UserError(f"{path} is a link, and scaleinv writes nothing through links; replace it by a folder")


def own_folder(path: Path) -> Path:
    """Make a folder inside one of ours, or find it; see :func:`refuse_links`."""
    refuse_links(path)
    with disk_errors(path):
        path.mkdir(exist_ok=True)
    return path


def remove_tree(path: Path) -> None:
    """Remove a folder with all it holds, where there is one; of a link the link alone. What cannot be removed stays."""
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)


#: a file that is made, and no other: neither one that is there nor what a link points to
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_TRIES = 8


def write_new(path: Path, pieces: Iterable[Buffer], *, flush: bool = True) -> None:
    """Write a file that is not there yet, or whose name a dead process left; ``flush``: and have it on the disk.

    Not atomic: for files of a folder that gets its name once it is whole, and for :func:`write_bytes`.
    """
    path.unlink(missing_ok=True)
    handle = os.open(path, _NEW, 0o666)
    try:
        _write_all(handle, pieces)
        if flush:
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_file(path: Path) -> Iterator[io.FileIO]:
    """Open a file that is not there yet, or whose name a dead process left, for what comes piece by piece."""
    path.unlink(missing_ok=True)
    with io.FileIO(os.open(path, _NEW, 0o666), "wb") as handle:
        yield handle


def append_bytes(path: Path, data: bytes) -> None:
    """Write at the end of a file, which is made if need be; after an error it is as long as before."""
    with disk_errors(path):
        with suppress(FileNotFoundError):
            refuse_other_kinds(path)  # who opens a pipe waits for its reader
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            size = os.fstat(handle).st_size
            try:
                _write_all(handle, [data])
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def _write_all(handle: int, pieces: Iterable[Buffer]) -> None:
    for piece in pieces:
        rest = memoryview(piece).cast("B")
        while rest:
            rest = rest[os.write(handle, rest) :]


def write_bytes(
    path: Path,
    data: Buffer | Sequence[Buffer],
    *,
    parents: bool = False,
    flush: bool = True,
    locked: bool = True,
    named: bool = False,
    advice: str = _ADVICE,
) -> None:
    """Write a file whole or not at all; where a link has its name, the link is replaced, not what it points to.

    ``flush``: have it on the disk before it gets its name, so that a power cut leaves no empty file there. ``locked``:
    no other process writes this file at the same time; else it is made under a name that is this process's own.
    ``parents``: in a folder that is made, and that other processes write to. ``named``: by the user, who may mean a
    device or a pipe, such as /dev/stdout: those are written to as they are.
    """
    pieces = [data] if isinstance(data, (bytes, bytearray, memoryview)) else list(data)
    with disk_errors(path, advice):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        if named and _is_stream(path):
            handle = os.open(path, os.O_WRONLY)
            try:
                _write_all(handle, pieces)
            finally:
                os.close(handle)
            return
        part = path.with_name(f".{path.name}.part")
        if parents or not locked:
            part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
            if fcntl is not None:
                _write_shared(path, part, pieces, flush)
                return
        try:
            write_new(part, pieces, flush=flush)
            part.replace(path)
        except BaseException:
            _forget(part)
            raise


def _is_stream(path: Path) -> bool:
    """Whether a name is that of a device or a pipe, also by a link such as /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _forget(part: Path) -> None:
    with suppress(OSError):
        part.unlink(missing_ok=True)


def _write_shared(path: Path, part: Path, pieces: list[Buffer], flush: bool) -> None:
    """Write a file that other processes write as well. Each holds a lock on the part it writes, so that the parts of
    those that died are known, and removed.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        _remove_dead(left)
    for _ in range(_TRIES):
        _forget(part)
        handle = os.open(part, _NEW, 0o666)
        try:
            if not _locked(handle, part):  # another process took it for a dead one's
                continue
            _write_all(handle, pieces)
            if flush:
                os.fsync(handle)
            part.replace(path)
            return
        except BaseException:
            _forget(part)
            raise
        finally:
            os.close(handle)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _locked(handle: int, part: Path) -> bool:
    """Lock a part; whether it still has its name then."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        return True
    return part.exists() and os.path.samestat(os.fstat(handle), part.stat())


def _remove_dead(part: Path) -> None:
    if part.is_symlink():
        return
    with suppress(OSError):
        handle = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any, **options: Any) -> None:
    """Write JSON whole or not at all; see :func:`json_text`; ``options`` of :func:`write_bytes`."""
    write_bytes(path, json_text(value, indent=1).encode() + b"\n", **options)


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
    """The exclusive right to write into a folder: a lock on ``folder/.lock``, gone with the process that holds it.

    ``name``: of the lock, where the right is one to write certain files alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        wait: float = 0.0,
        holder: str = "another process",
        advice: str = _WAIT,
        name: str = ".lock",
    ) -> None:
        path = folder / name
        self._lock: BaseFileLock
        with disk_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():  # what it points to would be emptied
                raise UserError(f"{path} is a link; remove it")
            # not for each thread: a finalizer may release it from another one
            self._lock = FileLock(path, timeout=wait, thread_local=False)
            try:
                self._acquire(path, wait)
            except Timeout:
                raise Busy(f"{holder} is working on {folder}; {advice}") from None
            self._path = Path(self._lock.lock_file)
            self._held = self._path.stat()

    def _acquire(self, path: Path, wait: float) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            if isinstance(error, TimeoutError) or error.errno not in _NO_FLOCK:
                raise
            # a file that only one process can make; a holder that died on this machine is found out by its pid
            link = path.with_name(f"{path.name}.link")
            warnings.warn(
                f"{path.parent} lies on a file system without locks ({error.strerror}): {link.name} stands for one; "
                "remove it if the machine that made it is gone",
                stacklevel=3,
            )
            self._lock = SoftFileLock(link, timeout=wait, thread_local=False)
            self._lock.acquire()

    def check(self) -> None:
        """Refuse to write where the folder was moved away, and perhaps another one took its name, since it was locked:
        a :class:`UserError`.
        """
        with suppress(FileNotFoundError):
            # a file that is not open may get another number on some network file systems
            if os.path.samestat(self._path.stat(), self._held) or isinstance(self._lock, SoftFileLock):
                return
        raise UserError(
            f"{self._path.parent} was moved, replaced or unlocked while it was written to; what was saved before is "
            "intact where it is now: start the same command with that --out to go on"
        )

    def release(self) -> None:
        """Let the next process in; a second call does nothing."""
        self._lock.release()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

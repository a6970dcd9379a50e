"""Fail, or kill this process, at the n-th call that touches a file below a folder.

Calls are seen where Python makes them: by an audit hook (open, rename, remove, mkdir, ...), which comes before the call
and may raise in its place, and by wrappers of ``os.write`` and ``os.fsync``. All that scaleinv writes goes through
these: its parts, weights and states are made in memory. For a forked child: a hook cannot be taken away again.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
#: a disk stays full or read-only; one block of it may be bad
LASTING = {errno.ENOSPC, errno.EROFS}


class Injection:
    """What happens at the calls below ``root``.

    ``at``: the number of the first call that it happens to (None: count alone). ``error``: this error is raised, at
    that call and, ``lasting``, at all later ones; None: the process is killed. Only calls that write count, unless
    ``reads``. Half of what a failing ``os.write`` was to write is written.
    """

    def __init__(
        self, root: Path, at: int | None, error: int | None = None, *, lasting: bool = True, reads: bool = False
    ) -> None:
        self.root, self.at, self.error, self.lasting, self.reads = os.fspath(root), at, error, lasting, reads
        self.calls: list[str] = []
        self._inside = False

    def install(self) -> Injection:
        """Watch from now on."""
        write, fsync = os.write, os.fsync

        def short_write(handle: int, data: Any) -> int:
            if self._is_below(f"/proc/self/fd/{handle}", handle):
                self._call("write", before=lambda: write(handle, memoryview(data)[: len(data) // 2]))
            return write(handle, data)

        def failing_fsync(handle: int) -> None:
            if self._is_below(f"/proc/self/fd/{handle}", handle):
                self._call("fsync")
            fsync(handle)

        os.write, os.fsync = short_write, failing_fsync  # type: ignore[assignment]
        sys.addaudithook(self._hear)
        return self

    def _is_below(self, path: Any, handle: int | None = None) -> bool:
        if handle is not None:
            path = os.readlink(path)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(os.fspath(path)).startswith(self.root)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self._inside:
            return
        if event == "open":
            path, flags = args[0], args[2] or 0
            if self._is_below(path) and (self.reads or flags & _WRITES):
                self._call(f"open {os.path.basename(os.fspath(path))}")
        elif event in _AUDITED and self._is_below(args[0]):
            self._call(f"{event} {os.path.basename(os.fspath(args[0]))}")

    def _call(self, what: str, before: Callable[[], Any] = lambda: None) -> None:
        number = len(self.calls)
        self.calls.append(what)
        if self.at is None or number < self.at or (number > self.at and not self.lasting):
            return
        self._inside = True
        try:
            before()
        finally:
            self._inside = False
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.error, os.strerror(self.error))


class Ended(NamedTuple):
    """How a forked child ended: ``ok``, ``user error``, ``killed`` or ``traceback``; and what it said."""

    how: str
    said: str


def in_child(action: Callable[[], None], injection: Injection | None = None, told: str = "") -> Ended:
    """Run ``action`` in a forked child; ``told``: give the calls of the injection as what it said.

    ``ok``: it returned. ``user error``: a UserError (exit status 2 of a command). ``traceback``: any other exception.
    """
    return begin(action, injection, told)()


def begin(action: Callable[[], None], injection: Injection | None = None, told: str = "") -> Callable[[], Ended]:
    """Start a child as :func:`in_child` does; what is given back waits for its end."""
    from scaleinv.errors import UserError

    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child uses none of them
        child = os.fork()
    if child == 0:
        os.close(reads)
        how, said = "traceback", ""
        try:
            if injection is not None:
                injection.install()
            action()
            how, said = "ok", "\n".join(injection.calls) if injection is not None and told else ""
        except UserError as error:
            how, said = ("user error" if "\n" not in str(error) else "traceback"), str(error)
        except BaseException:
            said = traceback.format_exc()
        finally:
            with os.fdopen(writes, "w") as pipe:
                pipe.write(f"{how}\n{said}")
            os._exit(0)
    os.close(writes)

    def end() -> Ended:
        with os.fdopen(reads) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return Ended("killed", f"signal {os.WTERMSIG(status)}")
        how, _, said = text.partition("\n")
        return Ended(how, said)

    return end

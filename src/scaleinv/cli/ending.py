"""End a command: whatever stops it is one line on stderr and an exit code; what is a bug keeps its traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from scaleinv.errors import StateError, UserError, how_to_install
from scaleinv.text import visible

#: exit codes: a mistake of the user's, an interruption
MISTAKE, INTERRUPTED = 2, 130
#: characters of a word that a line shows of it
_WORD = 300
_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory")


class Watched:
    """A stream that remembers the error of a write: it is told from that of another file by being the same object."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, and remember why it failed."""
        with self._remembering():
            return self.stream.write(text)

    def flush(self) -> None:
        """Write what waits, and remember why it failed."""
        with self._remembering():
            self.stream.flush()

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def watched_streams() -> Iterator[bool]:
    """Have the three standard streams open, so that no file of ours gets their numbers; gives whether stdout was.

    Text that an encoding has no word for is written by its code: a name may hold what a terminal of ASCII does not.
    Afterwards what a full or broken stream still holds is dropped: the interpreter's end would fail on it.
    """
    closed = [number for number in range(3) if _opened(number)]
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the life of the process
    streams = sys.stdout, sys.stderr
    for stream in streams:
        with suppress(AttributeError, OSError, ValueError):  # a stream of a test or a notebook
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = (cast(TextIO, Watched(stream)) for stream in streams)
    try:
        yield 1 not in closed
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:
            _drop(stream)


def _opened(number: int) -> bool:
    """Open a standard stream that is closed; tell whether it was."""
    try:
        os.fstat(number)
    except OSError:
        there = os.open(os.devnull, os.O_RDWR)
        if there != number:
            os.dup2(there, number)
            os.close(there)
        return True
    return False


def _drop(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def complain(message: str, code: int = MISTAKE) -> int:
    """Print one line for the user and return the exit code; a stderr that is full or gone changes nothing."""
    words = (word if len(word) <= _WORD else f"{word[: _WORD // 2]}…{word[-_WORD // 2 :]}" for word in message.split())
    with suppress(OSError, ValueError):
        print("scaleinv: " + visible(" ".join(words)), file=sys.stderr, flush=True)
    return code


def reader_left(error: BaseException) -> bool:
    """Tell whether ``error`` comes of a pipe on stdout or stderr whose reader (head, less) has left."""
    if isinstance(error, SystemExit):  # how rich ends a program in this case
        return isinstance(error.__context__, BrokenPipeError)
    return isinstance(error, BrokenPipeError) and _of_stream(error)


def _of_stream(error: BaseException) -> bool:
    return any(getattr(stream, "error", None) is error for stream in (sys.stdout, sys.stderr))


def told(error: BaseException, name: str, extra: str = "lab") -> int | None:
    """Tell what stopped the command ``name`` in one line and give its exit code; None where it is a bug of ours."""
    if reader_left(error):
        return 0
    if isinstance(error, KeyboardInterrupt):
        remedy = str(error) or f"the same command resumes where `{name}` stopped"
        return complain(f"interrupted; {remedy}", INTERRUPTED)
    if isinstance(error, ModuleNotFoundError) and (error.name or "scaleinv").partition(".")[0] != "scaleinv":
        install = how_to_install(error.name or "", extra)
        return complain(f"`scaleinv {name}` needs {error.name}, which is not installed: {install}")
    if isinstance(error, UserError):
        return complain(str(error))
    if isinstance(error, StateError):
        return complain(f"{error}; the weights are as they were before that step")
    if isinstance(error, RecursionError):
        return complain("the input lies deeper within itself than Python's stack; give one that is less deep")
    if isinstance(error, MemoryError) or _out_of_memory(error):
        said = f" ({str(error).splitlines()[0][:200]})" if str(error) else ""
        return complain(f"there is not enough memory{said}; take a smaller model, batch or shape, or fewer workers")
    if isinstance(error, OSError):
        return complain(_told_of_system(error))
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Tell torch's own errors, which are RuntimeErrors, by their words."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY)


def _told_of_system(error: OSError) -> str:
    why = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return f"cannot use {error.filename}: {why}"
    return f"cannot write the answer: {why}" if _of_stream(error) else f"the system refuses: {why}"

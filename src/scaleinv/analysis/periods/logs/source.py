"""Open a file of a log: as text or bytes, packed by gzip or not, never more than a bounded size.

A run that is killed leaves a file that ends anywhere: within a number, a character or a block of gzip, or in zeros that
were never written. What is whole is read, and what is left out is told.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.reading import refuse_other_kinds

#: the most bytes that are read of one file, after unpacking
MOST_BYTES = 1 << 30
_NOT_TEXT = "{} is not text; a table of columns, JSON, or lines of numbers with names are needed"


class _Bounded(io.RawIOBase):
    """A stream that ends with an error once more than ``MOST_BYTES`` came out of it, and where a packed file is cut."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path, self._read = stream, path, 0
        self.cut = False  # the file ends before what is packed in it does

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._stream.read1(len(buffer))  # one block: with read() what comes before a cut would be lost
        except EOFError:
            if not self._read:
                raise
            self.cut, chunk = True, b""
        self._read += len(chunk)
        if self._read > MOST_BYTES:
            raise UserError(
                f"{self._path} holds more than {MOST_BYTES >> 20} MiB; keep every n-th row, or fewer columns"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for bytes, unpacked where it is packed.

    Errors: UserError for a file that is not there, cannot be read, is packed and damaged, or is too large.
    """
    try:
        refuse_other_kinds(path)
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            yield io.BufferedReader(_Bounded(stream, path), 1 << 16)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a log or the folder of a run") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is packed by gzip and damaged ({error})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _end(error: UnicodeError) -> tuple[str, int]:
    """Leave out a character of which the file ends within; any other error stays one."""
    if isinstance(error, UnicodeDecodeError) and error.end == len(error.object) and error.reason in _ENDS:
        return "", error.end
    raise error


#: what the decoders of UTF-8 and UTF-16 say of a last character that is not whole
_ENDS = ("unexpected end of data", "truncated data")
codecs.register_error("scaleinv.end", _end)
#: a last line that ends in one of these, and not in a new line, may end within a number
_WITHIN_NUMBERS = frozenset("0123456789.,eE+-")


class TextLines:
    """Lines of text, UTF-8 or UTF-16 with its mark; as csv wants them, with their ends.

    A last line without its end that ends in a number is left out, since ``4.1e-3`` may have been cut to ``4``; so are
    zeros at the end of a file, which a machine that went down leaves, and marks of byte order before any line.

    Raises UserError for a file that is not text.
    """

    def __init__(self, path: Path, stream: io.BufferedReader) -> None:
        start = stream.peek(4)[:4]
        encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") and len(start) > 2 else "utf-8-sig"
        self._path, self._stream = path, stream
        self._lines = iter(io.TextIOWrapper(stream, encoding=encoding, errors="scaleinv.end", newline=""))
        self._first, self._last = True, False  # no line was given yet; the line given last has no end
        # bytes came, and as yet no character: if that stays so, the file is half a one
        self._half = bool(start.removeprefix(codecs.BOM_UTF8).removeprefix(start[:2] if encoding == "utf-16" else b""))
        self.said: list[str] = []  # what was left out at the end of the file

    @property
    def at_cut(self) -> bool:
        """Tell whether the line given last is one without its end, which need not be whole."""
        return self._last

    def __iter__(self) -> "TextLines":
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except UnicodeError:
            raise UserError(_NOT_TEXT.format(self._path)) from None
        except StopIteration:
            if self._half:  # of all its bytes not one character came
                raise UserError(_NOT_TEXT.format(self._path)) from None
            if getattr(self._stream.raw, "cut", False):
                self.said.append(f"{self._path.name} is packed and cut short: what it holds up to there is read.")
            raise
        self._half = False
        if line[0] == "\ufeff":  # of a file that was added to this one
            line = line.lstrip("\ufeff")
        if line.endswith(("\n", "\r")):
            if "\0" in line:
                raise UserError(_NOT_TEXT.format(self._path))
            self._first = False
            return line
        self._last = True
        whole = line.rstrip("\0")
        if "\0" in whole:
            raise UserError(_NOT_TEXT.format(self._path))
        if len(whole) < len(line):
            self.said.append(
                f"Zeros at the end of {self._path.name}, as a machine that went down leaves them, are left out."
            )
        if whole and whole[-1] in _WITHIN_NUMBERS and not self._first:
            self.leave_out()
            return ""
        return whole

    def leave_out(self) -> None:
        """Say that the last line is not read."""
        self.said.append(f"The last line of {self._path.name} is cut short, as a killed run leaves it; it is left out.")

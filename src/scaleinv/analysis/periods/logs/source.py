"""Open a file of a log: as text or bytes, packed by gzip or not, never more than a bounded size."""

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
    """A stream that ends with an error once more than ``MOST_BYTES`` came out of it."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path, self._read = stream, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(len(buffer))
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


def lines(path: Path, stream: io.BufferedReader) -> Iterator[str]:
    """Read lines of text, UTF-8 or UTF-16 with its mark; as csv wants them, with their ends.

    Errors: UserError for a file that is not text.
    """
    start = stream.peek(4)[:4]
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") and len(start) > 2 else "utf-8-sig"
    try:
        for line in io.TextIOWrapper(stream, encoding=encoding, newline=""):
            if "\0" in line:
                raise UserError(_NOT_TEXT.format(path))
            yield line
    except UnicodeError:
        raise UserError(_NOT_TEXT.format(path)) from None

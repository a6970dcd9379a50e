"""Store every measurement as a tidy row, and the rows in Parquet parts. See docs/architecture.md.

pyarrow is imported where a part is written or read: a Monitor writes rows without it as lines of JSON.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from scaleinv.errors import UserError
from scaleinv.reading import parse_json
from scaleinv.runfolder.files import content_of
from scaleinv.runfolder.manifest import Manifest, damaged, read_manifest
from scaleinv.runfolder.seal import checking


class Row(NamedTuple):
    """One measured number. ``step`` and ``epoch`` count what was done before it was measured; NaN = not measured."""

    step: int
    epoch: int
    split: str  # online | train | test | reference
    group: str  # total, or the name of a group, or of a random direction
    quantity: str
    value: float


_Read = TypeVar("_Read")

COLUMNS = Row._fields
TEXTS = ("split", "group", "quantity")
_TRIES = 5
_TYPES = ("int64", "int64", "string", "string", "string", "float64")


def to_table(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Make a pyarrow table of rows."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in zip(COLUMNS, _TYPES)])
    columns = zip(*rows) if rows else ((),) * len(COLUMNS)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema)], schema=schema)


def part_bytes(table: Any) -> Any:
    """Make the bytes of a Parquet part of a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd")
    return memoryview(stream.getvalue())


def read_part(path: Path, data: bytes | None = None) -> Any:
    """Read a Parquet part as a pyarrow table; ``data``: its bytes, where they are at hand.

    Errors: FileNotFoundError where it is gone, UserError where it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(content_of(path) if data is None else data), partitioning=None)
    except (FileNotFoundError, UserError):
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise damaged(path, f"is damaged ({' '.join(str(error).split())})") from None


def read_parts(
    folder: Path, pattern: str, final: str, read: Callable[[Path, bytes], _Read], listed: Manifest | None = None
) -> list[_Read]:
    """Read all parts of a ``pattern`` in a run's ``metrics`` folder, in the order of their names, each as it was
    written; the ``final`` one holds them all, once it is there. ``listed``: the run's list, where it was just read.

    A run that ends joins its parts into one, so a part may be gone since they were listed.
    """
    for _ in range(_TRIES):
        manifest = listed or (read_manifest(folder.parent) if checking() else None)
        listed = None
        if manifest is None:
            paths = sorted(folder.glob(pattern))
        else:
            paths = [manifest.folder / name for name in manifest.names(f"{folder.name}/{pattern}")]
        if folder / final in paths:
            paths = [folder / final]
        with suppress(FileNotFoundError):
            return [found for path in paths for found in _read_whole(path, manifest, read)]
    gone = [path for path in paths if not path.exists()]
    raise damaged(gone[0], "is gone") if gone else UserError(f"{folder}: its files keep changing; try again")


def _read_whole(path: Path, manifest: Manifest | None, read: Callable[[Path, bytes], _Read]) -> list[_Read]:
    """Read a part and compare it; nothing of one whose first writing was cut short."""
    name = f"{path.parent.name}/{path.name}"
    try:
        data = content_of(path)
    except FileNotFoundError:
        if manifest is not None and manifest.may_lack(name):
            return []
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return [read(path, data if manifest is None else manifest.checked(name, data))]


def to_line(row: tuple[Any, ...]) -> str:
    """Write a row as a line of JSON; NaN and infinities become texts that ``float()`` reads.

    >>> to_line(Row(0, 0, "online", "total", "loss", math.inf))
    '{"step": 0, "epoch": 0, "split": "online", "group": "total", "quantity": "loss", "value": "inf"}'
    """
    value = row[-1] if math.isfinite(row[-1]) else str(row[-1])
    return json.dumps(dict(zip(COLUMNS, (*row[:-1], value))))


def counts(path: Path) -> bool:
    """Whether a file of lines is there and part of the run. Errors: Damaged where it should be and is gone."""
    for _ in range(_TRIES):
        manifest, there = read_manifest(path.parent) if checking() else None, path.exists()
        if manifest is None:
            return there
        if path.name not in manifest.files:
            return False
        if there or manifest.may_lack(path.name):
            return there
    raise damaged(path, "is gone")  # not just made into a part of Parquet, after the list was read


def read_text_of_lines(path: Path, *, strict: bool = True) -> list[str]:
    """Read the lines of a run's file of lines, those that are whole; ``strict``: only UTF-8 counts.

    Errors: UserError where it cannot be read or is damaged.
    """
    try:
        data = content_of(path)
        manifest = read_manifest(path.parent) if checking() else None
        if manifest is not None:
            data = manifest.checked(path.name, data)
        return data.decode("utf-8", "strict" if strict else "replace").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def read_lines(path: Path, *, whole: bool = False) -> list[Row]:
    """Read the rows of a file of lines; the last line may not be whole yet, unless ``whole``."""
    rows = []
    lines = read_text_of_lines(path)
    for number, line in enumerate(lines, 1):
        try:
            item = parse_json(line)
            rows.append(Row(**{name: item[name] for name in COLUMNS[:-1]}, value=float(item["value"])))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines) and not whole:
                break
            raise UserError(f"{path}, line {number} is damaged ({error}); remove the line") from None
    return rows

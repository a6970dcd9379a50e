"""Store every measurement as a tidy row, and the rows in Parquet parts. See docs/architecture.md.

pyarrow is imported where a part is written or read: a Monitor writes rows without it as lines of JSON.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from scaleinv.errors import UserError
from scaleinv.reading import parse_json
from scaleinv.runfolder.files import sha256, written


class Row(NamedTuple):
    """One measured number. ``step`` and ``epoch`` count what was done before it was measured; NaN = not measured."""

    step: int
    epoch: int
    split: str  # online | train | test | reference
    group: str  # total, or the name of a group, or of a random direction
    quantity: str
    value: float


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


def write_part(path: Path, table: Any, *, flush: bool = True) -> str:
    """Write a table as a Parquet part, whole or not at all; returns its sha256."""
    import pyarrow.parquet as pq

    with written(path, flush=flush) as part:
        pq.write_table(table, part, compression="zstd")
        return sha256(part)


def read_part(path: Path) -> Any:
    """Read a Parquet part as a pyarrow table.

    Errors: FileNotFoundError where it is gone, UserError where it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is damaged ({' '.join(str(error).split())}): remove the run's folder and run it again"
        ) from None


def read_parts(folder: Path, pattern: str, final: str, read: Callable[[Path], Any]) -> list[Any]:
    """Read all parts of a ``pattern`` in the order of their names; the ``final`` one holds them all, once it is there.

    A run that ends joins its parts into one, so a part may be gone since they were listed.
    """
    for _ in range(_TRIES):
        parts = sorted(folder.glob(pattern))
        if folder / final in parts:
            parts = [folder / final]
        with suppress(FileNotFoundError):
            return [read(part) for part in parts]
    raise UserError(f"{folder}: its files keep changing while they are read; try again")


def to_line(row: tuple[Any, ...]) -> str:
    """Write a row as a line of JSON; NaN and infinities become texts that ``float()`` reads.

    >>> to_line(Row(0, 0, "online", "total", "loss", math.inf))
    '{"step": 0, "epoch": 0, "split": "online", "group": "total", "quantity": "loss", "value": "inf"}'
    """
    value = row[-1] if math.isfinite(row[-1]) else str(row[-1])
    return json.dumps(dict(zip(COLUMNS, (*row[:-1], value))))


def read_lines(path: Path, *, whole: bool = False) -> list[Row]:
    """Read the rows of a file of lines; the last line may not be whole yet, unless ``whole``."""
    rows = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            item = parse_json(line)
            rows.append(Row(**{name: item[name] for name in COLUMNS[:-1]}, value=float(item["value"])))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines) and not whole:
                break
            raise UserError(f"{path}, line {number} is damaged ({error}); remove the line") from None
    return rows

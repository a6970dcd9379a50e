"""The tidy rows in which every measurement is stored; see docs/architecture.md for the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from scaleinv.runfolder.files import disk_errors, sha256, sync


class Row(NamedTuple):
    """One measured number. ``step`` and ``epoch`` count what was done before it was measured; NaN = not measured."""

    step: int
    epoch: int
    split: str  # online | train | test | reference
    group: str  # total, or the name of a group, or of a random direction
    quantity: str
    value: float


SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)


def _table(rows: Sequence[Row]) -> pa.Table:
    columns = zip(*rows) if rows else ((),) * len(SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA)], schema=SCHEMA)


def _write_part(path: Path, table: pa.Table) -> str:
    """Write a part whole or not at all; its sha256."""
    part = path.with_name(f".{path.name}.part")
    with disk_errors(path):
        try:
            pq.write_table(table, part, compression="zstd")
            sync(part)
            checksum = sha256(part)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    return checksum

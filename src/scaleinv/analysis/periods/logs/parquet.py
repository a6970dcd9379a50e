"""Read a table in Parquet: the whole history of a run that W&B keeps as an artifact, or pandas' to_parquet."""

from pathlib import Path

import numpy as np

from scaleinv.analysis.periods.logs.table import MOST_ROWS, Table
from scaleinv.errors import UserError, needs

with needs("lab"):
    import pyarrow as pa
    import pyarrow.parquet as pq


def read_parquet(path: Path) -> Table:
    """Read the columns of numbers; a null is a missing cell, and NaN is NaN.

    Errors: UserError for a file that is not there, is no Parquet, or has too many rows.
    """
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MOST_ROWS:
            raise UserError(f"{path} has more than {MOST_ROWS} rows; keep every n-th row")
        numbers = [
            field.name
            for field in file.schema_arrow
            if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        ]
        table = file.read(columns=numbers)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a log or the folder of a run") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no Parquet file that can be read ({str(error)[:80]})") from None
    columns, given = {}, {}
    for name, column in zip(table.column_names, table.columns):
        columns[name] = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        given[name] = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    return Table("a Parquet file", columns, given)

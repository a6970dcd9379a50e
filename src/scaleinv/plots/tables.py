"""Make tables of pandas, where it is installed."""

from collections.abc import Mapping, Sequence
from typing import Any

from scaleinv.errors import UserError


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Make a DataFrame of rows; UserError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise UserError("tables need pandas, which is not installed: pip install pandas") from None
    return pandas.DataFrame(list(rows))

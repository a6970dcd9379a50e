"""Read a table of cells: CSV with commas, semicolons or tabs, and any names.

Not by pyarrow.csv, whose errors do not name the line of a file with empty lines or quoted line breaks.
"""

import csv
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.periods.logs.table import MOST_ROWS, Builder, Table, number
from scaleinv.errors import UserError

#: cells that stand for a value that is not there
MISSING = frozenset(("", "none", "null", "n/a", "na", "-", "<na>"))
#: a whole number with commas between its thousands, in a table whose cells commas set apart, and what it counts
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_COUNTS = re.compile(r"step|iter|batch|token|sample|epoch", re.IGNORECASE)
#: the columns of a table with one value a row, and what kind of value it is
_KEYS = ("key", "metric", "tag", "name", "metric_name", "metrickey")


def split_by(line: str) -> str:
    """Choose what separates the cells of a line: the one of ``; tab ,`` that comes most often, outside quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(";\t,", key=bare.count)


def read_delimited(path: Path, lines: Iterator[str], comment: str = "#") -> Table:
    """Read a table with a line of names; ``nan`` and ``inf`` are numbers, an empty cell is a missing one.

    Errors: UserError that names file and line, where a line has another number of cells than the line of names.
    """
    first = next((line for line in lines if line.strip() and not line.startswith(comment + " ")), None)
    if first is None:
        raise UserError(f"{path} is empty; a line of column names and rows are needed")
    reader = csv.reader(chain([first], lines), delimiter=split_by(first))
    try:
        names = _distinct([name.strip().strip("\ufeff") for name in next(reader)])
        long = _long(names)
        if long:
            return _pivot(path, names, long, reader)
        return _columns(path, names, reader, thousands=split_by(first) == ",")
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not CSV ({error})") from None


def _distinct(names: Sequence[str]) -> list[str]:
    """Give a name that comes twice a number."""
    found: list[str] = []
    for name in names:
        number_of = found.count(name)
        found.append(f"{name}.{number_of}" if number_of and name else name)
    return found


def _columns(path: Path, names: Sequence[str], rows: Any, thousands: bool = False) -> Table:
    values = [array("d") for _ in names]
    given = [array("b") for _ in names]
    wrong: dict[str, str] = {}
    places = list(enumerate(names))
    nan, commas, apart = float("nan"), False, False
    for cells in rows:
        if len(cells) != len(names):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
                raise UserError(f"{path}: line {rows.line_num} has {len(cells)} cells, the line of names {len(names)}")
        for place, name in places:
            cell = cells[place]
            try:
                values[place].append(float(cell))
                given[place].append(1)
                continue
            except ValueError:
                cell = cell.strip()
            if thousands and _THOUSANDS.fullmatch(cell) and _COUNTS.search(name):
                cell, apart = cell.replace(",", ""), True
            found = None if cell.lower() in MISSING else number(cell)
            if found is not None:
                commas = commas or "," in cell
            elif cell.lower() not in MISSING and name not in wrong:
                wrong[name] = f"{path}: line {rows.line_num}, column {name}: {cell[:40]!r} is not a number"
            values[place].append(nan if found is None else found)
            given[place].append(found is not None)
        if len(values[0]) > MOST_ROWS:
            raise UserError(f"{path} has more than {MOST_ROWS} rows; keep every n-th row")
    said: tuple[str, ...] = ("Commas within cells are read as decimal points.",) if commas else ()
    if apart:
        said += ("Commas within steps are read as between thousands.",)
    columns = {name: np.frombuffer(v, dtype=np.float64) if len(v) else np.empty(0) for name, v in zip(names, values)}
    known = {
        name: np.frombuffer(g, dtype=np.int8).astype(bool) if len(g) else np.empty(0, bool)
        for name, g in zip(names, given)
    }
    return Table("a table", columns, known, wrong, said, pandas=True)


def _long(names: Sequence[str]) -> tuple[int, int] | None:
    """Find the columns of key and value, where a table has one value a row (MLflow, tidy tables)."""
    lower = [name.lower() for name in names]
    keys = [lower.index(key) for key in _KEYS if key in lower]
    return (keys[0], lower.index("value")) if keys and "value" in lower else None


def _pivot(path: Path, names: Sequence[str], long: tuple[int, int], rows: Iterable[list[str]]) -> Table:
    """Turn a table with one value a row into one with a column for every key; the other columns stay."""
    key, value = long
    built = Builder(str(path))
    others = [(place, name) for place, name in enumerate(names) if place not in long]
    for cells in rows:
        if len(cells) < len(names):
            continue
        row = [(cells[key].strip(), number(cells[value].strip()))]
        row += [(name, number(cells[place].strip())) for place, name in others]
        built.add((name, found) for name, found in row if found is not None)
    return built.table("a table of one value a row", long=True)

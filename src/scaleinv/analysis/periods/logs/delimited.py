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

from scaleinv.analysis.periods.logs.source import TextLines
from scaleinv.analysis.periods.logs.table import MOST_ROWS, Builder, Table, left_out, lines_of, number
from scaleinv.errors import UserError

#: cells that stand for a value that is not there
MISSING = frozenset(("", "none", "null", "n/a", "na", "-", "<na>"))
#: a whole number with commas between its thousands, in a table whose cells commas set apart, and what it counts
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_COUNTS = re.compile(r"step|iter|batch|token|sample|epoch", re.IGNORECASE)
#: where more rows than this share are not whole, the file is no such table
_MOST_SHORT = 0.05
#: the columns of a table with one value a row, and what kind of value it is
_KEYS = ("key", "metric", "tag", "name", "metric_name", "metrickey")


def split_by(line: str) -> str:
    """Choose what separates the cells of a line: the one of ``; tab ,`` that comes most often, outside quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(";\t,", key=bare.count)


def read_delimited(path: Path, lines: Iterator[str], end: TextLines | None = None, comment: str = "#") -> Table:
    """Read a table with a line of names; ``nan`` and ``inf`` are numbers, an empty cell is a missing one.

    The line of names may come again, with the same columns or others, as a logger writes it that goes on. A line that
    is not whole is left out, and told.

    - ``end``: the lines of the file, which know whether the last one is cut.
    - Raises UserError that names file and line, where more than one line in twenty has another number of cells than the
      line of names.
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
        return _columns(path, names, reader, split_by(first) == ",", end)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not CSV ({error})") from None


def _distinct(names: Sequence[str]) -> list[str]:
    """Give a name that comes twice a number."""
    found: list[str] = []
    for name in names:
        number_of = found.count(name)
        found.append(f"{name}.{number_of}" if number_of and name else name)
    return found


class _Column:
    """The cells of a column so far, and what is wrong with the first that is no number."""

    def __init__(self, name: str, rows: int = 0) -> None:
        self.name, self.wrong = name, ""
        self.values, self.given = array("d"), array("b")
        self.fill(rows)

    def fill(self, rows: int) -> None:
        """Leave the cells up to ``rows`` empty: of rows below a line of names that lacks this one."""
        lacking = rows - len(self.values)
        self.values.extend([float("nan")] * lacking)
        self.given.extend([0] * lacking)


def _columns(path: Path, names: Sequence[str], rows: Any, thousands: bool, end: TextLines | None) -> Table:
    columns = {name: _Column(name) for name in names}
    places = list(enumerate(columns.values()))
    width, count_of, again = len(names), 0, []
    short: list[tuple[int, int]] = []  # line and number of cells of rows that are not whole
    nan, commas, apart = float("nan"), False, False
    for cells in rows:
        whole = len(cells) == width
        if not whole and (not any(cell.strip() for cell in cells) or cells[0].startswith("# ")):
            continue
        if not (whole and _is_number(cells[0])) and _is_names(cells, columns):
            again.append(rows.line_num)
            width, found_names = len(cells), _distinct([cell.strip() for cell in cells])
            for name in found_names:
                columns.setdefault(name, _Column(name))
            for column in columns.values():
                column.fill(count_of)
            places = [(place, columns[name]) for place, name in enumerate(found_names)]
            continue
        if not whole and end is not None and end.at_cut and len(cells) <= width:
            end.leave_out()
            continue
        if not whole and (len(cells) < width or any(cell.strip() for cell in cells[width:])):
            short.append((rows.line_num, len(cells)))
            continue
        count_of += 1
        for place, column in places:
            cell = cells[place]
            try:
                column.values.append(float(cell))
                column.given.append(1)
                continue
            except ValueError:
                cell = cell.strip()
            if thousands and _THOUSANDS.fullmatch(cell) and _COUNTS.search(column.name):
                cell, apart = cell.replace(",", ""), True
            found = None if cell.lower() in MISSING else number(cell)
            if found is not None:
                commas = commas or "," in cell
            elif cell.lower() not in MISSING and not column.wrong:
                column.wrong = f"{path}: line {rows.line_num}, column {column.name}: {cell[:40]!r} is not a number"
            column.values.append(nan if found is None else found)
            column.given.append(found is not None)
        if count_of > MOST_ROWS:
            raise UserError(f"{path} has more than {MOST_ROWS} rows; keep every n-th row")
    if len(short) > _MOST_SHORT * (count_of + len(short)):
        line, has = short[0]
        raise UserError(f"{path}: line {line} has {has} cells, the line of names {len(names)}")
    said: tuple[str, ...] = ("Commas within cells are read as decimal points.",) if commas else ()
    if apart:
        said += ("Commas within steps are read as between thousands.",)
    if again:
        said += (f"The line of names comes again in {lines_of(again)}: a logger that went on, or files put together.",)
    if short:
        said += (left_out([line for line, _ in short], "rows with too few or too many cells"),)
    for column in columns.values():
        column.fill(count_of)
    return Table(
        "a table",
        {name: np.array(column.values, dtype=np.float64) for name, column in columns.items()},
        {name: np.array(column.given, dtype=bool) for name, column in columns.items()},
        {name: column.wrong for name, column in columns.items() if column.wrong},
        said,
        pandas=True,
    )


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or number(cell.strip()) is not None


def _is_names(cells: Sequence[str], known: Iterable[str]) -> bool:
    """Tell a line of names that comes again, with the same columns or others."""
    found = [cell.strip() for cell in cells if cell.strip()]
    return sum(cell in known for cell in found) > 0.5 * len(found) and not any(map(_is_number, found))


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

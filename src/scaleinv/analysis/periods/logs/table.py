"""Hold what a log file has, before it is known which column is what."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Floats

Given = npt.NDArray[np.bool_]
#: a log with more names than this is none
MOST_NAMES = 5000
#: a log with more rows than this is refused, before memory is
MOST_ROWS = 20_000_000


@dataclass(frozen=True)
class Table:
    """Columns of n rows, in the order of the file."""

    form: str  # in words: "a CSV file"
    columns: dict[str, Floats]  # shape (n,); NaN where a cell is missing or holds NaN
    given: dict[str, Given]  # shape (n,); False where a cell is missing
    wrong: dict[str, str] = field(default_factory=dict)  # column -> what is wrong with its first bad cell
    said: tuple[str, ...] = ()  # what a reader of the answer should know
    norm_is_gradient: bool = False  # a bare "norm" of this form is the gradient's
    long: bool = False  # one value a row: the order of the rows says nothing
    pandas: bool = False  # a missing cell may be a NaN, which pandas writes so

    def __len__(self) -> int:
        return max((len(column) for column in self.columns.values()), default=0)

    def known(self, name: str) -> bool:
        """Tell whether any cell of a column is there."""
        return bool(self.given[name].any())


class Builder:
    """Collect cells row by row, where a row may have any columns."""

    def __init__(self, where: str) -> None:
        self.where, self.rows = where, 0
        self._cells: dict[str, tuple[array[int], array[float]]] = {}

    def add(self, cells: Iterable[tuple[str, float]]) -> None:
        """Add a row; of a name that comes twice the first counts."""
        seen = set()
        for name, value in cells:
            if name not in self._cells:
                if len(self._cells) >= MOST_NAMES:
                    raise UserError(f"{self.where} has more than {MOST_NAMES} different names: it is not a log")
                self._cells[name] = (array("q"), array("d"))
            if name not in seen:
                seen.add(name)
                rows, values = self._cells[name]
                rows.append(self.rows)
                values.append(value)
        if seen:
            self.rows += 1
            if self.rows > MOST_ROWS:
                raise UserError(f"{self.where} has more than {MOST_ROWS} rows; keep every n-th row")

    def table(
        self, form: str, *, said: tuple[str, ...] = (), norm_is_gradient: bool = False, long: bool = False
    ) -> Table:
        """Make the table of all rows."""
        columns, given = {}, {}
        for name, (rows, values) in self._cells.items():
            at = np.frombuffer(rows, dtype=np.int64)
            columns[name] = np.full(self.rows, np.nan)
            columns[name][at] = np.frombuffer(values, dtype=np.float64)
            given[name] = np.zeros(self.rows, dtype=bool)
            given[name][at] = True
        return Table(form, columns, given, said=said, norm_is_gradient=norm_is_gradient, long=long)


def number(text: str, *, commas: bool = True) -> float | None:
    """Read a number as people write it; None where it is none.

    - ``commas``: a comma may be the decimal point: ``3,14``, ``1.234,5``.

    >>> number("3.5"), number("1,5e-3"), number("1.234,5"), number("NaN"), number("high")
    (3.5, 0.0015, 1234.5, nan, None)
    """
    try:
        return float(text)
    except ValueError:
        pass
    text = text.replace("\u00a0", "").replace("\u2212", "-").strip()
    if commas and text.count(",") == 1:
        whole, _, rest = text.partition(",")
        text = f"{whole.replace('.', '')}.{rest}"
    elif text.count(",") > 1:
        text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        return None


def lines_of(numbers: Sequence[int]) -> str:
    """Name lines of a file: the first few.

    >>> lines_of([7]), lines_of([7, 9]), lines_of([1, 2, 3, 4, 5])
    ('line 7', 'lines 7 and 9', '5 lines, the first is line 1')
    """
    if len(numbers) > 2:
        return f"{len(numbers)} lines, the first is line {numbers[0]}"
    return "line " + str(numbers[0]) if len(numbers) == 1 else f"lines {numbers[0]} and {numbers[1]}"


def left_out(numbers: Sequence[int], what: str) -> str:
    """Say which lines of a file are left out.

    >>> left_out([7], "no JSON"), left_out([7, 8], "no JSON")
    ('Left out as no JSON: line 7.', 'Left out as no JSON: lines 7 and 8.')
    """
    return f"Left out as {what}: {lines_of(numbers)}."

"""Read the metrics of a run of MLflow from its folder: a file a metric, lines of time, value and step."""

import re
from collections.abc import Sequence
from pathlib import Path

from scaleinv.analysis.periods.logs.source import TextLines, opened
from scaleinv.analysis.periods.logs.table import Builder, Table
from scaleinv.errors import UserError

_LINE = re.compile(r"\d+ \S+ -?\d+")


def is_metric(path: Path) -> bool:
    """Tell whether a file holds lines such as ``1700000000000 2.31 10``."""
    if path.suffix in (".csv", ".json", ".gz") or not path.is_file():
        return False
    with path.open("rb") as file:
        return bool(_LINE.fullmatch(file.readline(200).decode("ascii", "replace").strip()))


def read_metrics(files: Sequence[Path]) -> Table:
    """Read the files of one run; a metric's name is its file's, below the folder ``metrics``.

    Errors: UserError that names file and line, where a line is no time, value and step.
    """
    built = Builder(str(files[0].parent))
    said: list[str] = []
    for path in files:
        parts = path.parts
        name = "/".join(parts[len(parts) - parts[::-1].index("metrics") :])
        with opened(path) as stream:
            read = TextLines(path, stream)
            for number, line in enumerate(read, 1):
                cells = line.split()
                try:
                    built.add([("step", float(cells[2])), (name, float(cells[1]))])
                except (IndexError, ValueError):
                    if cells:
                        raise UserError(f"{path}: line {number} is no time, value and step of MLflow") from None
            said += read.said
    return built.table("metrics of MLflow", said=tuple(said), long=True)

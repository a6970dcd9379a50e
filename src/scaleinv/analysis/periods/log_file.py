"""Read a CSV log of one's own: columns step, loss, rho and, if there, eg, lr, wd, angle; the rest is left alone.

Not by pyarrow.csv, whose errors do not name the line of a file with empty lines or quoted line breaks.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.errors import UserError

#: what a log may hold; a column may have other names in the wild
COLUMNS = {
    "step": ("step", "steps", "_step", "iteration", "iter"),
    "loss": ("loss", "train_loss", "train/loss"),
    "rho": ("rho", "norm", "weight_norm"),
    "rho_sq": ("rho_sq", "rho^2"),
    "eg": ("eg", "effective_gradient"),
    "g": ("g", "grad_norm", "gradient_norm"),
    "lr": ("lr", "learning_rate"),
    "wd": ("wd", "weight_decay"),
    "angle": ("angle",),
}
NEEDED = ("step", "loss", "rho")


def read_csv(path: Path) -> dict[str, Any]:
    """Read the columns as keyword arguments of :func:`~scaleinv.analysis.periods.find_periods`.

    Separated by commas, semicolons or tabs, with a line of names. ``nan`` and ``inf`` are numbers; an empty cell reads
    as nan. ``rho_sq`` may stand for rho, and ``g`` (the gradient norm) for eg.

    Errors: UserError that names the file, and the line where a cell is no number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a CSV log or the folder of a run") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text; a CSV file with a line of column names is needed") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    lines = text.splitlines()
    if not lines:
        raise UserError(f"{path} is empty; a line of column names ({', '.join(NEEDED)}) and rows are needed")
    separator = max(",;\t", key=lines[0].count)
    rows = csv.reader(lines, delimiter=separator)
    try:
        head = [name.strip() for name in next(rows)]
        table = _numbers(path, head, _places(path, head), rows)
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num} is not CSV ({error})") from None
    with np.errstate(invalid="ignore"):
        if "rho_sq" in table:
            table.setdefault("rho", np.sqrt(table.pop("rho_sq")))
    if "g" in table:
        table.setdefault("eg", table.pop("g") * table["rho"])
    return table


def _places(path: Path, head: Sequence[str]) -> dict[str, int]:
    lower = [name.lower() for name in head]
    found = {
        column: next(lower.index(name) for name in names if name in lower)
        for column, names in COLUMNS.items()
        if not set(names).isdisjoint(lower)
    }
    missing = [name for name in NEEDED if name not in found and not (name == "rho" and "rho_sq" in found)]
    if missing:
        have = ", ".join(head[:8]) + (", ..." if len(head) > 8 else "")
        raise UserError(
            f"{path} has no column {' and no column '.join(missing)} (it has {have}); needed are {', '.join(NEEDED)}, "
            "welcome eg, lr, wd"
        )
    return found


def _numbers(path: Path, head: Sequence[str], found: dict[str, int], rows: Any) -> dict[str, Any]:
    table: dict[str, list[float]] = {name: [] for name in found}
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}: line {rows.line_num}"
        if len(cells) != len(head):
            raise UserError(f"{where} has {len(cells)} cells, the line of names {len(head)}")
        for name, place in found.items():
            text = cells[place].strip()
            try:
                table[name].append(float(text or "nan"))
            except ValueError:
                raise UserError(f"{where}, column {head[place]}: {text[:40]!r} is not a number") from None
        before, step = table["step"][-2:-1], table["step"][-1]
        if not math.isfinite(step):
            raise UserError(f"{where} has no step number")
        if before and step <= before[0]:
            raise UserError(
                f"{where}: step {step:g} comes after step {before[0]:g}; sort the log by step, one row a step"
            )
    columns = {name: np.array(values) for name, values in table.items()}
    return {name: values for name, values in columns.items() if name in NEEDED or np.isfinite(values).any()}

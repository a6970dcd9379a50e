"""Read a CSV log of one's own: columns step, loss, rho and, if there, eg, lr, wd, angle; the rest is left alone."""

from __future__ import annotations

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
    """Columns as keyword arguments of :func:`~scaleinv.analysis.periods.find_periods`.

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
        found = _places(path, head)
        table = _numbers(path, head, found, rows)
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num} is not CSV ({error})") from None
    if "rho_sq" in table:
        with np.errstate(invalid="ignore"):
            squared = table.pop("rho_sq")
            table.setdefault("rho", np.sqrt(squared))
    if "g" in table:
        gradient = table.pop("g")
        table.setdefault("eg", gradient * table["rho"])
    return table


def _places(path: Path, head: Sequence[str]) -> dict[str, int]:
    lower = [name.lower() for name in head]
    found = {}
    for column, names in COLUMNS.items():
        at = [lower.index(name) for name in names if name in lower]
        if at:
            found[column] = at[0]
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
        if len(cells) != len(head):
            raise UserError(f"{path}: line {rows.line_num} has {len(cells)} cells, the line of names {len(head)}")
        for name, place in found.items():
            table[name].append(_cell(path, rows.line_num, head[place], cells[place]))
        steps = table["step"]
        if not math.isfinite(steps[-1]):
            raise UserError(f"{path}: line {rows.line_num} has no step number")
        if len(steps) > 1 and steps[-1] <= steps[-2]:
            raise UserError(
                f"{path}: line {rows.line_num}: step {steps[-1]:g} comes after step {steps[-2]:g}; sort the log by "
                "step, one row a step"
            )
    return {name: np.array(values) for name, values in table.items() if name in NEEDED or _any_known(values)}


def _any_known(values: Sequence[float]) -> bool:
    return any(math.isfinite(value) for value in values)


def _cell(path: Path, line: int, column: str, text: str) -> float:
    text = text.strip()
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{path}: line {line}, column {column}: {text[:40]!r} is not a number") from None

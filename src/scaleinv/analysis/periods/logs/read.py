"""Read a training log of any form that people have, as columns for :func:`~scaleinv.analysis.periods.find_periods`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.periods.logs.arrange import arrange, filled, merged
from scaleinv.analysis.periods.logs.delimited import read_delimited, split_by
from scaleinv.analysis.periods.logs.folders import files_of
from scaleinv.analysis.periods.logs.mlflow import is_metric, read_metrics
from scaleinv.analysis.periods.logs.names import NAMES, asked, plain
from scaleinv.analysis.periods.logs.parquet import read_parquet
from scaleinv.analysis.periods.logs.source import TextLines, opened
from scaleinv.analysis.periods.logs.table import Table, number
from scaleinv.analysis.periods.logs.tensorboard import is_event_file, read_events
from scaleinv.analysis.periods.logs.text import pairs, read_json, read_jsonl, read_text
from scaleinv.errors import UserError

#: files that are programs, archives or other binary forms: never opened
_REFUSED = {
    ".pt": "a checkpoint", ".pth": "a checkpoint", ".ckpt": "a checkpoint", ".pkl": "a pickle", ".pickle": "a pickle",
    ".safetensors": "a checkpoint", ".npz": "an array file", ".npy": "an array file", ".zip": "an archive",
    ".tar": "an archive", ".xlsx": "a spreadsheet", ".db": "a data base",
    ".wandb": "an offline run of W&B (export its history: run.history(samples=10**6).to_csv(...))",
}  # fmt: skip


@dataclass(frozen=True)
class LogColumns:
    """What a log has: keyword arguments of :func:`~scaleinv.analysis.periods.find_periods`, and what was done to it."""

    columns: dict[str, Any]
    said: tuple[str, ...]
    counted: str  # what is counted in place of steps, where rates of a step do not apply: "an epoch", "a row", or ""


def read_log(
    *paths: str | Path, columns: str | Mapping[str, str] | None = None, steps_per_epoch: float | None = None
) -> LogColumns:
    r"""Read a log of one's own: a file, a folder of a tool's, or several files of one run.

    - ``paths``: CSV with any names (of W&B, Lightning, Keras, MLflow, TensorBoard's page), JSON lines, JSON (a
      Trainer's ``trainer_state.json``), plain text such as ``step:10 train_loss:3.1``, TensorBoard's event files;
      packed by gzip or not. Of a folder the logs within. Several files are joined by their steps.
    - ``columns``: what is what, where the names do not tell: ``{"loss": "train/loss"}`` or ``"loss=train/loss"``.
    - ``steps_per_epoch``: where rows are counted in epochs.
    - Raises UserError that names the file, and the line where a cell is no number.

    >>> _ = Path("mine.csv").write_text("iter;train/loss;|w|\n0;2,5;10\n10;2,25;9,5\n")
    >>> read = read_log("mine.csv", columns="rho=|w|")
    >>> read.columns["loss"].tolist(), read.columns["rho"].tolist(), read.columns["step"].tolist()
    ([2.5, 2.25], [10.0, 9.5], [0.0, 10.0])
    """
    wanted = asked(columns) if isinstance(columns, str) else dict(columns or {})
    unknown = [role for role in wanted if role not in NAMES]
    if unknown:
        raise UserError(f"columns: {unknown[0]!r} is no column of a log; choose among {', '.join(NAMES)}")
    if steps_per_epoch is not None and not 0 < steps_per_epoch < np.inf:
        raise UserError(f"--steps-per-epoch {steps_per_epoch:g}: must be a number above 0")
    if not paths:
        raise UserError("name a log or the folder of a run")
    tables = [(where, table) for path in paths for where, table in _tables(Path(path))]
    several = len(tables) > 1
    parts = []
    for where, table in tables:
        own = {role: name for role, name in wanted.items() if not several or not name or name in table.columns}
        parts.append((where, arrange(table, where, own, steps_per_epoch)))
    if several:
        for role, name in wanted.items():
            if name and not any(name in table.columns for _, table in tables):
                raise UserError(f"--columns {role}={name}: none of the files has a column {name!r}")
    found = merged(parts)
    where = tables[0][0]
    if "loss" not in found.columns:
        names = [name for _, table in tables for name in table.columns if name and table.known(name)]
        have = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise UserError(
            f"{where} has no column that looks like a loss (it has {have or 'no numbers'}); name it: "
            "--columns loss=NAME"
        )
    step, arrays, more = filled(found)
    with np.errstate(invalid="ignore"):
        if "rho_sq" in arrays:
            arrays.setdefault("rho", np.sqrt(arrays.pop("rho_sq")))
            arrays.pop("rho_sq", None)
    if (g := arrays.pop("g", None)) is not None and "rho" in arrays:
        arrays.setdefault("eg", g * arrays["rho"])
    useful = {role: x for role, x in arrays.items() if role in ("loss", "rho") or np.isfinite(x).any()}
    return LogColumns({"step": step, **useful}, (*found.said, *more), found.counted)


def _tables(path: Path) -> list[tuple[str, Table]]:
    if path.is_dir():
        return [found for files in files_of(path) for found in _of(files)]
    return _of([path])


def _of(files: Sequence[Path]) -> list[tuple[str, Table]]:
    if files[0].parent.name == "metrics" and all(is_metric(path) for path in files):
        return [(str(files[0] if len(files) == 1 else files[0].parent), read_metrics(files))]
    if all(is_event_file(path) for path in files):
        return [(str(files[0] if len(files) == 1 else files[0].parent), read_events(files))]
    return [(str(path), _named(path, _table(path))) for path in files]


def _table(path: Path) -> Table:
    if path.suffix.lower() in _REFUSED:
        raise UserError(
            f"{path} is {_REFUSED[path.suffix.lower()]}; a table of columns, JSON or lines of text is needed"
        )
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    with opened(path) as stream:
        if is_event_file(path) or _is_events(stream.peek(64)):
            return read_events([path])
        read = TextLines(path, stream)
        table = _of_lines(path, read)
    return replace(table, said=(*table.said, *read.said))


def _of_lines(path: Path, read: TextLines) -> Table:
    """Read a file of text by the form of its first lines."""
    head = list(islice(read, 50))
    first = next((line.strip() for line in head if line.strip()), "")
    if not first:
        raise UserError(f"{path} is empty; a line of column names and rows are needed")
    if first[0] == "{" and first.endswith("}") and first != "{}" and not re.match(r'\{\s*"', first):
        return read_text(path, chain(head, read))  # as Python prints a dict
    if first[0] in "{[":
        second = [line.strip() for line in head if line.strip()][1:2]
        rows = first[0] == "{" and first.endswith("}") and (not second or second[0].startswith("{"))
        if first[0] == "{" and (rows and (second or not _one_document(first))):
            return read_jsonl(path, chain(head, read))
        if first[0] == "{" or re.match(r'\[\s*($|[\[{"\]])', first):
            return read_json(path, "".join(chain(head, read)))
    if _is_columns(head):
        return read_delimited(path, (",".join(line.split()) + "\n" for line in chain(head, read) if line.strip()), read)
    if _is_table(head):
        return read_delimited(path, chain(head, read), read)
    return read_text(path, chain(head, read))


def _one_document(line: str) -> bool:
    """Tell a document on one line (a Trainer's state, columns) from a log of one row."""
    return "[" in line or bool(re.search(r":\s*\{", line))


def _is_events(start: bytes) -> bool:
    """Tell the first record of an event file, which holds its version."""
    return b"brain.Event:" in start[:64]


def _is_columns(head: Sequence[str]) -> bool:
    """Tell a table whose cells stand apart by blanks: names, and below them as many numbers."""
    lines = [line for line in head if line.strip() and not line.startswith("# ")][:2]
    rows = [line.split() for line in lines]
    if len(rows) < 2 or len(rows[0]) < 2 or len(rows[0]) != len(rows[1]) or any(c in lines[0] for c in ",;\t"):
        return False
    return all(number(cell) is None for cell in rows[0]) and all(number(cell) is not None for cell in rows[1])


def _is_table(head: Sequence[str]) -> bool:
    """Tell a table, whose first line has names without values, from lines of text."""
    rows = [line for line in head if line.strip()]
    first = rows[0]
    if first.startswith("# ") and len(rows) > 1:
        rows = [row for row in rows if not row.startswith("# ")] or rows
        first = rows[0]
    cut = split_by(first)
    cells = first.count(cut) + 1
    if first.startswith('"') and cells > 1:
        return True
    if cells == 1:
        return len(rows) > 1 and not pairs(first) and number(rows[1].strip()) is not None
    if len(rows) == 1:
        return not pairs(first)
    named = [cell for cell in first.split(cut) if re.search(r"[:=]\s*[-+]?\d", cell)]
    if len(named) > 0.5 * cells:
        return False
    numbers = sum(
        not re.search(r"[A-Za-z]{3}", cell.replace("nan", "").replace("NaN", "")) for cell in rows[1].split(cut)
    )
    return numbers >= 0.5 * (rows[1].count(cut) + 1) or not pairs(rows[1])


def _named(path: Path, table: Table) -> Table:
    """Name the column ``Value`` of a file that TensorBoard's page or MLflow made by the tag in the file's name."""
    name = next((name for name in table.columns if name.lower() == "value"), None)
    if name is None:
        return table
    stem = re.sub(r"\.(csv|json|txt|gz)\b", "", path.name)
    tag = stem.rpartition("tag-")[2]
    if "tag-" not in stem and not any(plain(tag) in known for known in NAMES.values()):
        return table  # its name says nothing
    columns, given = dict(table.columns), dict(table.given)
    columns[tag], given[tag] = columns.pop(name), given.pop(name)
    return replace(table, columns=columns, given=given)

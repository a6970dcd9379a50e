r"""Read lines of text with numbers and their names, and JSON in its forms.

Plain text, as training scripts print it::

    step:10/1390 train_loss:3.1 lr:1e-3            iter 0: loss 10.98, time 3.2ms
    step 1/100 | loss 11.0 | norm 15.3 | lr 8.5e-07      Epoch [1/10], Step [100/600], Loss: 0.5
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scaleinv.analysis.periods.logs.names import NAMES, plain
from scaleinv.analysis.periods.logs.table import Builder, Table, left_out
from scaleinv.errors import UserError
from scaleinv.reading import parse_json

#: a number that stands alone: not within a word, a date, a time or a version
_NUMBER = re.compile(
    r"(?<![\w.])[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?:nan|inf(?:inity)?)(?!\w))(?![.\d])", re.I
)
_CLOCK = re.compile(r"\d{4}[-/]\d\d?[-/]\d\d?(?:[T ]\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?)?Z?|\b\d\d?:\d\d:\d\d(?:[.,]\d+)?")
#: numbers as numpy and torch print them: np.float64(0.5), tensor(0.5, grad_fn=...)
_WRAPPED = re.compile(r"\b(?:np\.\w+|tensor)\(([-+\w.]+)(?:,[^()]*(?:\(\))?[^()]*)?\)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ENDS = re.compile(r"[|,;()\[\]{}\t]|\s-\s|\s{3,}|\b(?:INFO|DEBUG|WARNING|ERROR)\b")
_EDGES = " \t:=>*~#'\"[]({})"
#: a name is at most so long
_LONGEST = 40


def pairs(line: str) -> list[tuple[str, float]]:
    """Find the numbers of a line with the words before them.

    >>> pairs("step:10/1390 train_loss:3.1 lr:1e-3 (43%)")
    [('step', 10.0), ('train_loss', 3.1), ('lr', 0.001)]
    """
    found: list[tuple[str, float]] = []
    line = _CLOCK.sub(lambda match: "," + " " * (len(match.group()) - 1), _COLOUR.sub("", unwrapped(line)))
    end = 0
    for match in _NUMBER.finditer(line):
        between = line[end : match.start()]
        end = match.end()
        if between.strip() in ("/", "of", "out of"):  # 10/1390
            continue
        if match.start() > len(between):  # a unit that hangs on the number before: 3.2ms, 12%
            between = re.sub(r"^[A-Za-z%µ/]+(?=[\s|,;)\]]|$)", "", between)
        name = re.split(_ENDS, between.rstrip(_EDGES))[-1].rpartition(":")[2].strip(_EDGES)
        if name and len(name) <= _LONGEST and re.search(r"[A-Za-z]", name):
            found.append((" ".join(name.split()), float(match.group())))
    return found


def unwrapped(line: str) -> str:
    """Write numbers bare that numpy or torch printed with their type.

    >>> unwrapped("loss np.float64(0.5) tensor(2.5, grad_fn=<NllLossBackward0>)")
    'loss 0.5 2.5'
    """
    return _WRAPPED.sub(r"\1", line) if "(" in line else line


def _counts(cells: Mapping[str, float]) -> bool:
    return any(plain(name) in NAMES["step"] or plain(name) in NAMES["epoch"] for name in cells)


def read_text(path: Path, lines: Iterable[str]) -> Table:
    """Read plain lines; those without a number with a name are left out, and what stands below a step belongs to it.

    Errors: UserError where no line has one.
    """
    built = Builder(str(path))
    block: dict[str, float] = {}  # of a row that goes over several lines: a counter first, the loss below it
    for line in lines:
        line = line.strip()
        row = _row(line[line.index("{") :]) if line.endswith("}") and "{" in line else None
        cells = dict(reversed(pairs(line) if row is None else list(_flat(row))))  # of a name twice the first counts
        if block and not cells.keys() & block.keys():
            block.update(cells)
            continue
        built.add(block.items())
        block = {}
        if _counts(cells) and not any("loss" in name.lower() for name in cells):
            block = cells
        else:
            built.add(cells.items())
    built.add(block.items())
    if not built.rows:
        raise UserError(
            f"{path}: no line has a number with a name, such as step:10 loss:3.1; it is no log that can be read"
        )
    return built.table("lines of text", norm_is_gradient=True)


def read_jsonl(path: Path, lines: Iterable[str]) -> Table:
    """Read one JSON object a line; lines cut short (a killed run) are left out, and told.

    Errors: UserError where a line is JSON but no object.
    """
    built, bad = Builder(str(path)), []
    for k, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            bad.append(k)
        else:
            built.add(_flat(row))
    if not built.rows:
        raise UserError(f"{path}: no line is a JSON object with numbers")
    said = (left_out(bad, "no JSON"),) if bad else ()
    return built.table("JSON lines", said=said)


def read_json(path: Path, text: str) -> Table:
    """Read one JSON document: the Trainer's state, a list of rows, columns, or TensorBoard's triples.

    Errors: UserError where there are no rows in it.
    """
    try:
        content = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error)[:80]})") from None
    form = "JSON"
    if isinstance(content, Mapping):
        if isinstance(content.get("log_history"), list):
            content, form = content["log_history"], "a Trainer's state (log_history)"
        else:
            lists = [value for value in content.values() if isinstance(value, list)]
            rows = [value for value in lists if value and isinstance(value[0], Mapping)]
            if lists and all(isinstance(v, list) for v in content.values()) and len({len(v) for v in lists}) == 1:
                content = [dict(zip(content, cells)) for cells in zip(*lists)] if not rows else content
            elif all(isinstance(value, Mapping) for value in content.values()) and content:
                # pandas' to_json(): {"loss": {"0": 1.5, "1": 1.2}, ...}
                keys = list(dict.fromkeys(key for column in content.values() for key in column))
                content = [{name: column.get(key) for name, column in content.items()} for key in keys]
            if isinstance(content, Mapping) and len(rows) == 1:
                content = rows[0]
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} holds no rows: a list of objects, or of columns, or a Trainer's log_history is needed")
    built, long = Builder(str(path)), False
    for row in content:
        if isinstance(row, Mapping):
            long = long or (isinstance(row.get("key"), str) and "value" in row)
            built.add(_flat(_unkeyed(row)))
        elif isinstance(row, list) and len(row) == 3 and all(isinstance(x, int | float) for x in row):
            built.add([("step", float(row[1])), ("value", float(row[2]))])
    if not built.rows:
        raise UserError(f"{path}: its rows hold no numbers with names")
    return built.table(form, long=long)


def _unkeyed(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Turn ``{"key": "loss", "value": 3.1, "step": 10}`` (MLflow) into ``{"loss": 3.1, "step": 10}``."""
    key = row.get("key")
    if isinstance(key, str) and "value" in row:
        return {key: row["value"], **{name: value for name, value in row.items() if name not in ("key", "value")}}
    return row


def _row(line: str) -> dict[str, Any] | None:
    """Read an object, as JSON or as Python prints a dict."""
    try:
        found = parse_json(line)
    except (ValueError, RecursionError):
        try:
            bare = re.sub(r"\bnan\b", "'nan'", re.sub(r"\binf\b", "1e999", unwrapped(line.strip())))
            found = ast.literal_eval(bare) if len(line) < 10_000 else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _flat(row: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """Take the numbers of an object, those of inner ones as ``outer/inner``; numbers in quotes count."""
    for name, value in row.items():
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, Mapping) and depth < 4:
            yield from _flat(value, f"{before}{name}/", depth + 1)
        elif isinstance(value, int | float):
            yield f"{before}{name}", _float(value)
        elif isinstance(value, str) and len(value) < 40:
            try:
                yield f"{before}{name}", float(value)
            except ValueError:
                continue


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")

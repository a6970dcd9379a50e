"""The rows of a monitored run on the disk: Parquet parts, or a file of JSON lines where pyarrow is not there."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import os
import time
from pathlib import Path
from typing import IO, Any

from scaleinv.errors import UserError, how_to_install

fcntl: Any = None  # not on every system; nothing is locked without it
with contextlib.suppress(ImportError):
    fcntl = importlib.import_module("fcntl")

COLUMNS = ("step", "epoch", "split", "group", "quantity", "value")
#: seconds between two writes are at least so many times what the last one took
_RARELY = 100.0
#: (step, epoch, split, group, quantity, value)
Row = tuple[int, int, str, str, str, float]


class Rows:
    """Takes rows and puts them on the disk: the first at once, then every few seconds.

    A part is written again, whole, until it has ``limit`` rows; so a long run has few files. It belongs to the process
    that made it: a fork of that writes nothing.
    """

    def __init__(self, folder: Path, form: str, limit: int, seconds: float) -> None:
        self.folder, self.form = folder, form
        self._limit, self._seconds = limit, seconds
        self._rows: list[Row] = []
        self._fresh = 0  # of these are not on the disk
        self._due = 0.0
        self._part = next_part(folder / "metrics")
        self._lines: IO[str] | None = None
        self._alerts: IO[str] | None = None
        self._lock = _Lock(folder)
        self._owner = os.getpid()

    def add(self, rows: list[Row]) -> None:
        """Take rows, of the newest step."""
        self._rows += rows
        self._fresh += len(rows)
        if len(self._rows) >= self._limit or time.monotonic() >= self._due:
            self.flush()

    def alert(self, line: str) -> None:
        """Take one line of ``alerts.jsonl``; it and the rows before it are on the disk at once."""
        if self._alerts is None:
            self._alerts = (self.folder / "alerts.jsonl").open("a", encoding="utf-8")
        self._alerts.write(line + "\n")
        self._alerts.flush()
        self.flush()

    def flush(self) -> None:
        """Put what was taken on the disk."""
        if not self._fresh or os.getpid() != self._owner:
            return
        begin = time.monotonic()
        if self.form == "jsonl":
            if self._lines is None:
                self._lines = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
            for row in self._rows:
                cells: list[Any] = [*row[:5], number(row[5])]
                self._lines.write(json.dumps(dict(zip(COLUMNS, cells))) + "\n")
            self._lines.flush()
        else:
            write_part(self.folder / "metrics" / f"part-{self._part:05d}.parquet", self._rows)
        if self.form == "jsonl" or len(self._rows) >= self._limit:
            self._rows = []
            self._part += 1
        self._fresh = 0
        now = time.monotonic()
        self._due = now + max(self._seconds, _RARELY * (now - begin))

    def cut(self, step: int) -> None:
        """Leave out ``step`` and all after it: a run goes on there."""
        self.flush()
        for handle in (self._lines, self._alerts):
            if handle is not None:
                handle.close()
        self._lines = self._alerts = None
        for name in ("metrics.jsonl", "alerts.jsonl"):
            _cut_lines(self.folder / name, step)
        for part in sorted((self.folder / "metrics").glob("part-*.parquet")):
            _cut_part(part, step)
        self._rows, self._part, self._due = [], next_part(self.folder / "metrics"), 0.0

    def close(self) -> None:
        """Put the rest on the disk and let the next monitor in; a second call does nothing."""
        if os.getpid() != self._owner:
            return
        try:
            self.flush()
        finally:
            for handle in (self._lines, self._alerts):
                if handle is not None:
                    handle.close()
            self._lines = self._alerts = None
            self._lock.release()


def steps_held(folder: Path) -> int:
    """How many steps the rows of a folder reach: the last one's number plus 1; 0 without rows."""
    last = -1
    with contextlib.suppress(OSError, ValueError), (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            last = max(last, _step(line))
    parts = list((folder / "metrics").glob("part-*.parquet"))
    if parts and not has_pyarrow():
        raise UserError(f"{folder} holds Parquet files, and they need pyarrow: {how_to_install('pyarrow', 'lab')}")
    for part in parts:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        try:
            column = pq.read_table(part, columns=["step"], partitioning=None)["step"]
            last = max(last, pc.max(column).as_py() if len(column) else -1)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise UserError(f"{part} is damaged ({' '.join(str(error).split())}); choose another folder") from None
    return last + 1


def next_part(metrics: Path) -> int:
    """The number of the part that follows those in the folder."""
    numbers = [part.stem[len("part-") :] for part in metrics.glob("part-*.parquet")]
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def write_part(path: Path, rows: list[Any]) -> None:
    """Rows as one Parquet part; whole or absent."""
    import pyarrow as pa

    types = (pa.int64(), pa.int64(), pa.string(), pa.string(), pa.string(), pa.float64())
    columns: list[Any] = list(zip(*rows)) or [()] * len(COLUMNS)
    _replace(path, pa.table({name: pa.array(column, kind) for name, column, kind in zip(COLUMNS, columns, types)}))


def has_pyarrow() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def number(value: float) -> float | str:
    """As JSON has it: it has no word for NaN and infinities, which become texts that ``float()`` reads."""
    return value if math.isfinite(value) else str(value)


def _replace(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def _cut_part(path: Path, step: int) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    kept = table.filter(pc.less(table["step"], step))
    if not len(kept):
        path.unlink()
    elif len(kept) < len(table):
        _replace(path, kept)


def _cut_lines(path: Path, step: int) -> None:
    if not path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    with path.open(encoding="utf-8") as old, part.open("w", encoding="utf-8") as new:
        new.writelines(line for line in old if line.endswith("\n") and _step(line) < step)
    part.replace(path)


def _step(line: str) -> int:
    """Of a line; one that is not whole or damaged has none, and stays for the reader to complain of."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1


class _Lock:
    """One monitor at a time writes into a folder: an exclusive ``flock`` on its ``.lock``, gone with the process."""

    def __init__(self, folder: Path) -> None:
        self._handle: IO[str] | None = None
        if fcntl is None:
            return
        self._handle = (folder / ".lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.close()
            raise UserError(
                f"another Monitor is writing into {folder}; close it (monitor.close()), or choose another folder"
            ) from None
        except OSError:  # a file system without locks
            self._handle.close()
            self._handle = None

    def release(self) -> None:
        """Let the next one in, also where a fork of this process still holds the file open."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._handle.close()
            self._handle = None

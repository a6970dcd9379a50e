"""Write the rows of a monitored run: Parquet parts, or a file of JSON lines where pyarrow is not there."""

import contextlib
import importlib.util
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from scaleinv.errors import UserError, how_to_install
from scaleinv.runfolder.files import Lock, written
from scaleinv.runfolder.layout import ALERTS, LINES, PARTS, next_part, part_name
from scaleinv.runfolder.rows import Row, read_part, to_line, to_table, write_part

#: seconds between two writes are at least so many times what the last one took, up to the second number of seconds
_RARELY, _LATEST = 100.0, 5.0


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
        self._lock = Lock(
            folder, holder="another Monitor", advice="close it (monitor.close()), or choose another folder"
        )
        self._owner = os.getpid()
        self._writing = threading.RLock()
        self._timer: threading.Timer | None = None

    def add(self, rows: list[Row]) -> None:
        """Take rows, of the newest step."""
        with self._writing:
            self._rows += rows
            self._fresh += len(rows)
        if len(self._rows) >= self._limit or time.monotonic() >= self._due:
            self.flush()
        elif self._timer is None:  # the loop may pause now, for an evaluation say
            self._timer = threading.Timer(max(0.0, self._due - time.monotonic()), self._flush_in_time)
            self._timer.daemon = True
            self._timer.start()

    def _flush_in_time(self) -> None:
        with self._writing:
            self._timer = None
            try:
                self.flush()
            except Exception as error:  # the next row tells, in the thread that trains
                logging.getLogger("scaleinv").debug("rows of %s are not written yet: %s", self.folder, error)

    def alert(self, line: str) -> None:
        """Take one line of ``alerts.jsonl``; it and the rows before it are on the disk at once."""
        _append(self.folder / ALERTS, [line])
        self.flush()

    def flush(self) -> None:
        """Put what was taken on the disk."""
        with self._writing:
            self._flush()

    def _flush(self) -> None:
        if not self._fresh or os.getpid() != self._owner:
            return
        begin = time.monotonic()
        if self.form == "jsonl":
            _append(self.folder / LINES, map(to_line, self._rows))
        else:
            target = self.folder / "metrics" / part_name("part", self._part)
            write_part(target, to_table(self._rows), flush=False)
        if self.form == "jsonl" or len(self._rows) >= self._limit:
            self._rows = []
            self._part += 1
        self._fresh = 0
        now = time.monotonic()
        self._due = now + max(self._seconds, min(_RARELY * (now - begin), _LATEST))

    def cut(self, step: int) -> None:
        """Leave out ``step`` and all after it: a run is resumed there."""
        self.flush()
        for name in (LINES, ALERTS):
            _cut_lines(self.folder / name, step)
        for part in sorted((self.folder / "metrics").glob(PARTS)):
            _cut_part(part, step)
        self._rows, self._part, self._due = [], next_part(self.folder / "metrics"), 0.0

    def close(self) -> None:
        """Put the rest on the disk and let the next monitor in; a second call does nothing."""
        if os.getpid() != self._owner:
            return
        if self._timer is not None:
            self._timer.cancel()
        try:
            self.flush()
        finally:
            self._lock.release()


def _append(path: Path, lines: Iterable[str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def steps_held(folder: Path) -> int:
    """Tell how many steps the rows of a folder reach: the last one's number plus 1; 0 without rows."""
    last = -1
    with contextlib.suppress(OSError, ValueError), (folder / LINES).open(encoding="utf-8") as lines:
        for line in lines:
            last = max(last, _step(line))
    parts = list((folder / "metrics").glob(PARTS))
    if parts and not has_pyarrow():
        raise UserError(f"{folder} holds Parquet files, and they need pyarrow: {how_to_install('pyarrow', 'lab')}")
    for part in parts:
        last = max(last, max(read_part(part)["step"].to_pylist(), default=-1))
    return last + 1


def has_pyarrow() -> bool:
    """Tell whether pyarrow is installed, without importing it."""
    return importlib.util.find_spec("pyarrow") is not None


def _cut_part(path: Path, step: int) -> None:
    table = read_part(path)
    kept = table.filter([value < step for value in table["step"].to_pylist()])
    if not len(kept):
        path.unlink()
    elif len(kept) < len(table):
        write_part(path, kept, flush=False)


def _cut_lines(path: Path, step: int) -> None:
    if not path.exists():
        return
    with (
        written(path, flush=False) as part,
        path.open(encoding="utf-8") as old,
        part.open("w", encoding="utf-8") as new,
    ):
        new.writelines(line for line in old if line.endswith("\n") and _step(line) < step)


def _step(line: str) -> int:
    """Read the step of a line; one that is not whole or damaged has none, and stays for the reader to complain of."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1

"""Write the rows of a monitored run: Parquet parts, or a file of JSON lines where pyarrow is not there."""

import importlib.util
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from scaleinv.errors import UserError, how_to_install
from scaleinv.runfolder.files import Lock, content_of, own_folder
from scaleinv.runfolder.layout import ALERTS, FINAL_PART, LINES, PARTS, next_part, part_name
from scaleinv.runfolder.manifest import Manifest, read_manifest, state_of
from scaleinv.runfolder.rows import (
    Row,
    counts,
    part_bytes,
    read_part,
    read_parts,
    read_text_of_lines,
    to_line,
    to_table,
)

#: seconds between two writes are at least so many times what the last one took, up to the second number of seconds
_RARELY, _LATEST = 100.0, 5.0
#: parts of rows that are held in memory while they cannot be written
_HELD = 20


class Rows:
    """Takes rows and puts them on the disk: the first at once, then every few seconds.

    A part is written again, whole, until it has ``limit`` rows; so a long run has few files. What cannot be written (a
    full disk) is said, held and tried again. It belongs to the process that made it: a fork of that writes nothing.
    """

    def __init__(self, folder: Path, form: str, limit: int, seconds: float) -> None:
        self.folder, self.form = folder, form
        self._limit, self._seconds = limit, seconds
        self._rows: list[Row] = []
        self._fresh = 0  # of these are not on the disk
        self._alerts: list[str] = []  # not on the disk
        self._due = 0.0
        self._failed = False
        self._lock = Lock(
            folder, holder="another Monitor", advice="close it (monitor.close()), or choose another folder"
        )
        self._owner = os.getpid()
        self._writing = threading.RLock()
        self._timer: threading.Timer | None = None
        try:
            own_folder(folder / "metrics")
            self._part = next_part(folder / "metrics")
            self._manifest = read_manifest(folder) or _listed(folder)
            self._manifest.settle()
            self._lines = {name: self._whole(name) for name in (LINES, ALERTS)}
        except BaseException:
            self._lock.release()
            raise

    def _whole(self, name: str) -> bytes:
        """Read what counts of a file of lines."""
        path = self.folder / name
        there = name in self._manifest.files and path.exists()
        return self._manifest.checked(name, content_of(path)) if there else b""

    def add(self, rows: list[Row]) -> None:
        """Take rows, of the newest step."""
        with self._writing:
            self._rows += rows
            self._fresh += len(rows)
        if (len(self._rows) >= self._limit and not self._failed) or time.monotonic() >= self._due:
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

    def flush(self) -> None:
        """Put what was taken on the disk; where that fails, say so once, hold it (at most :data:`_HELD` parts of rows)
        and try again some seconds later.
        """
        with self._writing:
            try:
                self._flush()
            except UserError as error:
                if self._fresh > _HELD * self._limit:
                    raise
                if not self._failed:
                    logging.getLogger("scaleinv").warning("%s; its rows are held and written later", error)
                self._failed, self._due = True, time.monotonic() + _LATEST

    def alert(self, line: str) -> None:
        """Take one line of ``alerts.jsonl``; it and the rows before it are on the disk at once."""
        with self._writing:
            self._alerts.append(line)
        self.flush()

    def _flush(self) -> None:
        if not (self._fresh or self._alerts) or os.getpid() != self._owner:
            return
        self._lock.check()
        begin = time.monotonic()
        if self._alerts:
            self._append(ALERTS, self._alerts)
            self._alerts = []
        if self._fresh and self.form == "jsonl":
            self._append(LINES, map(to_line, self._rows))
        elif self._fresh:
            name = f"metrics/{part_name('part', self._part)}"
            self._manifest.replace(name, part_bytes(to_table(self._rows)), flush=False)
        if self.form == "jsonl" or len(self._rows) >= self._limit:
            self._rows = []
            self._part += 1
        self._fresh, self._failed = 0, False
        now = time.monotonic()
        self._due = now + max(self._seconds, min(_RARELY * (now - begin), _LATEST))

    def _append(self, name: str, lines: Iterable[str]) -> None:
        data = "".join(line + "\n" for line in lines).encode("utf-8")
        self._manifest.append(name, data, self._lines[name])
        self._lines[name] += data

    def cut(self, step: int) -> None:
        """Leave out ``step`` and all after it: a run is resumed there."""
        with self._writing:
            self._flush()
        for name in (LINES, ALERTS):
            self._cut_lines(name, step)
        for name in self._manifest.names(f"metrics/{PARTS}"):
            self._cut_part(name, step)
        self._manifest.write()
        for path in (self.folder / "metrics").glob("*part*"):  # of no list, or half-written: a killed process left them
            if f"metrics/{path.name}" not in self._manifest.files:
                path.unlink()
        self._rows, self._part, self._due = [], next_part(self.folder / "metrics"), 0.0

    def _cut_lines(self, name: str, step: int) -> None:
        if name not in self._manifest.files and not (self.folder / name).exists():
            return
        kept = b"".join(line for line in self._lines[name].splitlines(keepends=True) if _counts(line, step))
        self._manifest.replace(name, kept)
        self._lines[name] = kept

    def _cut_part(self, name: str, step: int) -> None:
        path = self.folder / name
        if not path.exists() and self._manifest.may_lack(name):
            del self._manifest.files[name]
            return
        table = read_part(path, self._manifest.checked(name, content_of(path)))
        kept = table.filter([value < step for value in table["step"].to_pylist()])
        if not len(kept):
            del self._manifest.files[name]
        elif len(kept) < len(table):
            self._manifest.replace(name, part_bytes(kept))

    def close(self) -> None:
        """Put the rest on the disk and let the next monitor in; a second call does nothing."""
        if os.getpid() != self._owner:
            return
        if self._timer is not None:
            self._timer.cancel()
        try:
            with self._writing:
                self._flush()
                self._manifest.write()
        finally:
            self._lock.release()


def _listed(folder: Path) -> Manifest:
    """List the files of a folder that an earlier version wrote, or of a new one, as they are."""
    files = [path for path in (folder / LINES, folder / ALERTS) if path.exists()]
    files += sorted((folder / "metrics").glob(PARTS))
    return Manifest(folder, {p.relative_to(folder).as_posix(): [state_of(content_of(p))] for p in files})


def steps_held(folder: Path) -> int:
    """Tell how many steps the rows of a folder reach: the last one's number plus 1; 0 without rows."""
    lines = folder / LINES
    last = max((_step(line) for line in read_text_of_lines(lines)), default=-1) if counts(lines) else -1
    parts = list((folder / "metrics").glob(PARTS))
    if parts and not has_pyarrow():
        raise UserError(f"{folder} holds Parquet files, and they need pyarrow: {how_to_install('pyarrow', 'lab')}")
    for table in read_parts(folder / "metrics", PARTS, FINAL_PART, read_part) if parts else []:
        last = max(last, max(table["step"].to_pylist(), default=-1))
    return last + 1


def has_pyarrow() -> bool:
    """Tell whether pyarrow is installed, without importing it."""
    return importlib.util.find_spec("pyarrow") is not None


def _counts(line: bytes, step: int) -> bool:
    return line.endswith(b"\n") and _step(line.decode("utf-8", "replace")) < step


def _step(line: str) -> int:
    """Read the step of a line; one that is not whole or damaged has none, and stays for the reader to complain of."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1

"""Try one command line in a forked child, or as a real command, and judge how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from world import enter

#: seconds after which a command hangs; one that the system itself keeps waiting is given more
LIMIT = 20.0
CODES = {0, 1, 2, 3, 75, 130}
#: bytes a trial may ask for, so that none takes the machine
_MEMORY = 24 * 2**30
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^\w*Error: |Exception ignored", re.MULTILINE)
#: what no terminal should be sent; \r draws a bar anew
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


class Ended(NamedTuple):
    """How a command ended. ``code`` below 0: by that signal; None: it hung."""

    line: list[str]
    code: int | None
    out: str
    err: str
    faults: list[str]
    seconds: float

    def told(self) -> str:
        """Say what went wrong and how to make it again."""
        return f"scaleinv {shlex.join(self.line)}: {'; '.join(self.faults)} | {self.err.strip()[-600:]!r}"


def preload() -> None:
    """Import in this process what every command needs, so that a fork costs a hundredth of a start."""
    import importlib
    import pkgutil

    import scaleinv.cli
    from scaleinv.cli import actions

    for package in (scaleinv.cli, actions):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    for name in ("sklearn.datasets", "scipy.stats", "matplotlib.backends.backend_svg", "pyarrow.parquet"):
        importlib.import_module(name)


def forked(line: Sequence[str], world: Path, place: Path) -> Ended:
    """Run a line in a child of this process, in a copy of the world."""

    def child() -> int:
        from scaleinv.cli import run

        socket.socket.connect = _no_network  # type: ignore[method-assign, assignment]
        sys.argv = ["scaleinv", *line]
        try:
            return run(list(line))
        except SystemExit as end:
            return 0 if end.code is None else end.code if isinstance(end.code, int) else 99
        except BaseException:
            traceback.print_exc()
            return 99

    return _tried(line, world, place, child)


def real(line: Sequence[str], world: Path, place: Path) -> Ended:
    """Run a line as a command of its own."""

    def child() -> int:
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        return subprocess.call([sys.executable, "-m", "scaleinv", *map(_bytes, line)], env=environment)

    return _tried(line, world, place, child)


def _bytes(word: str) -> bytes:
    return (
        os.fsencode(word)
        if all(ord(c) < 0xD800 or ord(c) > 0xDFFF or 0xDC80 <= ord(c) <= 0xDCFF for c in word)
        else (word.encode("utf-8", "replace"))
    )


def _no_network(*_: object) -> None:
    raise OSError("no network here")


def _tried(line: Sequence[str], world: Path, place: Path, child: Callable[[], int]) -> Ended:
    here = enter(world, place)
    before = _listing(here)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            os.chdir(here)
            for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "../out", 0x241), (2, "../err", 0x241)):
                os.dup2(os.open(name, flags, 0o644), number)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(k, "r" if k == 0 else "w", closefd=False) for k in range(3))
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.environ |= {"SCALEINV_DATA": str(here / "no-data"), "COLUMNS": "80", "HOME": str(here)}
            code = child()
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        os._exit(98)
    code = _wait(pid, began)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # workers that are left
    if code is None:
        os.waitpid(pid, 0)
    spent = time.monotonic() - began
    out, err = ((here.parent / name).read_text("utf-8", "replace") for name in ("out", "err"))
    faults = list(_faults(line, code, out, err)) + _half_written(here, before, code)
    ended = Ended(list(line), code, out, err, faults, spent)
    shutil.rmtree(place, ignore_errors=True)
    return ended


def _wait(pid: int, began: float) -> int | None:
    """Wait for the end; None where the command hangs.

    It hangs once it has taken LIMIT seconds of computing, or done nothing for half of that: on a machine that is busy
    with other things a command may take longer than it computes. Time in which this process did not run does not
    count: both may have been halted.
    """
    pause, computed, moved, last = 0.002, 0.0, began, time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if now - last > 1.0:
            began, moved = began + now - last, moved + now - last
        last = now
        if now - began > LIMIT:
            spent = _computed(pid)
            if spent > computed:
                computed, moved = spent, now
            if spent > LIMIT or now - moved > LIMIT / 2 or now - began > 10 * LIMIT:
                return None
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _computed(group: int) -> float:
    """Sum the processor seconds of all processes of a session."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _faults(line: Sequence[str], code: int | None, out: str, err: str) -> list[str]:
    found = []
    if code is None:
        found.append(f"no end within {LIMIT:g} s")
    elif code < 0:
        found.append(f"died of signal {-code}")
    elif code not in CODES:
        found.append(f"exit code {code}")
    if _TRACEBACK.search(err) or "Traceback (most recent" in out:
        found.append("traceback")
    if re.search(r"^\S+\.py:\d+: \w*Warning: ", err, re.MULTILINE):
        found.append("a warning of Python's")
    said = err.strip().splitlines()
    if code == 2 and not (said and said[-1].startswith("scaleinv: ")) and line:
        found.append("exit code 2 without a line that says why")
    if _CONTROL.search(out) or _CONTROL.search(err):
        found.append("control characters on the terminal")
    return found


def _listing(here: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for folder, _, files in os.walk(here):
        for name in files:
            path = os.path.join(folder, name)
            state = os.lstat(path)
            found[path] = (state.st_size, state.st_mtime_ns)
    return found


def _half_written(here: Path, before: dict[str, tuple[int, int]], code: int | None) -> list[str]:
    """Look at what is new or changed: no part of a file, no JSON or page cut short, no traceback of a worker."""
    found = []
    for path, state in _listing(here).items():
        if before.get(path) == state:
            continue
        name, size = os.path.basename(path), state[0]
        if code is not None and name.endswith(".part"):
            found.append(f"left {name}")
        elif name == "error.txt":
            found.append(f"a worker's traceback: {Path(path).read_text('utf-8', 'replace')[-400:]!r}")
        elif name.endswith(".json") and not os.path.islink(path):
            try:
                json.loads(Path(path).read_text("utf-8"))
            except (ValueError, OSError, RecursionError) as error:
                found.append(f"{name} is cut short: {error}")
        elif name.endswith((".html", ".svg")) and not Path(path).read_text("utf-8", "replace").rstrip().endswith(
            ("</html>", "</svg>")
        ):
            found.append(f"{name} ({size} bytes) is cut short")
    return found

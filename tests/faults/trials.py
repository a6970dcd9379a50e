"""Try a fault at every call of a scenario, call it again, and compare with one that was left alone."""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from injection import LASTING, Injection, in_child
from scenarios import SCENARIOS, content, difference


def calls_of(name: str, root: Path, reads: bool) -> list[str]:
    """Count the calls of a scenario, run in a fresh folder."""
    folder = prepared(name, root)
    ended = in_child(lambda: SCENARIOS[name].act(folder), Injection(folder, None, reads=reads), told="calls")
    assert ended.how == "ok", ended.said
    return ended.said.splitlines()


def prepared(name: str, root: Path) -> Path:
    """Make a folder in which a scenario may begin."""
    folder = Path(tempfile.mkdtemp(dir=root))
    ended = in_child(lambda: SCENARIOS[name].prepare(folder))
    assert ended.how == "ok", ended.said
    return folder


def scratch() -> str | None:
    """Where trials write: memory where there is a file system of it, since they wait for the disk at every file."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@functools.cache
def warm(name: str) -> None:
    """Do a scenario in this process, so that its children need not load what it needs."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        SCENARIOS[name].prepare(Path(folder))
        SCENARIOS[name].act(Path(folder))


class Trials:
    """The trials of a scenario; ``error``: None kills."""

    def __init__(self, name: str, root: Path, *, reads: bool = False) -> None:
        self.name, self.root, self.reads = name, root, reads
        warm(name)
        self.calls = calls_of(name, root, reads)
        self.start = prepared(name, root)
        whole = self._copy()
        ended = in_child(lambda: SCENARIOS[name].act(whole))
        assert ended.how == "ok", ended.said
        self.wanted = content(whole)

    def _copy(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.root)) / "here"
        shutil.copytree(self.start, folder)
        return folder

    def one(self, at: int, error: int | None) -> str:
        """Try one fault; why it went wrong, empty where it did not."""
        folder = self._copy()
        act = SCENARIOS[self.name].act
        injection = Injection(folder, at, error, lasting=error in LASTING, reads=self.reads)
        ended = in_child(lambda: act(folder), injection)
        told = "SIGKILL" if error is None else errno.errorcode[error]
        where = f"{self.name}: {told} at call {at} of {len(self.calls)} ({self.calls[at]})"
        expected = {"killed"} if error is None else {"ok", "user error"}
        own = self.name == "monitor" and error is not None and "in _save" in ended.said  # the user's own save
        if ended.how not in expected and not own:
            return f"{where}: {ended.how} {ended.said[-600:]}"
        again = in_child(lambda: act(folder))
        if again.how != "ok":
            return f"{where}: the next call: {again.how} {again.said[-600:]}"
        wrong = difference(content(folder), self.wanted)
        shutil.rmtree(folder.parent)
        return wrong and f"{where}: afterwards {wrong}"

    def some(self, count: int | None, errors: Iterable[int | None], draw: random.Random) -> tuple[int, list[str]]:
        """Try ``count`` calls, spread over all (None: every one), each with every error; how many, and what failed."""
        places = range(len(self.calls))
        if count is not None and count < len(places):
            width = len(places) / count
            places = sorted({min(len(self.calls) - 1, int((k + draw.random()) * width)) for k in range(count)})
        tried = [(at, error) for at in places for error in errors]
        return len(tried), [wrong for at, error in tried if (wrong := self.one(at, error))]

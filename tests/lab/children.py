"""Processes that a process has started, from /proc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def children(parent: int) -> Iterator[tuple[int, bool, bytes]]:
    """(pid, whether it lives, command line) of each; one that lives no more waits to be collected."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent:
            yield int(entry.name), fields[0] != "Z", command


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""SIGKILL at every file-system call of a run, a sweep, a monitored training, shared data and a landscape."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from trials import Trials, scratch

PIECES = ("run", "sweep", "monitor", "shared data", "landscape")


def figures(share: float, seed: int, pieces: tuple[str, ...] = PIECES) -> tuple[dict[str, int], list[str]]:
    """Kill at a call that reads or writes, call again, compare the bits."""
    draw, killed, wrong = random.Random(seed), 0, list[str]()
    with tempfile.TemporaryDirectory(dir=scratch()) as root:
        for name in pieces:
            trials = Trials(name, Path(root), reads=True)
            count = None if share >= 1 else max(1, round(share * len(trials.calls)))
            tried, found = trials.some(count, [None], draw)
            killed, wrong = killed + tried, wrong + found
    return {"kills": killed, "lost": len(wrong)}, wrong

"""ENOSPC, EIO and EROFS at every call that writes."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from injection import ERRORS
from scenarios import SCENARIOS
from trials import Trials, scratch

PIECES = tuple(SCENARIOS)


def figures(share: float, seed: int, pieces: tuple[str, ...] = PIECES) -> tuple[dict[str, int], list[str]]:
    """Fail at a call, or from it on, call again with a disk that works, compare the bits."""
    draw, failed, wrong = random.Random(seed), 0, list[str]()
    with tempfile.TemporaryDirectory(dir=scratch()) as root:
        for name in pieces:
            trials = Trials(name, Path(root))
            count = None if share >= 1 else max(1, round(share * len(trials.calls)))
            tried, found = trials.some(count, ERRORS, draw)
            failed, wrong = failed + tried, wrong + found
    return {"write faults": failed, "lost": len(wrong)}, wrong

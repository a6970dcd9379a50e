"""SIGKILL at file-system calls spread over those of a run, a sweep and a monitored training."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from trials import Trials, scratch

#: kills of each, at calls that read or write
KILLS = {"run": 40, "sweep": 40, "monitor": 40, "shared data": 15}


def figures(share: float, seed: int) -> tuple[dict[str, int], list[str]]:
    """Kill, call again, compare the bits."""
    draw, killed, wrong = random.Random(seed), 0, list[str]()
    with tempfile.TemporaryDirectory(dir=scratch()) as root:
        for name, count in KILLS.items():
            tried, found = Trials(name, Path(root), reads=True).some(max(1, round(count * share)), [None], draw)
            killed, wrong = killed + tried, wrong + found
    return {"kills": killed, "lost": len(wrong)}, wrong

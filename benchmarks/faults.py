"""Try what damage, full disks, kills and odd command lines do, and print how many were lost or silent.

    python benchmarks/faults.py [PART ...] [--share 0.1] [--seed 0] [--jobs 2]

A part is a file in ``tests/faults`` or ``tests/fuzz`` with a function ``figures(share, seed)`` that gives the counts by
name and a line for each trial that went wrong, which says how to make it again; ``share``: of the whole number of
trials. Of one with ``PIECES``, ``PART:PIECE`` does one alone (``write-faults:sweep``). Pieces are done side by side, a
process each. Exit status 1 if any trial went wrong, or if a piece could not be done.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
#: part: the module that does it
PARTS: dict[str, str] = {
    "command-lines": "command_lines",
    "damages": "damaged_files",
    "write-faults": "failing_disk",
    "kills": "killed",
}
#: what takes longest, so that it begins first
_LONG = ("command-lines", "write-faults:sweep", "damages", "kills:sweep", "write-faults:run")
#: seconds between two lines of progress
_TICK = 60.0


class Figures(NamedTuple):
    """What came of a piece. ``counts``: in the order they are printed; ``wrong``: a line a trial that went wrong."""

    counts: dict[str, int]
    wrong: Sequence[str] = ()


def module_of(part: str) -> ModuleType:
    """Import the file of a part."""
    for folder in ("faults", "fuzz"):
        if (place := str(ROOT / "tests" / folder)) not in sys.path:
            sys.path.append(place)
    return importlib.import_module(PARTS[part])


def figures_of(word: str, share: float, seed: int) -> Figures:
    """Do ``PART`` or ``PART:PIECE``."""
    part, _, piece = word.partition(":")
    of_part = module_of(part).figures
    return Figures(*(of_part(share, seed, (piece,)) if piece else of_part(share, seed)))


def pieces_of(words: Sequence[str]) -> list[str]:
    """Cut parts into their pieces, the longest first."""
    found = []
    for word in words:
        part, _, piece = word.partition(":")
        pieces = () if piece else getattr(module_of(part), "PIECES", ())
        found += [f"{part}:{one}" for one in pieces] or [word]
    return sorted(dict.fromkeys(found), key=lambda word: _LONG.index(word) if word in _LONG else len(_LONG))


class Trials:
    """Does pieces, each in a process of its own, and says how far it is."""

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self.found: dict[str, Figures] = {}
        self._began = time.monotonic()
        self._at_work: list[str] = []
        self._say = threading.Lock()

    def do(self, words: Sequence[str], jobs: int) -> None:
        """Do all, ``jobs`` at a time."""
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(over, len(words)), daemon=True)
        ticker.start()
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self._one, words))
        over.set()

    def _one(self, word: str) -> None:
        self._at_work.append(word)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            answer, said = Path(place) / "figures.json", Path(place) / "said"
            asked = [word, "--share", str(self.share), "--seed", str(self.seed), "--to", str(answer)]
            with said.open("w") as file:  # what the trials say on the way is part of them
                code = subprocess.call(
                    [sys.executable, __file__, *asked], stdin=subprocess.DEVNULL, stdout=file, stderr=file
                )
            if answer.exists():
                figures = Figures(**json.loads(answer.read_text()))
            else:
                figures = Figures({}, [f"{word} was not done: status {code}: {said.read_text()[-600:]}"])
        self._at_work.remove(word)
        self.found[word] = figures
        self.say(f"{word}: {told(figures.counts)} ({time.monotonic() - began:.0f} s)")
        for line in figures.wrong:
            self.say(f"  {line}")

    def say(self, line: str) -> None:
        """Print a line with the time since the beginning."""
        seconds = int(time.monotonic() - self._began)
        with self._say:
            print(f"{seconds // 60:3d}:{seconds % 60:02d}  {line}", flush=True)

    def _tick(self, over: threading.Event, count: int) -> None:
        while not over.wait(_TICK):
            self.say(f"{len(self.found)} of {count} pieces are done; at work: {', '.join(self._at_work)}")


def told(counts: dict[str, int]) -> str:
    """Write counts as text: ``887 kills, 0 lost``."""
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing"


def main(argv: Sequence[str] | None = None) -> int:
    """Print how far it is, then a line a part; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the number of trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="pieces at a time")
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)  # of one piece: where its figures go
    asked = parser.parse_args(argv)
    for part, _, piece in (word.partition(":") for word in asked.parts):
        if part not in PARTS:
            parser.error(f"no part {part!r}; choose from {', '.join(PARTS)}")
        if piece and piece not in (pieces := getattr(module_of(part), "PIECES", ())):
            parser.error(f"no piece {piece!r} of {part}; choose from {', '.join(pieces) or 'none'}")
    if asked.to is not None:
        asked.to.write_text(json.dumps(figures_of(asked.parts[0], asked.share, asked.seed)._asdict()))
        return 0
    trials = Trials(asked.share, asked.seed)
    trials.do(pieces_of(asked.parts or list(PARTS)), max(1, asked.jobs))
    print()
    for part in PARTS:
        found = [figures for word, figures in trials.found.items() if word.partition(":")[0] == part]
        counts: Counter[str] = Counter()
        for figures in found:
            counts.update(figures.counts)
        if found:
            print(f"{part:<14} {told(dict(counts))}")
    wrong = sum(len(figures.wrong) for figures in trials.found.values())
    trials.say(f"{wrong} went wrong" if wrong else "nothing was lost, nothing was silent")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # trials wait for the disk at every file
    with tempfile.TemporaryDirectory(dir=memory) as scratch:  # trials write below it
        tempfile.tempdir = scratch
        sys.exit(main())

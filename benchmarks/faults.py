"""Try what damage, full disks, kills and odd command lines do, and print how many were lost or silent.

    python benchmarks/faults.py [PART ...] [--share 0.1] [--seed 0]

A part is a file in ``tests/faults`` or ``tests/fuzz`` with a function ``figures(share, seed)`` that gives a
:class:`Figures`; ``share``: of the whole number of trials. Of one with ``PIECES``, ``PART:PIECE`` does one alone
(``write-faults:sweep``). Exit status 1 if any trial went wrong.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
#: part: the module that does it
PARTS: dict[str, str] = {
    "damages": "damaged_files",
    "kills": "killed",
    "write-faults": "failing_disk",
    "command-lines": "command_lines",
}


class Figures(NamedTuple):
    """What came of a part. ``counts``: names and numbers in the order they are printed; ``wrong``: a line a trial that
    went wrong, which says how to make it again.
    """

    counts: dict[str, int]
    wrong: Sequence[str] = ()


def module_of(part: str) -> ModuleType:
    """Import the file of a part."""
    for folder in ("faults", "fuzz"):
        if (place := str(ROOT / "tests" / folder)) not in sys.path:
            sys.path.append(place)
    return importlib.import_module(PARTS[part])


def figures_of(part: str, piece: str, share: float, seed: int) -> Figures:
    """Do one part, or a piece of it."""
    of_part = module_of(part).figures
    return Figures(*(of_part(share, seed, (piece,)) if piece else of_part(share, seed)))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a part; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the number of trials")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    for part, _, piece in (word.partition(":") for word in asked.parts):
        if part not in PARTS:
            parser.error(f"no part {part!r}; choose from {', '.join(PARTS)}")
        if piece and piece not in (pieces := getattr(module_of(part), "PIECES", ())):
            parser.error(f"no piece {piece!r} of {part}; choose from {', '.join(pieces) or 'none'}")
    bad = 0
    for word in asked.parts or PARTS:
        part, _, piece = word.partition(":")
        began = time.monotonic()
        found = figures_of(part, piece, asked.share, asked.seed)
        told = ", ".join(f"{number} {name}" for name, number in found.counts.items())
        print(f"{word}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
        for line in found.wrong:
            print(f"  {line}", flush=True)
        bad += len(found.wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # trials wait for the disk at every file
    with tempfile.TemporaryDirectory(dir=memory) as scratch:  # trials write below it
        tempfile.tempdir = scratch
        sys.exit(main())

"""Figures of the fuzzer of the command line, for ``make faults``: python benchmarks/faults.py command-lines."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from grammar import lines
from hypothesis import HealthCheck, Phase, given, seed, settings
from trial import Ended, forked, preload, real
from world import build

LINES, REAL = 2000, 20
#: lines drawn for one that is new
_DRAWS = 4


def drawn(number: int, start: int) -> list[list[str]]:
    """Draw ``number`` lines, no two the same."""
    found: dict[tuple[str, ...], None] = {}

    @seed(start)
    @settings(
        max_examples=_DRAWS * number,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lines())
    def each(line: list[str]) -> None:
        if len(found) < number:
            found[tuple(line)] = None

    each()
    return [list(line) for line in found]


def tried(number: int, start: int, how: Callable[[list[str], Path, Path], Ended], folder: Path) -> list[Ended]:
    """Try ``number`` different lines at random, each from the same beginning."""
    world = folder / "world"
    if not world.exists():
        build(world)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child uses none of them
        return [how(line, world, folder / f"trial-{k}") for k, line in enumerate(drawn(number, start))]


def figures(share: float, start: int) -> tuple[dict[str, int], list[str]]:
    """Try 2000 lines in forked children and 20 as real commands; counts, and a line for each that went wrong."""
    preload()
    with tempfile.TemporaryDirectory() as scratch:
        ended = tried(max(1, round(LINES * share)), start, forked, Path(scratch))
        ended += tried(max(1, round(REAL * share)), start + 1, real, Path(scratch))
    wrong = [one for one in ended if one.faults]
    counts = {
        "lines": len(ended),
        "tracebacks": sum("traceback" in fault for one in wrong for fault in one.faults),
        "hangs": sum(one.code is None for one in ended),
        "half-written": sum("left " in fault or "cut short" in fault for one in wrong for fault in one.faults),
        "refused": sum(one.code == 2 for one in ended),
        "done": sum(one.code == 0 for one in ended),
    }
    return counts, [one.told() for one in wrong]

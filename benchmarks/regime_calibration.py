"""How often is the regime of a run judged wrong when it is judged too early? 200 runs on digits, 20 core-minutes.

    python benchmarks/regime_calibration.py [--cache FOLDER] [--workers N] [--write]

The regime of a run is known from a horizon four times that of the set-up. The same run is trained again to the set-up's
own horizon, to a half and to a quarter of it, and judged by what there is then. Printed is, for each of the three, how
many of the runs of a known regime are judged as what. ELRs lie evenly in log over all three regimes and so as often
near a boundary as anywhere. Runs found in the cache are not trained again. ``--write`` also puts the tables into
docs/results/calibration.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scaleinv.lab.config import Settings
from scaleinv.papers.kodryan2022.runs import find, squared_loss
from scaleinv.papers.records import processor
from scaleinv.runfolder.environment import environment
from scaleinv.studies.obtain import Request, obtain_many
from scaleinv.studies.regime_map import verdict_of

PAGE = Path(__file__).parents[1] / "docs" / "results" / "calibration.md"
#: of the set-up's epochs: the horizon that tells the regime, and those that are put to the test
KNOWN, TESTED = 4.0, (1.0, 0.5, 0.25)
NAMES = {1: "1", 2: "2", 3: "3", None: "undecided"}


@dataclass(frozen=True)
class SetUp:
    """A network on digits, its ELRs, evenly in log, and how many seeds."""

    name: str
    settings: Settings
    low: float
    high: float
    elrs: int
    seeds: int

    def requests(self, share: float) -> list[Request]:
        """Request all its runs at this share of its epochs, weights and per-step records left out."""
        epochs = round((self.settings.epochs or 0) * share)
        one = replace(self.settings, epochs=epochs, evaluation="online", eval_every=epochs, keep_every=None)
        elrs = [float(f"{elr:.6g}") for elr in np.geomspace(self.low, self.high, self.elrs)]
        return [Request(settings=one, elr=elr, seed=seed) for elr in elrs for seed in range(self.seeds)]


def set_ups() -> list[SetUp]:
    """List what is trained: those of the claims, 200 runs."""
    return [
        SetUp("MLP, cross-entropy", find("digits", "mlp").settings, 1e-3, 0.5, 12, 11),
        SetUp("MLP, squared loss", squared_loss()[0], 0.05, 10.0, 11, 4),
        SetUp("ConvNet, cross-entropy", find("digits").settings, 2.5e-4, 0.25, 8, 3),
    ]


Counts = Mapping[tuple[int | None, int | None], int]


def confusion(known: Sequence[int | None], judged: Sequence[int | None]) -> Counts:
    """Count the pairs (known regime, judged regime).

    >>> confusion([1, 1, 2], [1, None, 2])[1, None]
    1
    """
    return Counter(zip(known, judged, strict=True))


def table(counts: Counts) -> list[str]:
    """Write the counts as a table: a row for each known regime."""
    lines = ["| known | judged 1 | 2 | 3 | undecided | wrong |", "|---|---|---|---|---|---|"]
    for known in (1, 2, 3):
        row = [counts.get((known, judged), 0) for judged in NAMES]
        wrong = sum(row[:3]) - counts.get((known, known), 0)
        lines.append(f"| {known} | {' | '.join(map(str, row))} | {wrong} of {sum(row)} |")
    return lines


def horizon(share: float) -> str:
    return {1.0: "The set-up's own horizon", 0.5: "Half of it", 0.25: "A quarter of it"}[share]


def measure(cache: Path, workers: int) -> dict[float, tuple[list[str], list[int | None]]]:
    """Train (or find) and judge every run at every horizon: by share, the names of the set-ups and the regimes."""
    found: dict[float, tuple[list[str], list[int | None]]] = {}
    for share in (KNOWN, *TESTED):
        names, regimes = [], []
        for one in set_ups():
            folders = obtain_many(cache, one.requests(share), workers=workers)
            names += [one.name] * len(folders)
            regimes += [verdict_of(folder)[1].regime for folder in folders]
            print(f"{one.name}, {share:g} of its epochs: {len(folders)} runs", file=sys.stderr, flush=True)
        found[share] = names, regimes
    return found


def report(found: dict[float, tuple[list[str], list[int | None]]]) -> list[str]:
    """Write the tables, and how many runs of each set-up are of a known regime."""
    names, known = found[KNOWN]
    lines = [f"{len(known)} runs; at {KNOWN:g} times the horizon {sum(k is None for k in known)} stay undecided.", ""]
    for name in dict.fromkeys(names):
        mine = Counter(NAMES[k] for n, k in zip(names, known) if n == name)
        counted = ", ".join(f"{mine[word]} in {word}" for word in ("1", "2", "3"))
        lines.append(f"- {name}: {counted}, {mine['undecided']} undecided")
    for share in TESTED:
        counts = confusion(known, found[share][1])
        wrong = sum(c for (k, j), c in counts.items() if k is not None and j is not None and k != j)
        open_ = sum(c for (k, j), c in counts.items() if k is not None and j is None)
        sure = sum(k is not None for k in known)
        lines += ["", f"**{horizon(share)}**: {wrong} of {sure} judged wrong, {open_} left undecided.", ""]
        lines += table(counts)
    return lines


HEAD = """# How often is a regime judged wrong?

`python benchmarks/regime_calibration.py`: runs on digits whose regime is known from a horizon four times as long are
judged at the horizon of their set-up, at a half and at a quarter of it. Their ELRs lie evenly in log over all three
regimes. Rows: the known regime.

"""


def main() -> int:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="also write docs/results/calibration.md")
    args = parser.parse_args()
    lines = report(measure(args.cache, args.workers))
    print("\n".join(lines))
    if args.write:
        made = f"\nMade at commit {str(environment(1)['git'])[:10]} on {processor()}.\n"
        PAGE.write_text(HEAD + "\n".join(lines) + "\n" + made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

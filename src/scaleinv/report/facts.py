"""What a page is made of: everything that its sections may ask. ``report/gather.py`` makes the facts from folders."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaleinv.analysis.periods import Periods
from scaleinv.errors import UserError
from scaleinv.report.choice import MOST_MAPS, MOST_RUNS, choose_runs, evenly
from scaleinv.runfolder.lineage import Origin
from scaleinv.runfolder.read import Floats, Ints, Run
from scaleinv.text import elr_text, number

#: what a run that ended by itself may be called
ENDED = ("finished", "converged", "diverged")


class Landscape(NamedTuple):
    """What ``scaleinv landscape`` measured, and the file it is kept in."""

    path: Path
    content: Mapping[str, Any]

    def damaged(self, error: Exception) -> UserError:
        """Return the error to raise where the content is not what ``scaleinv landscape`` writes."""
        return UserError(f"{self.path} is damaged ({error}); remove it and measure again")


@dataclass(frozen=True)
class RunFacts:
    """A run as its own page shows it."""

    run: Run
    row: Mapping[str, Any]  # the same numbers as in a sweep's table
    window: tuple[int, int] | None  # first and last epoch of the means in ``row``
    periods: Periods | None  # None: not looked for, or too short a run
    origin: Origin | None  # whose weights it started with
    alerts: Sequence[Mapping[str, Any]]  # of a Monitor
    landscape: Landscape | None  # None: not measured

    @property
    def config(self) -> Mapping[str, Any]:
        return self.run.config

    @property
    def environments(self) -> list[Mapping[str, Any]]:
        return [self.run.environment]

    @property
    def rate_name(self) -> str:
        """``ELR`` on the sphere, ``LR`` in the whole space."""
        return "LR" if self.config.get("elr") is None else "ELR"

    @property
    def seeds(self) -> list[int]:
        return [] if self.run.seed is None else [self.run.seed]

    @property
    def has_periods(self) -> bool:
        return self.periods is not None

    def last(self, split: str, quantity: str) -> float:
        """Return the last value of a series; NaN where nothing was measured."""
        values = self.run.series(split, "total", quantity)[1]
        return float(values[-1]) if values.size else math.nan


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep. Numbers that were not measured are NaN."""

    key: str  # short and safe, links the same run across figures and table
    name: str
    rate_name: str  # ELR or LR
    rate: float
    rate_label: str
    seed: int | None
    regime: int | None
    evidence: Mapping[str, Any]
    status: str
    train_loss: float
    test_error: float
    test_error_recomputed: float  # with normalisation statistics recomputed over the train set
    effective_gradient: float
    ess: float
    cosine: float
    run: Run | None  # None where the folder is gone
    weight_decay: float = 0.0
    start: str = ""  # checksum of the weights it starts from
    start_name: str = ""  # in words, where the runs of the sweep differ in it
    origin: Origin | None = None  # whose weights these are; None: not said
    periods: Mapping[str, Any] | None = None  # as in sweep.json

    @property
    def title(self) -> str:
        """``ELR 3.2e-3, seed 1``."""
        decay = f", wd {elr_text(self.weight_decay)}" if self.weight_decay > 0 else ""
        seed = f", seed {self.seed}" if self.seed is not None else ""
        start = f", from {self.start_name}" if self.start_name else ""
        return f"{self.rate_name} {self.rate_label}{decay}{seed}{start}"

    def series(self, split: str, quantity: str, group: str = "total") -> tuple[Ints, Floats]:
        """Return a series of the run; empty where the folder is gone or it was not measured."""
        if self.run is None:
            return np.zeros(0, np.int64), np.zeros(0, np.float64)
        return self.run.series(split, group, quantity)

    @property
    def window(self) -> tuple[int, int] | None:
        """The first and the last epoch the run was judged by; its numbers are means over them."""
        found = self.evidence.get("window")
        if isinstance(found, list) and len(found) == 2 and all(isinstance(epoch, int) for epoch in found):
            return found[0], found[1]
        return None

    @property
    def broken_at(self) -> int | None:
        """The first epoch whose train loss is not a finite number; None where all are."""
        for split in ("online", "train"):
            epochs, values = self.series(split, "loss")
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                return int(epochs[bad[0]])
        return None


@dataclass(frozen=True)
class SweepFacts:
    """A sweep as its page shows it."""

    folder: Path
    config: Mapping[str, Any]  # what all runs share, and the sweep's own settings
    runs: list[SweptRun]
    boundaries: Mapping[str, Any] | None  # None: the regime map is not written yet
    horizon: Mapping[str, Any]
    digits: int
    rate_name: str = "ELR"  # or LR, for a sweep in the whole space
    maps: Sequence[Mapping[str, Any]] = ()  # boundaries by weight decay and start
    parents: Mapping[str, Run] = field(default_factory=dict)  # the runs they started from, by checksum of the weights
    landscape: Landscape | None = None  # None: not measured
    environments: Sequence[Mapping[str, Any]] = ()
    most: int = MOST_RUNS  # runs that figures draw one by one

    @cached_property
    def drawn(self) -> list[SweptRun]:
        """The runs that have a line of their own in the figures: all, or a choice of a large sweep's."""
        return choose_runs(self.runs, self.most, self.boundaries)

    @cached_property
    def others(self) -> list[SweptRun]:
        """The runs that only figures with a mark for each run show."""
        drawn = {fact.key for fact in self.drawn}
        return [fact for fact in self.runs if fact.key not in drawn]

    @property
    def axis(self) -> str:
        """The name of the swept rate in full."""
        return "effective learning rate" if self.rate_name == "ELR" else "learning rate"

    @property
    def seeds(self) -> list[int]:
        return sorted({fact.seed for fact in self.runs if fact.seed is not None})

    @property
    def rates(self) -> list[float]:
        return sorted({fact.rate for fact in self.runs if math.isfinite(fact.rate)})

    @property
    def has_periods(self) -> bool:
        return any(fact.periods is not None for fact in self.runs)

    @property
    def starts(self) -> dict[str, Origin | None]:
        """The checksums of the weights its runs started from, by the rate of the parent."""
        found = {fact.start: fact.origin for fact in self.runs if fact.start}
        return dict(sorted(found.items(), key=lambda item: start_order(*item)))

    def of_regime(self, regime: int | None) -> list[SweptRun]:
        return [fact for fact in self.runs if fact.regime == regime]

    def window_words(self) -> str:
        """Name the epochs that the numbers are means over, ``epochs 31-60``; in general words where the runs differ."""
        windows = {fact.window for fact in self.runs if fact.window is not None}
        if len(windows) == 1:
            first, last = windows.pop()
            return f"epochs {first}-{last}"
        return "the last half of each run"

    def references(self) -> Floats:
        """Return the train loss of random directions, over all runs (they share the head); empty where not measured."""
        found = [fact.run.reference("loss") for fact in self.runs if fact.run is not None]
        values = np.unique(np.concatenate(found)) if found else np.zeros(0, np.float64)
        return values[np.isfinite(values)]

    def split(self) -> str:
        """Choose the curves' split: the exact pass if made at half of the epochs or more, else the training steps."""
        exact = sum(fact.series("train", "loss")[1].size for fact in self.runs)
        online = sum(fact.series("online", "loss")[1].size for fact in self.runs)
        return "train" if exact and exact >= 0.5 * online else "online"


AnyFacts = RunFacts | SweepFacts  # of what the pages of both kinds say


class SweepPart(NamedTuple):
    """The runs of a sweep that lie on one axis; the names are empty where it is the whole sweep."""

    name: str  # weight decay 1e-3, from ELR 1.6e-2, seed 0, epoch 30 (s1/runs/f81c40…)
    short: str
    facts: SweepFacts
    drawn: bool = True  # whether it has figures of its own: of very many parts a choice has


def by_series(facts: SweepFacts) -> list[SweepPart]:
    """Split the sweep by weight decay and start, each part with its own boundaries, by rising rate of the parent."""
    origins = {fact.start: fact.origin for fact in facts.runs}
    keys = sorted(
        {(fact.weight_decay, fact.start) for fact in facts.runs},
        key=lambda key: (key[0], start_order(key[1], origins[key[1]])),
    )
    if len(keys) < 2:
        return [SweepPart("", "", facts)]
    several_decays, several_starts = (len({key[i] for key in keys}) > 1 for i in (0, 1))
    with_figures = keys if len(facts.runs) <= MOST_RUNS else evenly(keys, MOST_MAPS)
    parts = []
    for decay, start in keys:
        runs = [fact for fact in facts.runs if (fact.weight_decay, fact.start) == (decay, start)]
        own = [m for m in facts.maps if (number(m.get("weight_decay")), m.get("start") or "") == (decay, start)]
        found = own[0].get("boundaries") if own else None
        decays = [f"weight decay {elr_text(decay)}"] if several_decays else []
        froms = [start_words(start, origins[start]), runs[0].start_name] if several_starts and start else ["", ""]
        name, short = (", ".join([*decays, *([f"from {words}"] if words else [])]) for words in froms)
        found = found if isinstance(found, dict) else None
        most = max(MOST_RUNS // len(with_figures), 8)
        own_facts = dataclasses.replace(facts, runs=runs, boundaries=found, most=most)
        parts.append(SweepPart(name, short, own_facts, (decay, start) in with_figures))
    return parts


def start_order(start: str, origin: Origin | None) -> tuple[float, int, int, str]:
    """Return a sort key of starts: by the parent's rate, unknown origins last, by checksum."""
    return origin.order if origin is not None else (math.inf, 0, 0, start)


def start_words(start: str, origin: Origin | None) -> str:
    """Name the run a start came from, with its folder; the checksum where no lineage tells it."""
    return origin.full(elr_text) if origin is not None else f"weights {start[:8]}"

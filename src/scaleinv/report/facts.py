"""What a sweep's page says about each run, gathered from the regime map and the run folders."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaleinv.analysis.regimes import Verdict, classify
from scaleinv.runfolder.lineage import Origin, origin_of, short_names
from scaleinv.runfolder.read import Floats, Ints, Run, SweepRun
from scaleinv.studies.regime_map import measured, run_row
from scaleinv.text import elr_digits, elr_text, number

#: what a run that ended by itself may be called
ENDED = ("finished", "converged", "diverged")


@dataclass(frozen=True)
class RunFacts:
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
    start: str = ""  # checksum of the weights it goes on from
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
        """The run's series; empty where the folder is gone or it was not measured."""
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
    config: Mapping[str, Any]
    runs: list[RunFacts]
    boundaries: Mapping[str, Any] | None  # None: the regime map is not written yet
    horizon: Mapping[str, Any]
    digits: int
    rate_name: str = "ELR"  # or LR, for a sweep in the whole space
    maps: Sequence[Mapping[str, Any]] = ()  # boundaries by weight decay and start

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
    def start_names(self) -> dict[str, str]:
        """What to call each of the weights its runs went on from, by checksum; empty where there is one."""
        return {fact.start: fact.start_name for fact in self.runs if fact.start_name}

    @property
    def starts(self) -> dict[str, Origin | None]:
        """The checksums of the weights its runs went on from, by the rate of the parent."""
        found = {fact.start: fact.origin for fact in self.runs if fact.start}
        return dict(sorted(found.items(), key=lambda item: _start_order(*item)))

    def of_regime(self, regime: int | None) -> list[RunFacts]:
        return [fact for fact in self.runs if fact.regime == regime]

    def window_words(self) -> str:
        """``epochs 31-60``, over which the numbers are means; in general words where the runs differ."""
        windows = {fact.window for fact in self.runs if fact.window is not None}
        if len(windows) == 1:
            first, last = windows.pop()
            return f"epochs {first}-{last}"
        return "the last half of each run"

    def references(self) -> Floats:
        """Train loss of random directions, over all runs (they share the head); empty where it was not measured."""
        found = [fact.run.reference("loss") for fact in self.runs if fact.run is not None]
        values = np.unique(np.concatenate(found)) if found else np.zeros(0, np.float64)
        return values[np.isfinite(values)]

    def split(self) -> str:
        """Where the curves come from: the exact pass where it was made at half of the epochs or more, else the
        training steps.
        """
        exact = sum(fact.series("train", "loss")[1].size for fact in self.runs)
        online = sum(fact.series("online", "loss")[1].size for fact in self.runs)
        return "train" if exact and exact >= 0.5 * online else "online"


class Part(NamedTuple):
    """The runs of a sweep that lie on one axis; the names are empty where it is the whole sweep."""

    name: str  # weight decay 1e-3, from ELR 1.6e-2, seed 0, epoch 30 (s1/runs/f81c40…)
    short: str
    facts: SweepFacts


def by_series(facts: SweepFacts) -> list[Part]:
    """The sweep split by weight decay and start, each part with its own boundaries, by rising rate of the parent."""
    origins = {fact.start: fact.origin for fact in facts.runs}
    keys = sorted(
        {(fact.weight_decay, fact.start) for fact in facts.runs},
        key=lambda key: (key[0], _start_order(key[1], origins[key[1]])),
    )
    if len(keys) < 2:
        return [Part("", "", facts)]
    several_decays, several_starts = (len({key[i] for key in keys}) > 1 for i in (0, 1))
    parts = []
    for decay, start in keys:
        runs = [fact for fact in facts.runs if (fact.weight_decay, fact.start) == (decay, start)]
        own = next(
            (m for m in facts.maps if (number(m.get("weight_decay")), m.get("start") or "") == (decay, start)), {}
        )
        decays = [f"weight decay {elr_text(decay)}"] * several_decays
        from_where = bool(several_starts and start)
        name = ", ".join([*decays, *[f"from {start_words(start, origins[start])}"] * from_where])
        short = ", ".join([*decays, *[f"from {runs[0].start_name}"] * from_where])
        found = own.get("boundaries")
        found = found if isinstance(found, dict) else None
        parts.append(Part(name, short, dataclasses.replace(facts, runs=runs, boundaries=found)))
    return parts


def _start_order(start: str, origin: Origin | None) -> tuple[float, int, int, str]:
    """Unknown origins last, by checksum; it is the same for all runs of a sweep that starts afresh."""
    return origin.order if origin is not None else (math.inf, 0, 0, start)


def start_words(start: str, origin: Origin | None) -> str:
    """The run a start came from, with its folder; the checksum where no lineage tells it."""
    return origin.full(elr_text) if origin is not None else f"weights {start[:8]}"


def _origins(sweep: SweepRun) -> dict[str, Origin]:
    """By checksum; the sweep's own config knows those whose runs are gone."""
    starts = sweep.config.get("starts")
    told = [*(starts if isinstance(starts, list) else []), *(run.lineage for run in sweep.runs)]
    return {origin.weights: origin for origin in map(origin_of, told) if origin is not None}


def gather(sweep: SweepRun) -> SweepFacts:
    """The facts of a sweep, by rising rate, then by the rate of the parent, then seed."""
    entries = _entries(sweep)
    origins = _origins(sweep)
    starts = [_start(entry, run) for entry, run in entries]
    names: dict[str, str] = {}
    if len(set(starts)) > 1:
        rates = elr_digits(origin.rate for origin in origins.values())
        names = {start: f"weights {start[:8]}" for start in starts if start}
        names |= short_names((o for o in origins.values() if o.weights in names), lambda rate: elr_text(rate, rates))
    axis = "lr" if sweep.config.get("axis") == "lr" else "elr"
    swept = [_rate(entry, run, axis) for entry, run in entries]
    digits = elr_digits(swept)
    order = sorted(
        range(len(entries)),
        key=lambda i: (
            swept[i] if math.isfinite(swept[i]) else math.inf,
            _start_order(starts[i], origins.get(starts[i])),
            _seed(entries[i][0]) or 0,
            i,
        ),
    )
    facts = []
    for place, i in enumerate(order):
        entry, run = entries[i]
        regime, evidence = entry.get("regime"), entry.get("evidence")
        facts.append(
            RunFacts(
                key=f"r{place}",
                name=str(entry.get("run", "")),
                rate_name=axis.upper(),
                rate=swept[i],
                rate_label=elr_text(swept[i], digits),
                seed=_seed(entry),
                regime=regime if regime in (1, 2, 3) else None,
                evidence=evidence if isinstance(evidence, dict) else {},
                status=str(entry.get("status") or "unknown"),
                train_loss=number(entry.get("train_loss")),
                test_error=number(entry.get("test_error")),
                test_error_recomputed=number(entry.get("test_error_recomputed_bn")),
                effective_gradient=number(entry.get("effective_gradient")),
                ess=number(entry.get("ess")),
                cosine=number(entry.get("cosine")),
                run=run,
                weight_decay=decay if math.isfinite(decay := number(entry.get("weight_decay"))) else 0.0,
                start=starts[i],
                start_name=names.get(starts[i], ""),
                origin=origins.get(starts[i]),
                periods=entry.get("periods") if isinstance(entry.get("periods"), dict) else None,
            )
        )
    summary = sweep.summary or {}
    maps = summary.get("maps")
    boundaries = summary.get("boundaries")
    horizon = summary.get("horizon")
    return SweepFacts(
        folder=sweep.folder,
        config=flat_config(sweep),
        runs=facts,
        boundaries=boundaries if isinstance(boundaries, dict) else None,
        horizon=horizon if isinstance(horizon, dict) else {},
        digits=digits,
        rate_name=axis.upper(),
        maps=[one for one in maps if isinstance(one, dict)] if isinstance(maps, list) else (),
    )


_SHOWN_ELSEWHERE = ("base", "axis", "values", "seeds", "weight_decays", "starts")


def flat_config(sweep: SweepRun) -> dict[str, Any]:
    """The sweep's settings in one level: those of its runs, then its own; rates and seeds are shown elsewhere."""
    base = sweep.config.get("base")
    own = {key: value for key, value in sweep.config.items() if key not in _SHOWN_ELSEWHERE}
    return {**(base if isinstance(base, dict) else {}), **own}


def _rate(entry: Mapping[str, Any], run: Run | None, axis: str) -> float:
    """The swept rate of a run: as the map says, else as its config says; an ELR, not an LR, else as measured."""
    stated = [entry.get(axis), None if run is None else run.config.get(axis)]
    known = [value for value in map(number, stated) if math.isfinite(value)]
    return known[0] if known else number(None if run is None or axis != "elr" else run.elr)


def _start(entry: Mapping[str, Any], run: Run | None) -> str:
    """Checksum of the weights a run went on from; empty where it began afresh."""
    return str(entry.get("start") or (run.config.get("start") if run is not None else None) or "")


def _seed(entry: Mapping[str, Any]) -> int | None:
    seed = entry.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def _entries(sweep: SweepRun) -> list[tuple[Mapping[str, Any], Run | None]]:
    """The regime map's entries with their folders; runs that it does not list yet speak for themselves."""
    listed = [entry for entry in (sweep.summary or {}).get("runs", []) if isinstance(entry, dict)]
    entries: list[tuple[Mapping[str, Any], Run | None]] = [
        (entry, sweep.find(str(entry.get("run")))) for entry in listed
    ]
    known = {str(entry.get("run")) for entry in listed}
    entries += [(_row(run), run) for run in sweep.runs if run.name not in known]
    return entries


def _row(run: Run) -> dict[str, Any]:
    """A run's entry as the regime map will hold it, from its folder alone; a run that has not ended is not judged."""
    return run_row(run, stored_verdict(run) or Verdict(None, {"reason": "the run has not ended"}))


def stored_verdict(run: Run) -> Verdict | None:
    """The verdict that result.json holds, made now where it holds none; None for a run that has not ended."""
    if run.result is None:
        return None
    evidence = run.result.get("evidence")
    return Verdict(run.result.get("regime"), evidence) if isinstance(evidence, dict) else classify(run)


def entry_of(run: Run) -> dict[str, Any]:
    """A run's numbers as a page about it alone shows them: the same as in a sweep's table (:func:`measured`)."""
    verdict = None if run.time == "step" else stored_verdict(run)  # by steps of a Monitor there is no regime
    return {
        "run": run.name,
        "elr": run.elr,
        "seed": run.seed,
        "regime": None if verdict is None else verdict.regime,
        "evidence": None if verdict is None else verdict.evidence,
        "status": run.status,
        **measured(run),
    }


def last_of(run: Run, split: str, quantity: str) -> float:
    """The last value of a series that is not NaN; NaN where nothing was measured."""
    values = run.series(split, "total", quantity)[1]
    return float(values[-1]) if values.size else math.nan

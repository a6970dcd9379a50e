"""Make the facts of a page from the folder of a run or a sweep: all reading and judging is done here."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaleinv.analysis.periods.summary import periods_of
from scaleinv.analysis.regimes import window
from scaleinv.report.facts import Landscape, RunFacts, SweepFacts, SweptRun, start_order
from scaleinv.runfolder.lineage import Origin, named, origin_of, parent_run, short_names
from scaleinv.runfolder.read import Run, SweepRun
from scaleinv.runfolder.seal import Damaged, read_sealed
from scaleinv.studies.regime_map import judged_row, measured, stored_verdict
from scaleinv.text import elr_digits, elr_text, number

#: of a run, as the regime map stores them
NUMBERS = ("train_loss", "test_error", "effective_gradient", "ess", "cosine")


def run_facts(run: Run) -> RunFacts:
    """Gather the facts of a run: verdict, periods, origin, landscape."""
    of = window(run)
    verdict = None if run.time == "step" else stored_verdict(run)  # by steps of a Monitor there is no regime
    row = {
        "regime": verdict.regime if verdict is not None and verdict.regime in (1, 2, 3) else None,
        "evidence": {} if verdict is None else verdict.evidence,
        **measured(run),
    }
    return RunFacts(
        run=run,
        row=row,
        window=(of.first, of.last) if of.last else None,
        periods=periods_of(run),
        origin=origin_of(run.lineage),
        alerts=run.alerts,
        landscape=_landscape(run.folder, {}),
    )


def _landscape(folder: Path, starts: Mapping[str, str]) -> Landscape | None:
    """Read ``landscape.json``; ``starts`` names the weights that runs started from, by checksum."""
    path = folder / "landscape.json"
    try:
        return Landscape(path, named(read_sealed(path, nan=True), starts)) if path.exists() else None
    except Damaged:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Landscape(path, {}).damaged(error) from error


def sweep_facts(sweep: SweepRun) -> SweepFacts:
    """Gather the facts of a sweep, its runs by rising rate, then by the rate of the parent, then by seed."""
    entries = _entries(sweep)
    origins = _origins(sweep)
    starts = [_start(entry, run) for entry, run in entries]
    names: dict[str, str] = {}
    if len(set(starts)) > 1:
        rates = elr_digits(origin.rate for origin in origins.values())
        names = {start: f"weights {start[:8]}" for start in starts if start}
        names |= short_names((o for o in origins.values() if o.weights in names), lambda rate: elr_text(rate, rates))
    axis = "lr" if sweep.config.get("axis") == "lr" else "elr"
    rows = [(_rate(entry, run, axis), _start(entry, run), _seed(entry), entry, run) for entry, run in entries]
    digits = elr_digits(rate for rate, *_ in rows)
    rows.sort(
        key=lambda row: (
            row[0] if math.isfinite(row[0]) else math.inf,
            start_order(row[1], origins.get(row[1])),
            row[2] or 0,
        )
    )
    facts = []
    for place, (rate, start, seed, entry, run) in enumerate(rows):
        decay = number(entry.get("weight_decay"))
        facts.append(
            SweptRun(
                key=f"r{place}",
                name=str(entry.get("run", "")),
                rate_name=axis.upper(),
                rate=rate,
                rate_label=elr_text(rate, digits),
                seed=seed,
                regime=regime if (regime := entry.get("regime")) in (1, 2, 3) else None,
                evidence=_object(entry.get("evidence")) or {},
                status=str(entry.get("status") or "unknown"),
                test_error_recomputed=number(entry.get("test_error_recomputed_bn")),
                run=run,
                weight_decay=decay if math.isfinite(decay) else 0.0,
                start=start,
                start_name=names.get(start, ""),
                origin=origins.get(start),
                periods=_object(entry.get("periods")),
                **{name: number(entry.get(name)) for name in NUMBERS},
            )
        )
    summary = sweep.summary or {}
    maps = summary.get("maps")
    return SweepFacts(
        folder=sweep.folder,
        config=_config(sweep),
        runs=facts,
        boundaries=_object(summary.get("boundaries")),
        horizon=_object(summary.get("horizon")) or {},
        digits=digits,
        rate_name=axis.upper(),
        maps=[one for one in maps if isinstance(one, dict)] if isinstance(maps, list) else (),
        parents=_parents(sweep.folder, {start: origins[start] for start in set(starts) & origins.keys()}),
        landscape=_landscape(sweep.folder, names),
        environments=[run.environment for run in sweep.runs],
    )


def _object(value: Any) -> dict[str, Any] | None:
    """Return a JSON object; None where the file holds something else there."""
    return value if isinstance(value, dict) else None


def _config(sweep: SweepRun) -> dict[str, Any]:
    """Collect the settings that all runs share, and the sweep's own; rates and seeds are shown elsewhere."""
    shown_elsewhere = ("base", "axis", "values", "seeds", "weight_decays", "starts")
    own = {key: value for key, value in sweep.config.items() if key not in shown_elsewhere}
    first, *others = [run.config for run in sweep.runs] or [{}]
    shared = {key: value for key, value in first.items() if all(config.get(key) == value for config in others)}
    return {**(_object(sweep.config.get("base")) or {}), **own, **shared}


def _origins(sweep: SweepRun) -> dict[str, Origin]:
    """Find the origins by checksum; the sweep's own config knows those whose runs are gone."""
    starts = sweep.config.get("starts")
    told = [*(starts if isinstance(starts, list) else []), *(run.lineage for run in sweep.runs)]
    return {origin.weights: origin for origin in map(origin_of, told) if origin is not None}


def _rate(entry: Mapping[str, Any], run: Run | None, axis: str) -> float:
    """Return the swept rate of a run: from the map, else from its config; an ELR, not an LR, else as measured."""
    stated = [entry.get(axis), None if run is None else run.config.get(axis)]
    known = [value for value in map(number, stated) if math.isfinite(value)]
    return known[0] if known else number(None if run is None or axis != "elr" else run.elr)


def _start(entry: Mapping[str, Any], run: Run | None) -> str:
    """Return the checksum of the weights a run started from; empty where it began afresh."""
    return str(entry.get("start") or (run.config.get("start") if run is not None else None) or "")


def _seed(entry: Mapping[str, Any]) -> int | None:
    seed = entry.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def _entries(sweep: SweepRun) -> list[tuple[Mapping[str, Any], Run | None]]:
    """Pair the regime map's entries with their runs; a run that it does not list yet gets an entry from its folder."""
    listed = [entry for entry in (sweep.summary or {}).get("runs", []) if isinstance(entry, dict)]
    known = {str(entry.get("run")) for entry in listed}
    named_so = {run.name: run for run in reversed(sweep.runs)}
    entries = [(entry, named_so.get(str(entry.get("run")))) for entry in listed]
    return [*entries, *((judged_row(run), run) for run in sweep.runs if run.name not in known)]


def _parents(folder: Path, origins: Mapping[str, Origin]) -> dict[str, Run]:
    """Find the runs that others started from, by checksum of the weights, where their folder can be read."""
    found = {checksum: parent_run(origin, folder) for checksum, origin in origins.items()}
    return {checksum: run for checksum, run in found.items() if run is not None}

"""Make the regime map of a sweep, every run classified and the boundaries, as one JSON object (sweep.json)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.periods.summary import periods_of, summary
from scaleinv.analysis.regimes import NAMES, Verdict, boundaries, classify, window
from scaleinv.runfolder.read import Run, load_run


def run_row(run: Run, verdict: Verdict) -> dict[str, Any]:
    """Make one entry of sweep.json: the numbers of :func:`measured`, and the periods of a run in the whole space (None:
    there is nothing to look for).
    """
    elr = run.elr if math.isfinite(run.elr) else None
    config = {**run.config, "elr": elr, "seed": run.seed}
    numbers = measured(run) | {"periods": summary(periods_of(run))}
    return _row(run.name, config, verdict.regime, verdict.evidence, numbers, run.status)


def stored_verdict(run: Run) -> Verdict | None:
    """Return the verdict in result.json, made now where there is none; None for a run that has not ended."""
    if run.result is None:
        return None
    evidence = run.result.get("evidence")
    return Verdict(run.result.get("regime"), evidence) if isinstance(evidence, dict) else classify(run)


def judged_row(run: Run) -> dict[str, Any]:
    """Make a run's entry as the regime map will hold it; a run that has not ended is not judged."""
    return run_row(run, stored_verdict(run) or Verdict(None, {"reason": "the run has not ended"}))


def failed_row(name: str, config: Mapping[str, Any], message: str) -> dict[str, Any]:
    """Make the entry of a run that has no result."""
    return _row(name, config, None, {"reason": f"the run failed: {message}"}, dict.fromkeys(_MEASURED), "failed")


def _row(
    name: str, config: Mapping[str, Any], regime: int | None, evidence: Any, numbers: Mapping[str, Any], status: str
) -> dict[str, Any]:
    told = {field: config.get(field) for field in ("elr", "lr", "weight_decay", "start", "seed")}
    return {"run": name, **told, "regime": regime, "evidence": evidence, **numbers, "status": status}


_MEASURED = ("train_loss", "test_error", "test_error_recomputed_bn", "effective_gradient", "ess", "cosine", "periods")


def measured(run: Run) -> dict[str, float | None]:
    """Measure what tables say of a run under these names: means over the window (last half of the epochs) of the
    train loss, effective gradient, ESS and cosine, and the test errors of the last evaluation; None for no number.
    """
    w = window(run)

    def average(values: Any) -> float | None:
        value = float(np.mean(values)) if len(values) else math.nan
        return value if math.isfinite(value) else None

    def last(quantity: str) -> float | None:
        values = run.series("test", "total", quantity)[1]
        return float(values[-1]) if len(values) and math.isfinite(values[-1]) else None

    return {
        "train_loss": average(w.loss),
        "test_error": last("error"),
        "test_error_recomputed_bn": last("error_recomputed_bn"),
        "effective_gradient": average(w.eg),
        "ess": average(w.ess),
        "cosine": average(w.cosine),
    }


def series_of(row: Mapping[str, Any]) -> tuple[float, str]:
    """Return the weight decay and the start of a run: only runs that share them lie on one axis."""
    return float(row.get("weight_decay") or 0.0), str(row.get("start") or "")


def regime_map(rows: Sequence[Mapping[str, Any]], axis: str, horizon: Mapping[str, Any]) -> dict[str, Any]:
    """Make the content of sweep.json from the rows of its runs; ``horizon``: their length, part of the statement.

    ``maps`` holds the boundaries for each weight decay and start; ``boundaries`` are those of the only one, and None
    where there are several.
    """
    maps = []
    for decay, start in sorted({series_of(row) for row in rows}):
        own = [row for row in rows if series_of(row) == (decay, start)]
        points = [(float(row[axis]), int(row["seed"] or 0), row["regime"]) for row in own if row[axis] is not None]
        maps.append({"weight_decay": decay, "start": start or None, "boundaries": boundaries(points)})
    return {
        "boundaries": maps[0]["boundaries"] if len(maps) == 1 else boundaries([]) if not maps else None,
        "maps": maps,
        "axis": axis,
        "horizon": dict(horizon),
        "runs": [dict(row) for row in rows],
    }


def count_regimes(summary: Mapping[str, Any]) -> dict[str, list[float]]:
    """List the rates of each regime, ascending, by name; a rate whose seeds disagree stands under each name."""
    found: dict[str, set[float]] = {name: set() for name in NAMES.values()}
    for row in summary["runs"]:
        rate = row[summary["axis"]]
        if rate is not None:
            found[NAMES[row["regime"]]].add(float(rate))
    return {name: sorted(rates) for name, rates in found.items()}


def verdict_of(folder: Path) -> tuple[Run, Verdict]:
    """Load a run folder and classify it."""
    run = load_run(folder)
    return run, classify(run)


def regime_name(regime: int | None) -> str:
    """``2 chaotic equilibrium``; ``? undecided``."""
    return f"{'?' if regime is None else regime} {NAMES[regime]}"


def outcome_line(row: Mapping[str, Any]) -> str:
    """Say in one line how a run of a sweep has ended."""
    reason = str(row["evidence"]["reason"])
    return reason if row["status"] == "failed" else f"{regime_name(row['regime'])} - {reason}"

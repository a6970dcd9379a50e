"""The periods of a run folder in a few numbers, for tables of many runs."""

from __future__ import annotations

import math
from typing import Any

from scaleinv.analysis.periods.find import find_periods
from scaleinv.analysis.periods.result import Periods
from scaleinv.analysis.runs import Run
from scaleinv.analysis.steps import has_steps
from scaleinv.errors import UserError


def periods_of(run: Run) -> Periods | None:
    """The periods of a run in the whole space with weight decay and a per-step record; None for any other run, and for
    one that is too short to look at.
    """
    lr, wd = run.config.get("lr"), run.config.get("weight_decay")
    if not (_positive(lr) and _positive(wd)) or not has_steps(run.folder):
        return None
    try:
        return find_periods(run.folder)
    except UserError:
        return None


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def summary(found: Periods | None) -> dict[str, Any] | None:
    """What sweep.json says of them: plain JSON types, None where a number is not known."""
    if found is None:
        return None

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    low, high = found.confidence
    return {
        "verdict": found.verdict,
        "answer": found.answer,
        "periods": len(found.periods),
        "mean_interval": known(found.mean_interval),
        "interval": [known(low), known(high)],
        "mean_interval_lr_wd": known(found.interval_time.mean),
        "phase": found.phase,
        "diverged_at": found.diverged_at,
    }

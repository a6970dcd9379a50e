"""How far the result depends on the thresholds of the definition: one varied at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleinv.analysis.periods.definition import Definition
from scaleinv.analysis.periods.events import On, find_events, smooth
from scaleinv.analysis.periods.log import Log

#: what each threshold is set to in turn, as factors of its value
_VARIED: dict[On, dict[str, tuple[float, ...]]] = {
    "norm": {
        "rise": (0.5, 1, 2, 4, 10),
        "window": (0.5, 2, 5),
        "spike": (0.5, 2),
        "excess": (0.75, 2),
        "burn_in": (0.5, 2),
    },
    "loss": {"loss_spike": (0.3, 1, 3, 10), "loss_window": (0.5, 2), "excess": (0.75, 2)},
}


@dataclass(frozen=True)
class Sensitivity:
    """One threshold at another value, and what is then found."""

    threshold: str
    value: float
    events: int  # destabilisations after the burn-in
    mean_interval: float  # steps; NaN for fewer than 2 events
    mean_time: float  # in 1/(lr wd)
    half_mean_rise: float  # half the mean log rise: what the books say mean_time is


def vary(log: Log, definition: Definition, on: On) -> list[Sensitivity]:
    """A row per variation; the first of each threshold's rows with the value itself is the result's own."""
    found = []
    for name, value in _values(definition, on):
        changes: dict[str, Any] = {name: value}
        other = dataclasses.replace(definition, **changes)
        events = [e for e in find_events(log, other, smooth(log, other), on)[0] if e.spike and e.settled]
        steps, times = (np.diff([getattr(e, field) for e in events]) for field in ("step", "time"))
        rises = [e.log_rise for e in events if math.isfinite(e.log_rise)]
        found.append(
            Sensitivity(
                threshold=name,
                value=float(value),
                events=len(events),
                mean_interval=float(steps.mean()) if len(steps) else math.nan,
                mean_time=float(times.mean()) if len(times) else math.nan,
                half_mean_rise=float(np.mean(rises)) / 2 if rises else math.nan,
            )
        )
    return found


def _values(definition: Definition, on: On) -> Iterator[tuple[str, float]]:
    for name, factors in _VARIED[on].items():
        own = getattr(definition, name)
        for factor in factors:
            value = own * factor
            if isinstance(own, int):
                value = max(1, round(value))
            elif name in ("spike", "loss_spike"):
                value = max(value, 1.5)
            yield name, value

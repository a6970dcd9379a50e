"""The kept epoch of lowest loss in each period of a run: where its minima can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaleinv.analysis.periods.summary import periods_of
from scaleinv.runfolder.read import load_run


def lowest_epochs(folder: str | Path, epochs: Sequence[int]) -> list[int]:
    """For every period that has any of the ``epochs`` whole within it, the one of lowest mean train loss; ascending.

    Empty for a run without periods (:func:`~scaleinv.analysis.periods.summary.periods_of`) or that has not ended. An
    epoch that a break-down falls into counts for no period: its mean loss says nothing of its last weights.
    """
    run = load_run(folder)
    found = periods_of(run)
    if found is None or run.result is None:
        return []
    table = run.table("online", "total", "loss")
    loss = dict(zip(table.epochs.tolist(), table.values.tolist()))
    length = int(run.result["steps_per_epoch"])
    lowest = []
    for period in found.periods:
        inside = [e for e in epochs if e in loss and period.start <= (e - 1) * length and e * length <= period.end]
        if inside:
            lowest.append(min(inside, key=lambda e: loss[e]))
    return lowest

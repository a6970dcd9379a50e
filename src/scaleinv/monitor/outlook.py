"""The forecasts of all groups of a monitor at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch.optim import Optimizer

from scaleinv.monitor.breakdowns import Journal
from scaleinv.monitor.forecast import Forecast, forecast
from scaleinv.monitor.groups import Group
from scaleinv.monitor.history import History
from scaleinv.monitor.quantities import QUANTITIES, Rates
from scaleinv.monitor.rates import engine

#: logged steps that forecasts look at
LOOK = 512


def outlook(
    history: History,
    journal: Journal,
    groups: Sequence[Group],
    optimizers: Sequence[Optimizer],
    rates: Sequence[Rates],
) -> list[Forecast]:
    """Of the total and of every scale-invariant group, as far as one param group of one optimizer holds it; ``rates``:
    the total's first.
    """
    part = History(LOOK)
    part.records.extend(history.records)
    if not len(part):
        return []
    cube, names = part.cube(), part.groups
    steps = np.array([r.step for r in part.records], np.float64)
    holder: dict[int, tuple[Optimizer, dict[str, Any]]] = {}
    for one in optimizers:
        for options in engine(one).param_groups:
            holder.update(dict.fromkeys(map(id, options["params"]), (one, options)))
    free = [(i, g.name, g.tensors) for i, g in enumerate(groups, start=1) if g.scale_free]
    if len(free) > 1:
        free.insert(0, (0, "total", tuple(t for _, _, tensors in free for t in tensors)))
    found = []
    for i, name, tensors in free:
        mine = [holder[id(t)] for t in tensors if id(t) in holder]
        if not mine or any(m[1] is not mine[0][1] for m in mine):
            continue
        if name not in names:
            continue  # not logged yet
        numbers = dict(zip(QUANTITIES, cube[:, names.index(name)].T))
        optimizer, options = mine[0]
        size = sum(t.numel() for t in tensors)
        ahead = forecast(name, {"step": steps, **numbers}, optimizer, options, size, rates[i].law)
        known = journal.of.get(name)
        if known is not None:
            ahead = replace(ahead, breakdowns=len(known.periods), window=known.window())
        found.append(ahead)
    return found

"""Choose the runs of a large sweep that its figures draw one by one: a thousand lines would hide each other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from scaleinv.text import number

#: runs of a sweep with a line of their own; with more a choice has one
MOST_RUNS = 64
#: maps (weight decays, starts) of a sweep with figures of their own; with more a choice has them
MOST_MAPS = 6
#: fewest rates that a choice keeps, before it keeps several seeds of each
_LEAST_RATES = 16
Item = TypeVar("Item")


class _Rated(Protocol):
    @property
    def rate(self) -> float: ...


RatedRun = TypeVar("RatedRun", bound=_Rated)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Choose at most ``most`` of the items, evenly spread, the first and the last included.

    >>> evenly([5, 6, 7, 8, 9], 3), evenly([5, 6], 3), evenly([5, 6, 7], 1)
    ([5, 7, 9], [5, 6], [5])
    """
    if len(items) <= most:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, max(1, most))]


def choose_runs(runs: Sequence[RatedRun], most: int, boundaries: Mapping[str, Any] | None = None) -> list[RatedRun]:
    """Choose about ``most`` of the runs of one map, in their order; all where there are no more.

    Rates are evenly spread over those of the map, the first and the last among them, and so are the sides of its
    ``boundaries``. Of each rate the same number of seeds is kept.

    >>> from collections import namedtuple
    >>> Rated = namedtuple("Rated", "rate")
    >>> [run.rate for run in choose_runs([Rated(rate) for rate in range(1, 100)], 5, {"1/2": {"low": 30, "high": 31}})]
    [1, 30, 31, 50, 99]
    """
    if len(runs) <= most:
        return list(runs)
    of_rate: dict[float, list[RatedRun]] = {}
    for run in runs:
        of_rate.setdefault(run.rate if math.isfinite(run.rate) else math.inf, []).append(run)
    rates = sorted(of_rate)
    seeds = min(max(map(len, of_rate.values())), max(1, most // min(len(rates), _LEAST_RATES)))
    found = [one for one in (boundaries or {}).values() if isinstance(one, Mapping)]
    sides = {number(one.get(side)) for one in found for side in ("low", "high")} & set(rates)
    spread = evenly(rates, max(2, most // seeds - len(sides)))
    kept = {id(run) for rate in sides.union(spread) for run in evenly(of_rate[rate], seeds)}
    return [run for run in runs if id(run) in kept]

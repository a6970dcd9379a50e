"""Know the learning rate of the steps to come: from torch's scheduler, from a function, or from the steps so far."""

from __future__ import annotations

import copy
import gc
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from scaleinv.monitor.rates import engine

Array = npt.NDArray[np.float64]
#: steps of a scheduler that are tried out, at most
MOST = 20_000
#: points at which the future is looked at
_POINTS = 400


@dataclass(frozen=True)
class Ahead:
    """The learning rate to come, in units of the present one."""

    steps: Array  # from now, increasing, the first 0
    factor: Array  # lr then by lr now
    told: str = ""  # where it comes from, unless it is constant

    @property
    def constant(self) -> bool:
        """Whether nothing changes."""
        return bool(np.all(self.factor == 1.0))


STEADY = Ahead(np.zeros(1), np.ones(1))


class _Stage(Optimizer):
    """Param groups with the options of an optimizer and nothing else, for a scheduler to play on."""

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__([torch.zeros(1, device="cpu")], {})
        kept = ([(k, v) for k, v in group.items() if k != "params"] for group in groups)
        self.param_groups = [
            {**{k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in one}, "params": []} for one in kept
        ]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""


def schedulers_of(optimizer: Optimizer) -> list[LRScheduler]:
    """Find torch's schedulers of an optimizer among what refers to it; of nested ones the outermost."""
    found: dict[int, LRScheduler] = {}
    for one in gc.get_referrers(optimizer):
        owners = [one]
        if isinstance(one, dict) and one.get("optimizer") is optimizer:
            owners = gc.get_referrers(one)
        found.update({id(o): o for o in owners if isinstance(o, LRScheduler)})
    inner = {id(child) for one in found.values() for child in getattr(one, "_schedulers", ())}
    return [one for key, one in found.items() if key not in inner]


def look_ahead(
    schedule: Any, optimizer: Optimizer, place: int, done: int, horizon: int, steps: Array, lr: Array
) -> Ahead:
    """Tell the learning rate of the coming ``horizon`` steps of a param group.

    ``schedule``: what the user gave.  ``place``: of the param group.  ``done``: steps so far.  ``steps``, ``lr``: of
    the rows so far, for where nothing else is known.
    """
    if horizon < 1 or not len(lr) or not lr[-1] > 0:
        return STEADY
    inner = engine(optimizer)
    if callable(schedule) and not isinstance(schedule, LRScheduler) and not hasattr(schedule, "step"):
        return _of_function(schedule, done, horizon)
    given = [] if schedule is None else list(schedule) if isinstance(schedule, (list, tuple)) else [schedule]
    given = [getattr(one, "scheduler", one) for one in given]  # Accelerate's
    mine = [s for s in given if getattr(s, "optimizer", None) in (inner, optimizer)]
    mine = mine or schedulers_of(inner)
    if len(mine) == 1 or (mine and given):
        played = _play(mine, inner, place, done, horizon)
        if played is not None:
            return played
    return _extrapolated(steps, lr, horizon)


def _of_function(schedule: Callable[[int], float], done: int, horizon: int) -> Ahead:
    grid = _grid(horizon)
    values = np.array([float(schedule(done + int(k))) for k in grid])
    if not (np.isfinite(values).all() and values[0] > 0):
        return STEADY
    return Ahead(grid, values / values[0], "by the schedule given")


def _play(schedulers: Sequence[Any], optimizer: Optimizer, place: int, done: int, horizon: int) -> Ahead | None:
    """Have copies of the schedulers go on with param groups that nobody trains; None where they cannot tell."""
    if any(isinstance(s, ReduceLROnPlateau) for s in schedulers):
        return None
    paces = [s.last_epoch / done if done else 1.0 for s in schedulers]
    if not all(p > 0 for p in paces):
        return None  # not stepped yet: once an epoch, and the first has not ended
    pace = 1.0 if min(paces) > 0.9 else min(paces)
    count = min(max(1, math.ceil(horizon * pace)), MOST)
    try:
        stage = _Stage(optimizer.param_groups)
        memo: dict[int, Any] = {id(optimizer): stage}
        twins = [copy.deepcopy(s, memo) for s in schedulers]
        values = [_rate(stage, place)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(count):
                for twin in twins:
                    twin.step()
                values.append(_rate(stage, place))
    except Exception:  # a scheduler that ends, or wants what is not here
        return None
    line = np.array(values)
    if not (np.isfinite(line).all() and line[0] > 0):
        return None
    grid = _grid(min(horizon, int(count / pace)))
    factor = line[np.minimum((grid * pace).astype(int), count)] / line[0]
    return Ahead(grid, factor, f"by {type(schedulers[0]).__name__}")


def _rate(optimizer: Optimizer, place: int) -> float:
    return float(optimizer.param_groups[place]["lr"])


def _extrapolated(steps: Array, lr: Array, horizon: int) -> Ahead:
    """Go on as the last logged steps went: at their mean change a step."""
    if len(lr) < 2 or not np.isfinite(lr).all() or steps[-1] <= steps[0] or np.all(lr == lr[-1]):
        return STEADY
    slope = (lr[-1] - lr[0]) / (steps[-1] - steps[0]) / lr[-1]
    grid = _grid(horizon)
    factor = np.maximum(0.0, 1.0 + slope * grid)
    return Ahead(grid, np.minimum(factor, 1.0) if slope > 0 else factor, "the learning rate extrapolated")


def _grid(horizon: int) -> Array:
    return np.unique(np.linspace(0, horizon, min(horizon + 1, _POINTS)).astype(int)).astype(np.float64)

"""Alert to what does not learn: groups that do not turn, parameters that never move, rows that only decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from scaleinv.monitor.extras import TouchedRows
from scaleinv.monitor.groups import DEAD, Group
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Alert
from scaleinv.monitor.rules.past import Past, is_matrix, trained
from scaleinv.monitor.state import MonitorState
from scaleinv.text import count, steps_text

#: steps without turning that are too many, in so many logged ones
STILL, FEWEST = 8, 3
#: turns that rounding alone gives: so many roundings of the dtype
_ROUNDINGS = 4
#: log of the smallest normal number of float32
_SMALLEST = math.log(1.18e-38)


def _rounding(group: Group) -> float:
    """The turn that is rounding; 0 in half precision, where a real step is not larger."""
    dtype = group.tensors[0].dtype
    return _ROUNDINGS * torch.finfo(dtype).eps if dtype in (torch.float32, torch.float64) else 0.0


def still(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: a matrix has not turned by more than rounding, or has had no gradient but zero, for 8 steps (3 logged
    ones), while another one has. Decay alone does not turn, its rounding does.

    Silent: nothing turns at all (a warm-up from learning rate 0, a loss of zero); one step in eight turns it; angles
    not finite; tensors that ask for no gradient; dead tensors.
    """
    rows = past.enough(FEWEST, STILL - 1)
    if not rows:
        return
    angles, g = past.column("angle")[-rows:], past.column("g")[-rows:]
    with np.errstate(all="ignore"):
        most = np.nanmax(np.where(np.isfinite(angles), angles, -1.0), axis=0)
        alive = np.any(np.isfinite(g) & (g > 0), axis=0)
    limits = np.array([0.0, *(_rounding(group) for group in monitor.groups)])
    moves = (most > limits) & alive
    if not moves[1:].any():
        return
    for i, group in enumerate(monitor.groups, start=1):
        if moves[i] or not is_matrix(group) or not np.isfinite(angles[:, i]).all():
            continue
        if not trained(group) or not reading.frozen.isdisjoint(map(id, group.tensors)):
            continue
        gradient, lr = reading.record.get(group.name, "g"), reading.rates[i].lr
        if gradient != gradient:
            cause = "it gets no gradient"
            remedy = "freeze it on purpose, or see where the graph is cut (detach, no_grad)"
        elif gradient == 0:
            cause, remedy = "its gradient is zero", "see whether its output is used, or dies in a ReLU"
        elif lr == 0:
            cause, remedy = "its learning rate is 0", "see the scheduler and the parameter groups"
        else:
            cause = f"its steps (lr {lr:g}, g {gradient:.3g}) are below the rounding of {group.tensors[0].dtype}"
            remedy = "keep the weights in float32, or raise the learning rate of this group"
        shrink = reading.rates[i].shrink
        ahead = ""
        if shrink > 0 and reading.record.get(group.name, "rho") > 0 and (gradient == 0 or gradient != gradient):
            left = (math.log(reading.record.get(group.name, "rho")) - _SMALLEST) / shrink
            ahead = f"weight decay alone acts on it: its norm halves every {steps_text(math.log(2) / shrink)} and is "
            ahead += f"denormal (slow on a CPU) in {steps_text(max(left, 0.0))}"
        numbers = {"g": gradient, "lr": lr, "rho": reading.record.get(group.name, "rho")}
        span = int(past.steps[-1] - past.steps[-rows]) + 1
        if gradient == gradient and gradient > 0:
            reason = f"has not turned for {rows} logged steps: {cause}"
        else:
            reason = f"has not turned for {rows} logged steps ({span} steps): {cause}"
        yield Alert("still", reading.record.step, group.name, reason, numbers, ahead, remedy)


def never_moves(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: parameters that have not changed at all since the start, in 16 steps (8 logged ones) or more.

    Silent: tensors that ask for no gradient; where nothing moves; what :func:`still` tells; parameters whose gradient
    has been zero or missing all the time (an output that is not used yet), unless the norm is zero too.
    """
    if past.rows != len(past) or not past.enough(8, 16) or past.rows > 24:
        return
    moved = np.hypot(np.nan_to_num(past.column("tangential")), np.nan_to_num(past.column("radial"))) > 0
    g = past.column("g")
    stays = ~moved.any(axis=0)
    if not moved[:, 1:].any():
        return
    names = []
    for i, group in enumerate(monitor.groups, start=1):
        known = math.isfinite(float(past.column("rho")[-1, i])) and bool(np.isfinite(g[:, i]).any())
        if bool(np.ravel(stays)[i]) and known and trained(group) and not is_matrix(group) and group.kind != DEAD:
            names.append(group.name)
    if not names:
        return
    zero = [n for n in names if reading.record.get(n, "rho") == 0]
    why = (
        " (zero at the start: an optimizer that scales by the norm cannot leave it)" if len(zero) == len(names) else ""
    )
    verb = "moves" if len(names) == 1 else "move"
    shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    reason = f"{shown} never {verb}: the same after {int(past.steps[-1])} steps{why}"
    remedy = "start it off zero, take it out of the trust ratio, or freeze it on purpose (requires_grad=False)"
    yield Alert("never-moves", reading.record.step, names[0], reason, {"parameters": float(len(names))}, "", remedy)


class DecayingRows:
    """Watches rows without gradient that weight decay shrinks."""

    def __init__(self) -> None:
        self._looks: dict[int, list[tuple[int, float]]] = {}  # steps and new rows of the looks
        self._without: dict[int, float] = {}  # rows without gradient, by id of the tensor

    def starved(self, monitor: MonitorState) -> set[str]:
        """Name groups some rows of which had no gradient so far: their gradient has fewer numbers than they have."""
        places = (monitor.owners.get(key) for key, rows in self._without.items() if rows > 0)
        return {monitor.groups[place].name for place in places if place is not None}

    def look(
        self, monitor: MonitorState, past: Past, reading: Reading, rows: dict[int, TouchedRows], owner: dict[int, int]
    ) -> Iterator[Alert]:
        """Triggers: rows of a matrix with weight decay that have had no gradient in 8 steps (3 looks), while no row
        had its first gradient in the later half of the looks.

        Silent: a vocabulary that is still being met; all rows without gradient (see ``still``); matrices without decay.
        """
        step = reading.record.step
        for key, (without, new) in reading.rows.items():
            seen = self._looks.setdefault(key, [])
            seen.append((step, new))
            self._without[key] = without
            i = owner.get(key)
            if i is None or not without > 0:
                continue
            group, rate = monitor.groups[i], reading.rates[i + 1]
            tensor = next(t for t in group.tensors if id(t) == key)
            late = [n for s, n in seen[1:] if s > (seen[0][0] + step) / 2]
            if without >= len(tensor) or len(seen) < FEWEST or step - seen[0][0] < STILL - 1 or any(late) or not late:
                continue
            if not rate.shrink > 0:
                continue
            yield self._alert(group, tensor, rows[key], rate.shrink, step)

    def _alert(self, group: Group, tensor: Any, rows: TouchedRows, shrink: float, step: int) -> Alert:
        dead = torch.nonzero(~rows.touched).flatten().tolist()
        norms = tensor.detach()[~rows.touched].flatten(1).norm(dim=1)
        largest = float(norms.max())
        shown = ", ".join(map(str, dead[:6])) + (" ..." if len(dead) > 6 else "")
        verbs = ("gets", "shrinks") if len(dead) == 1 else ("get", "shrink")
        reason = f"{len(dead)} of {count(len(tensor), 'row')} {verbs[0]} no gradient and {verbs[1]} by decay alone, by "
        reason += f"exp(-{shrink:.3g}) a step: {shown}"
        left = (math.log(largest) - _SMALLEST) / shrink if largest > 0 else 0.0
        ahead = f"below 1e-38 in {steps_text(max(left, 0.0))}; such denormal numbers are slow on a CPU"
        remedy = (
            "take them out of the weight decay, or see why their outputs are never used (dead units, unused tokens)"
        )
        numbers = {"rows": float(len(dead)), "largest": largest, "steps_left": left}
        return Alert("rows-decay", step, group.name, reason, numbers, ahead, remedy)

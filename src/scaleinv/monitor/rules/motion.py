"""Alert to motion out of the ordinary: spikes, norms that jump or collapse, weights changed between the steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from scaleinv.monitor.groups import short_name
from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Alert
from scaleinv.monitor.rules.past import BACK, Past, is_matrix
from scaleinv.monitor.state import MonitorState
from scaleinv.sphere.optimizer import Sphere
from scaleinv.text import steps_text

#: a spike is so many times the median of the steps before, and so many times their median deviation in logs
SPIKE = 10.0
DEVIATIONS = 8.0
#: angle of one step below which a turn is no spike, and above which one is wild, radians
SMALL, WILD = 0.02, 0.2
#: of log rho from one logged step to the next
JUMP = 0.5
#: a norm below this share of the largest so far has collapsed; so will one whose rest is below that of _REST
COLLAPSED, _REST = 1e-3, 0.05
#: relative change of a norm between two steps that is no rounding
OUTSIDE = 1e-4
#: of a norm that nothing made smaller in the steps that were logged
LOST = 1e-3
_NORMS = ("sgd", "normalised", "relative")


def unusual(monitor: MonitorState, past: Past, block: Any, steps: Any) -> list[bool]:
    """Tell of the last rows of a block (:meth:`Past.expect`) whether a rule of this file may have something to say.

    Cheaply, of all rows at once: what each rule needs at least.
    """
    matrices, free = past.kinds(monitor)
    column: Any = {
        name: block[:, :, COLUMN[name]] for name in ("rho", "lr", "angle", "eg", "g", "radial", "tangential", "decay")
    }
    new = slice(BACK - 1, None)
    with np.errstate(all="ignore"):
        lr, turn, rho = column["lr"], column["angle"], column["rho"]
        rate = np.where(lr > 0, lr, np.where(np.isnan(lr), 1.0, np.nan))
        size = np.where(free, column["eg"], column["g"])
        seen = np.stack([size, turn / rate, rho], axis=1)
        now, largest = seen[new], _largest_before(seen)
        found = matrices & ((now[:, 0] > 2 * largest[:, 0]) | ((now[:, 1] > 2 * largest[:, 1]) & (turn[new] > SMALL)))
        found |= lr[new] > 3 * past.largest_lr
        found |= (rho[new] > math.exp(JUMP) * rho[BACK - 2 : -1]) | (rho[new] < 0.5 * largest[:, 2])
        found |= rho[new] < 2 * COLLAPSED * past.largest
        then = np.hypot(rho + column["radial"], column["tangential"])[BACK - 2 : -1]
        follows = (np.diff(steps[BACK - 2 :]) == 1)[:, None]
        other = np.abs(rho[new] - then) > OUTSIDE * np.maximum(then, rho[new])
        between = (rho[new] < (1 - LOST) * then) & (column["decay"][new] == 0)
        found |= np.where(follows, other, between)
    return found.any(axis=1).tolist()  # type: ignore[no-any-return]


def _largest_before(rows: Any) -> Any:
    """Find the largest of the 31 rows before each row from the 32nd on, NaN left out."""
    width = 1
    while width < BACK // 2:
        rows = np.fmax(rows[width:], rows[:-width])
        width *= 2
    # each row is the largest of 16 now; 31 are two of them that share one
    return np.fmax(rows[:-width], rows[width - 1 : -1])


class Spikes:
    """Tells spikes sparingly: the 1st, 2nd, 4th, 8th ..., and none within 32 logged steps of the last."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}  # kind -> logged steps when the last one was seen
        self.count: Counter[str] = Counter()

    def sparingly(self, kind: str) -> bool:
        """Count one more of a kind; True for the 1st, 2nd, 4th, 8th ...: a run may break down hundreds of times."""
        self.count[kind] += 1
        return not self.count[kind] & (self.count[kind] - 1)

    def just_now(self, past: Past) -> bool:
        """Tell whether a turn that stands out was seen in the last logged steps: its norm follows."""
        return past.rows - self._at.get("spike-angle", -BACK) <= 2

    def look(self, monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
        """Triggers: gradient or turn of a matrix ten times the median of the logged steps before it, and beyond eight
        of their median deviations (of logs), and twice the largest of them. A turn is taken by its learning rate, so
        that schedules, warm-ups and restarts do not count; and as it is where the rate jumps to three times the largest
        so far and the turn is above 0.2 rad.

        Silent: vectors (a bias that starts at zero turns by radians), dead tensors, fewer than 16 steps before (8 where
        the rate jumps), turns below 0.02 rad, the first turn after none; within 32 logged steps of the last spike, and
        then all but the 1st, 2nd, 4th, 8th.
        """
        if len(past) <= BACK // 4:
            return
        matrices, free = past.kinds(monitor)
        with np.errstate(all="ignore"):
            lr, turn = past.column("lr"), past.column("angle")
            size = np.where(free, past.column("eg"), past.column("g"))
            rate = np.where(lr > 0, lr, np.where(np.isnan(lr), 1.0, np.nan))
            raised = lr[-1] > 3 * past.largest_lr
            per_rate = turn / rate
            ups = {"eg": _stands_out(size, matrices), "angle": _stands_out(per_rate, matrices & (turn[-1] > SMALL))}
            known = {"eg": size, "angle": per_rate * rate[-1]}
            if raised.any():
                most = np.fmax.reduce(turn[:-1], axis=0)
                wild = matrices & raised & (turn[-1] > WILD) & (turn[-1] > SPIKE * most) & (most > 0)
                known["angle"] = np.where(wild & ~ups["angle"], turn, known["angle"])
                ups["angle"] |= wild
        for quantity, up in ups.items():
            yield from self._of(past, reading, quantity, known[quantity], up, free)

    def _of(self, past: Past, reading: Reading, quantity: str, values: Any, up: Any, free: Any) -> Iterator[Alert]:
        """Tell of the groups ``up``, the last of whose ``values`` stands out; angles are as at the present rate."""
        bad, kind, record = np.flatnonzero(up), f"spike-{quantity}", reading.record
        if not len(bad):
            return
        last, self._at[kind] = self._at.get(kind), past.rows
        if (last is not None and past.rows - last < BACK) or not self.sparingly(kind):
            return
        so_far = self.count[kind]
        again = "" if so_far == 1 else f" (spike number {so_far}; the next is told at {2 * so_far})"
        with np.errstate(all="ignore"):
            usual = {int(i): _typical(values[:-1, i]) for i in bad}
            # one alert: of the group that stands out most
            worst = max(usual, key=lambda i: values[-1, i] / usual[i])
        value, before, name = float(values[-1, worst]), usual[worst], record.groups[worst]
        told = past.losses[:-1][np.isfinite(past.losses[:-1])]
        loss = ahead = ""
        if record.loss == record.loss and len(told):
            usual_loss = float(np.median(told))
            loss = f"; the loss is {record.loss:.4g} (median before {usual_loss:.4g})"
            ahead = "" if record.loss > 1.5 * usual_loss else "the loss has not followed yet"
        others = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        what = "gradient norm" if quantity == "eg" else "angle of the step"
        kind_of = "effective " if quantity == "eg" and free[worst] else ""
        times = f"{value / before:.3g} times its median over {len(values) - 1} logged steps"
        if quantity == "angle":
            most, now = float(past.largest_lr[worst]), record.get(name, "lr")
            if now > 3 * most:
                loss = f"; the learning rate was {most:.3g} at most before, now {now:.3g}{loss}"
            if abs(math.log(before / _typical(past.column("angle")[:-1, worst]))) > 0.01:
                times += ", taken to the present learning rate"
        reason = f"{kind_of}{what} {value:.3g} is {times}{others}{loss}{again}"
        remedy = "lower the learning rate of this group, clip the gradient, or look at this batch"
        quantity = "g" if quantity == "eg" and not free[worst] else quantity
        numbers = {quantity: value, "median": before, "loss": record.loss, "elr": record.get(name, "elr")}
        yield Alert(kind, record.step, name, reason, numbers, ahead, remedy)


def _typical(values: Any) -> float:
    return float(np.median(values[values > 0]))


def _stands_out(values: Any, wanted: Any) -> Any:
    """Tell of each column that is wanted whether its last value stands out of those before, in logs."""
    before, now = values[:-1], values[-1]
    # cheap first: it has to be twice the largest
    found = wanted & (now > 2 * np.fmax.reduce(before, axis=0))
    for i in np.flatnonzero(found):
        known = before[:, i][before[:, i] > 0]
        if len(known) < BACK // 2:
            found[i] = False
            continue
        logs = np.log(known)
        middle = np.median(logs)
        spread = 1.4826 * np.median(np.abs(logs - middle))
        found[i] = np.log(now[i]) > middle + max(math.log(SPIKE), DEVIATIONS * float(spread))
    return found


def norm_jump(monitor: MonitorState, past: Past, reading: Reading, spikes: Spikes) -> Iterator[Alert]:
    """Triggers: the norm of a matrix grew by 65 % from one logged step to the next, and ten times as much as ever in
    the logged steps before.

    Silent: the start of a run (8 logged steps); break-downs of a run that breaks down again and again, from the
    second on in 32 logged steps; behind a turn that stood out (see spikes).
    """
    if len(past) <= BACK // 4 or spikes.just_now(past):
        return
    rho = past.column("rho")
    with np.errstate(all="ignore"):
        if not (rho[-1] > math.exp(JUMP) * rho[-2]).any():
            return
        logs = np.log(rho)
        moves = np.diff(logs, axis=0)
        usual = np.fmax.reduce(np.abs(moves[:-1]), axis=0)
        up = (moves[-1] > JUMP) & (moves[-1] > SPIKE * usual)
    for i, g in enumerate(monitor.groups, start=1):
        if up[i] and is_matrix(g):
            before, now = float(np.exp(logs[-2, i])), float(np.exp(logs[-1, i]))
            reason = f"the norm jumped from {before:.3g} to {now:.3g} since step {int(past.steps[-2])}"
            ahead = "the steps in between were far larger than any before"
            remedy = "see the learning rate and the loss there; log more often (every=1)"
            yield Alert("norm-jump", reading.record.step, g.name, reason, {"rho": now, "before": before}, ahead, remedy)


def collapse(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: the norm of a matrix is below 1e-3 of its largest; or it halved within 15 steps (two intervals), ever
    falling by 1 % a step and more, and what makes it grow is so weak that it would come to rest below 5 % of its
    largest.

    Silent: norms on their way to an equilibrium of the same order; vectors; dead tensors.
    """
    rho, record = past.column("rho"), reading.record
    span = 15 if len(past) > 2 and past.steps[-1] - past.steps[-2] <= 10 else 0
    rows = past.enough(3, span)
    with np.errstate(all="ignore"):
        gone = rho[-1] < COLLAPSED * past.largest
        if not gone.any() and not (rows and (rho[-1] < 0.5 * rho[-rows]).any()):
            return
        falls = np.zeros(len(gone), bool)
        rest = np.full(len(gone), np.nan)
        if rows:
            part = np.log(rho[-rows:])
            rate = -np.diff(part, axis=0) / np.diff(past.steps[-rows:])[:, None]
            growth, fall = past.column("growth")[-1], -past.column("radial")[-1]
            power = np.array([1 / 4 if r.law == "sgd" else 1 / 2 for r in reading.rates])
            rest = rho[-1] * np.where(fall > 0, growth / fall, 1.0) ** power
            falls = (rate > 0.01).all(axis=0) & (part[0] - part[-1] > math.log(2)) & (rest < _REST * past.largest)
    for i, g in enumerate(monitor.groups, start=1):
        if not (gone[i] or falls[i]) or not is_matrix(g) or not rho[-1, i] > 0:
            continue
        now, most = float(rho[-1, i]), float(past.largest[i])
        reason = f"the norm collapses: {now:.3g}, it was {most:.3g}"
        ahead = "eps of the normalisation and of the optimizer take over, then rounding"
        if falls[i]:
            each = float(rate[-1, i])
            left = steps_text(max(0.0, (math.log(now) + 87.5) / each))
            ahead = f"it falls by {each:.2g} a step: below 1e-38 in {left}; {ahead}"
        remedy = "less weight decay (lr wd), or none for this group; scaleinv.Sphere keeps the norm"
        numbers = {"rho": now, "largest": most, "rest": float(rest[i])}
        yield Alert("collapse", record.step, g.name, reason, numbers, ahead, remedy)


def outside_change(monitor: MonitorState, past: Past, reading: Reading) -> tuple[list[Alert], set[str]]:
    """Triggers: the norm before a step is not the norm after the step before it; where the steps between were not
    logged, a norm that fell by more than 0.1 % though there is no decay and every logged step made it grow.

    Silent: optimizers that shrink the norm themselves, a Sphere between logged steps, steps not logged one after the
    other (but for the second).
    """
    if len(past) < 2:
        return [], set()
    rho, steps = past.column("rho"), past.steps
    with np.errstate(all="ignore"):
        then = np.hypot(rho[-2] + past.column("radial")[-2], past.column("tangential")[-2])
        if steps[-1] - steps[-2] == 1:
            other = np.abs(rho[-1] - then) > OUTSIDE * np.maximum(then, rho[-1])
        else:
            rows = min(len(past), 5)
            grows = past.column("radial")[-rows:] + past.column("growth")[-rows:] >= 0
            other = (rho[-1] < (1 - LOST) * then) & grows.all(axis=0) & (past.column("decay")[-1] == 0)
            other &= rows >= 4
            other &= np.array([r.law in _NORMS for r in reading.rates])
            # the norms of parts of one sphere trade with each other in steps that nobody logged
            other &= not any(isinstance(optimizer, Sphere) for optimizer in monitor.optimizers)
    names = [g.name for i, g in enumerate(monitor.groups, start=1) if other[i] and is_matrix(g)]
    if not names:
        return [], set()
    i = reading.record.groups.index(names[0])
    now, before = float(rho[-1, i]), float(then[i])
    more = f" (so it is with {len(names) - 1} more)" if len(names) > 1 else ""
    reason = f"changed between steps: the norm was {before:.5g} after step {int(steps[-2])} and {now:.5g} before step "
    reason += (
        f"{reading.record.step}{more}: renormalised, clipped, loaded or swapped by something else than the optimizer"
    )
    remedy = "nothing, if that is meant: no phase is told for it; scaleinv.Sphere fixes norms in the step"
    numbers = {"rho": now, "after": before}
    return [Alert("outside-change", reading.record.step, short_name(names[0]), reason, numbers, "", remedy)], set(names)

"""Alert to trouble while training goes on. No alert without numbers that were measured."""

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scaleinv.monitor.breakdowns import Window
from scaleinv.monitor.forecast import slope
from scaleinv.monitor.groups import DEAD, FREE, short_name
from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.rates import Rates
from scaleinv.monitor.records import Alert, Record
from scaleinv.monitor.state import MonitorState
from scaleinv.text import count

#: logged steps a rule looks back
BACK = 32
#: a spike is so many times the median of the steps before
SPIKE = 10.0
#: |cos(gradient, weight)| sqrt(size) above which a group counts as having a scale: about 1 for a weight with one, below
#: 1e-3 in float32 and 1e-2 in bfloat16 for one without (rounding errors fall as 1/sqrt(size), like random directions)
RADIAL = 0.25
#: logged steps without turning that are too many
STILL = 8
#: share of the known boundary from which its coming nearer is told
NEAR_BOUNDARY = 0.5


class Watch:
    """Looks at every logged step. A kind of alert is told once a group, and again only after it has passed.

    A rule's docstring says what triggers it, and of what it must stay silent.
    """

    def __init__(self, monitor: MonitorState) -> None:
        self._monitor = monitor
        self._recent: deque[Record] = deque(maxlen=BACK)
        self._standing: set[tuple[str, str]] = set()
        self._looked = 0
        self._spike_at: dict[str, int] = {}  # kind -> logged steps when the last one was seen
        self._count: Counter[str] = Counter()  # of spikes and of windows for the next break-down, told or not

    def told(self, alerts: Sequence[Alert]) -> None:
        """Take alerts of before a resume, which are not to be repeated."""
        self._standing = {(a.kind, a.group) for a in alerts}
        self._recent.clear()
        self._count = Counter({kind: 2 ** (n - 1) for kind, n in Counter(a.kind for a in alerts).items()})

    def _sparingly(self, kind: str) -> bool:
        """Count one more of a kind; True for the 1st, 2nd, 4th, 8th ...: a run may break down hundreds of times."""
        self._count[kind] += 1
        return not self._count[kind] & (self._count[kind] - 1)

    def look(
        self, record: Record, rates: Sequence[Rates], first_bad: str = "", window: Window | None = None
    ) -> list[Alert]:
        """Give the new alerts of a logged step; ``first_bad``: its first tensor that is not finite; ``window``: one for
        the next break-down that has just been told.
        """
        if self._recent and self._recent[-1].groups != record.groups:
            self._recent.clear()  # groups came or went
        self._looked += 1
        found = list(self._non_finite(record, first_bad))
        if not found:
            found += self._decay_of_the_dead(record, rates)
            if self._recent:
                past = np.stack([r.values for r in self._recent])
                found += self._spikes(record, past)
                found += self._still(record, past, rates)
                found += self._scale(record, past)
                found += self._boundary(record, past)
            found += self._break_down(record, window)
            found += self._out_of_time(record)
        self._recent.append(record)
        again = ("spike-eg", "spike-angle", "break-down")
        news = [a for a in found if a.kind in again or (a.kind, a.group) not in self._standing]
        lasting = {k for k in self._standing if k[0] in ("dead-decay", "not-scale-free", "eps", "out-of-time")}
        self._standing = lasting | {(a.kind, a.group) for a in found}
        return news

    def _non_finite(self, record: Record, where: str) -> Iterator[Alert]:
        """Triggers: a gradient or weight is NaN or infinite, or a loss that was told. Silent: no loss was told."""
        if not where and not (record.told and not math.isfinite(record.loss)):
            return
        name = where.rpartition(" of ")[2]
        groups = self._monitor.groups if where else []
        group = next((g.name for g in groups if name in (g.name, *g.name.split("+"))), "total")
        last = next((r.step for r in reversed(self._recent) if np.isfinite(r.get("total", "rho"))), None)
        since = f"; all was finite at step {last}" if last is not None else ""
        what = f"the {where} is the first that is not finite" if where else "the loss is not finite"
        numbers = {"loss": record.loss, "elr": record.get(group, "elr"), "angle": record.get(group, "angle")}
        remedy = "go back to a checkpoint and lower the learning rate, clip the gradient, or find what divides by zero"
        yield Alert("non-finite", record.step, group, what + since, numbers, "", remedy)

    def _decay_of_the_dead(self, record: Record, rates: Sequence[Rates]) -> Iterator[Alert]:
        """Triggers: weight decay on tensors the output does not depend on. Silent: dead tensors without decay."""
        dead = [(g, rate) for g, rate in zip(self._monitor.groups, rates[1:]) if g.kind == DEAD and rate.wd > 0]
        if not dead or any(kind == "dead-decay" for kind, _ in self._standing):
            return
        first, rate = dead[0]
        numbers = {"wd": rate.wd, "rho": record.get(first.name, "rho"), "tensors": float(len(dead))}
        reason = f"weight decay {rate.wd:g} acts on a tensor that the output does not depend on"
        if len(dead) > 1:
            reason += f" (so it is with {', '.join(g.name for g, _ in dead[1:4])}{' ...' if len(dead) > 4 else ''})"
        known = rate.direct and rate.lr > 0
        half = f"its norm halves every {math.log(2) / (rate.lr * rate.pace * rate.wd):.3g} steps" if known else ""
        remedy = "leave it out of the model (bias=False before a normalisation) or out of the decay"
        yield Alert("dead-decay", record.step, first.name, reason, numbers, half, remedy)

    def _spikes(self, record: Record, past: Any) -> Iterator[Alert]:
        """Triggers: effective gradient or angle of a group at ten times its median over the logged steps before.

        Silent: fewer than 16 steps before; dead tensors, whose motion is rounding; a median of zero; within 32 logged
        steps of the last spike, and then all but the 1st, 2nd, 4th, 8th ... (a run that breaks down periodically).
        """
        if len(past) < BACK // 2:
            return
        dead = {g.name for g in self._monitor.groups if g.kind == DEAD}
        for quantity, what in (("eg", "effective gradient norm"), ("angle", "angle of the step")):
            j, kind = COLUMN[quantity], f"spike-{quantity}"
            with np.errstate(all="ignore"):
                usual = np.median(past[:, :, j], axis=0)
                bad = 1 + np.flatnonzero((record.values[1:, j] > SPIKE * usual[1:]) & (usual[1:] > 0))  # 0 is the total
            bad = bad[[record.groups[i] not in dead for i in bad]]
            if not len(bad):
                continue
            last, self._spike_at[kind] = self._spike_at.get(kind), self._looked
            if (last is not None and self._looked - last < BACK) or not self._sparingly(kind):
                continue
            so_far = self._count[kind]
            again = "" if so_far == 1 else f" (spike number {so_far}; the next is told at {2 * so_far})"
            # one alert: of the group that stands out most
            worst = max(bad, key=lambda i: record.values[i, j] / usual[i])
            value, before, name = float(record.values[worst, j]), float(usual[worst]), record.groups[worst]
            usual_loss = float(np.median([r.loss for r in self._recent]))
            loss = ahead = ""
            if record.loss == record.loss:
                loss = f"; the loss is {record.loss:.4g} (median before {usual_loss:.4g})"
                ahead = "" if record.loss > 1.5 * usual_loss else "the loss has not followed yet"
            others = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            times = f"{value / before:.3g} times its median over {len(past)} logged steps"
            reason = f"{what} {value:.3g} is {times}{others}{loss}{again}"
            remedy = "lower the learning rate of this group, clip the gradient, or look at this batch"
            numbers = {quantity: value, "median": before, "loss": record.loss, "elr": record.get(name, "elr")}
            yield Alert(kind, record.step, name, reason, numbers, ahead, remedy)

    def _still(self, record: Record, past: Any, rates: Sequence[Rates]) -> Iterator[Alert]:
        """Triggers: a scale-invariant group has not turned for 8 logged steps while another one has.

        Silent: nothing turns at all (a warm-up from learning rate 0); one step in eight turns it; angles not finite.
        """
        if len(past) < STILL - 1:
            return
        j = COLUMN["angle"]
        angles = np.concatenate([past[-(STILL - 1) :, :, j], record.values[None, :, j]])
        moved = np.any(angles > 0, axis=0).tolist()
        for i, g in enumerate(self._monitor.groups, start=1):
            if g.kind != FREE or moved[i] or not any(moved[1:]) or not np.isfinite(angles[:, i]).all():
                continue
            gradient, lr = record.get(g.name, "g"), rates[i].lr
            if gradient != gradient:
                cause = "it gets no gradient"
                remedy = "freeze it on purpose, or see where the graph is cut (detach, no_grad)"
            elif gradient == 0:
                cause, remedy = "its gradient is zero", "see whether its output is used, or dies in a ReLU"
            elif lr == 0:
                cause, remedy = "its learning rate is 0", "see the scheduler and the parameter groups"
            else:
                cause = f"its steps (lr {lr:g}, g {gradient:.3g}) are below the rounding of {g.tensors[0].dtype}"
                remedy = "keep the weights in float32, or raise the learning rate of this group"
            numbers = {"g": gradient, "lr": lr, "rho": record.get(g.name, "rho")}
            reason = f"has not turned for {STILL} logged steps: {cause}"
            yield Alert("still", record.step, g.name, reason, numbers, "", remedy)

    def _scale(self, record: Record, past: Any) -> Iterator[Alert]:
        """Triggers: gradient and weight of a scale-invariant group are not orthogonal, in the median of 8 logged steps.

        It is eps of the normalisation where the symmetry is proved, or was there at the start and the norm has fallen;
        else the group given has a scale. Silent: rounding in float32 or bfloat16, one odd batch, groups without ELR.
        """
        if len(past) < 7:
            return
        j = COLUMN["g_radial"]
        with np.errstate(all="ignore"):
            typical = np.median(np.abs(np.concatenate([past[-7:, :, j], record.values[None, :, j]])), axis=0)
        first = self._monitor.records[0]
        for i, g in enumerate(self._monitor.groups, start=1):
            root = math.sqrt(g.size)
            if g.kind != FREE or not typical[i] * root > RADIAL:
                continue
            rho, rho0, before = record.get(g.name, "rho"), first.get(g.name, "rho"), abs(first.get(g.name, "g_radial"))
            numbers = {"g_radial": float(typical[i]), "g_radial_first": before, "rho": rho, "rho_first": rho0}
            seen = f"gradient and weight have the cosine {typical[i]:.2g} (median of 8 logged steps); "
            seen += f"without a scale it is zero, with one about {1 / root:.2g}"
            if self._monitor.proved or (before * root < RADIAL / 2 and rho < rho0):
                kind = "eps"
                reason = f"eps of the normalisation breaks the invariance at the present norm {rho:.3g}: {seen}"
                ahead = "the ELR stops growing as the norm falls, and the gradient shrinks with the norm"
                remedy = "a smaller eps, less weight decay, or scale the group up (the function stays the same)"
            else:
                kind, ahead = "not-scale-free", "its ELR means little"
                reason = f"the group does not look scale-invariant: {seen}"
                remedy = "let find_symmetries(model, inputs) decide; if it agrees, a smaller eps in the normalisation"
            yield Alert(kind, record.step, g.name, reason, numbers, ahead, remedy)

    def _boundary(self, record: Record, past: Any) -> Iterator[Alert]:
        """Triggers: the total's ELR is above the boundary given, or above half of it and surely growing.

        Silent: no boundary given; an ELR that falls or stands still below it; fewer than 8 logged steps before.
        """
        limit, elr = self._monitor.boundary, record.get("total", "elr")
        if limit is None or len(past) < STILL or not elr > NEAR_BOUNDARY * limit:
            return
        steps = np.array([*(r.step for r in self._recent), record.step], float)
        growth, sure = slope(steps, np.array([*past[:, 0, COLUMN["elr"]], elr]))
        if elr >= limit:
            reason, ahead = f"the ELR {elr:.3g} is above the boundary {limit:.3g}", "training is in the next regime"
        elif sure > 5 and growth > 0:
            reason = f"the ELR {elr:.3g} nears the boundary {limit:.3g}"
            ahead = f"reached in about {math.log(limit / elr) / growth:.3g} steps at the present growth"
        else:
            return
        numbers = {"elr": elr, "boundary": limit, "growth": growth}
        remedy = "lower the learning rate, or the weight decay that makes the norm fall"
        yield Alert("boundary", record.step, "total", reason, numbers, ahead, remedy)

    def _break_down(self, record: Record, window: Window | None) -> Iterator[Alert]:
        """Triggers: a window for the next break-down is told, in phase B after five break-downs or more.

        Silent: norms that fall without break-downs before; all windows but the 1st, 2nd, 4th, 8th ...
        """
        if window is None or not self._sparingly("break-down"):
            return
        elr = record.get("total", "elr")
        reason = f"phase B: the norm falls and the ELR {elr:.3g} grows, after {window.seen} break-downs "
        reason += f"at an ELR about {window.elr:.3g}"
        so_far = f" ({window.held} of the {window.told} windows so far held)" if window.told else ""
        ahead = f"the next break-down is expected in {window.earliest:.3g} to {window.latest:.3g} steps{so_far}"
        remedy = "nothing, if that is meant; else lower the learning rate before, or fix the norm (scaleinv.Sphere)"
        numbers = {"elr": elr, "elr_then": window.elr, "earliest": window.earliest, "latest": window.latest}
        numbers["seen"] = float(window.seen)
        yield Alert("break-down", record.step, "total", reason, numbers, ahead, remedy)

    def _out_of_time(self, record: Record) -> Iterator[Alert]:
        """Triggers, once 32 steps are logged: groups that reach their equilibrium after the run's end.

        Silent: ``total_steps`` not given; groups at rest, or with no equilibrium; told before.
        """
        total = self._monitor.total_steps
        if total is None or len(self._recent) != BACK - 1 or ("out-of-time", "total") in self._standing:
            return
        left = total - record.step
        known = [f for f in self._monitor.forecasts() if f.group != "total"]
        slow = [f for f in known if f.time_to_equilibrium > left]
        if not slow:
            return
        worst = max(slow, key=lambda f: f.time_to_equilibrium)
        reason = (
            f"{count(len(slow), 'group')} will not reach equilibrium in the {left} steps that are left "
            f"(slowest: {short_name(worst.group)}, rho {worst.rho:.3g}, there {worst.equilibrium_rho:.3g})"
        )
        numbers = {"time_to_equilibrium": worst.time_to_equilibrium, "left": float(left)}
        ahead = f"it takes {worst.time_to_equilibrium:.3g} steps; until then the initial norms decide the ELR"
        remedy = "nothing, if that is meant; "
        remedy += "else scale the weights to the equilibrium norm at the start, or raise lr wd"
        yield Alert("out-of-time", record.step, "total", reason, numbers, ahead, remedy)

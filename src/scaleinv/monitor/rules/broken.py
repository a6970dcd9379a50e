"""Alert to what is broken: numbers that are not finite, laws that do not hold, optimizers whose step is not seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from scaleinv.monitor.rates import engine
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Alert
from scaleinv.monitor.rules.past import Past
from scaleinv.monitor.state import MonitorState
from scaleinv.text import count

#: share by which a first step may be off its formula
FIRST_STEP = 0.2


def non_finite(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: a gradient or weight is NaN or infinite, or a loss that was told.

    Silent: no loss was told. It names a tensor only where it is known to be the first: the only one, or the last in the
    order of the model behind which all are finite (gradients flow backwards) with the step before logged and finite.
    """
    record, bad = reading.record, reading.bad
    if not bad and not (record.told and not math.isfinite(record.loss)):
        return
    finite = np.flatnonzero(np.isfinite(past.column("rho")[:-1, 0])) if len(past) > 1 else np.zeros(0, int)
    last = int(past.steps[finite[-1]]) if len(finite) else None
    gap = record.step - last if last is not None else record.step + 1
    since = f"; all was finite at step {last}" if last is not None else ""
    group = "total"
    remedy = "go back to a checkpoint and lower the learning rate, clip the gradient, or find what divides by zero"
    if not bad:
        what = "the loss is not finite"
    elif len(bad) == 1:
        kind, name = bad[0]
        what = f"the {kind} of {name} is the first that is not finite"
        group = _group_of(monitor, name)
    elif gap > 1:
        what = f"{len(bad)} of {reading.tensors} tensors are not finite, and which was the first was not logged"
        remedy = f"log every step around there (every=1) to see where it comes from; {remedy}"
    elif all(kind == "gradient" for kind, _ in bad) and len(bad) < reading.tensors:
        _, name = bad[-1]
        what = f"gradients of {len(bad)} tensors up to {name} are not finite, those behind it are: it came from there"
        group = _group_of(monitor, name)
    else:
        what = f"{len(bad)} of {reading.tensors} tensors are not finite at once"
    numbers = {"loss": record.loss, "elr": record.get(group, "elr"), "angle": record.get(group, "angle")}
    yield Alert("non-finite", record.step, group, what + since, numbers, "", remedy)


def _group_of(monitor: MonitorState, name: str) -> str:
    tensor = next((t for t in monitor.groups if name in (t.name, *t.name.split("+"))), None)
    return "total" if tensor is None else tensor.name


def law(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: a step is longer or shorter by 10 % than state and learning rate of the optimizer say.

    Silent: optimizers whose state is not known; steps near the rounding of the weights; half precision.
    """
    for (owner, _), (label, acted) in reading.off.items():
        one = next((o for o in monitor.optimizers if id(engine(o)) == owner), None)
        name = type(engine(one)).__name__ if one is not None else "the optimizer"
        reason = f"{name} takes steps of the learning rate {acted:.3g}, its options say {label:.3g}"
        ahead = "ELRs are those of the rate that acted"
        remedy = "nothing, if its class multiplies the rate; else see what changes gradients or weights within the step"
        yield Alert("law", reading.record.step, "total", reason, {"label": label, "acted": acted}, ahead, remedy)


def is_off(ratio: float) -> bool:
    """Tell whether a first step, by its formula, is longer or shorter than it may be."""
    return not abs(ratio - 1) <= FIRST_STEP


def first_step(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: the very first step of a tensor is longer or shorter by a fifth than its optimizer's formula says.

    A wrong bias correction shows here. Silent: optimizers without a formula; a state that was loaded.
    """
    off = {n: r for n, r in reading.firsts.items() if is_off(r)}
    if not off:
        return
    name = max(off, key=lambda n: abs(math.log(off[n])) if off[n] > 0 else math.inf)
    reason = f"the first step of {name} is {off[name]:.3g} times as long as the formula of its optimizer says"
    verb = "is" if len(off) == 1 else "are"
    reason += (
        f" ({len(off)} of {count(len(reading.firsts), 'tensor')} {verb} off by more than {100 * FIRST_STEP:.0f} %)"
    )
    remedy = "nothing, if its class is meant to; else see its bias correction and what scales its rate"
    yield Alert("first-step", reading.record.step, "total", reason, {"ratio": off[name]}, "", remedy)


def no_step(monitor: MonitorState, step: int, unseen: Sequence[int], after: int) -> Iterator[Alert]:
    """Triggers: 100 steps of the others without any step of an optimizer; or 100 losses told since a step was seen, and
    four times as many as between two steps before.

    Silent: an optimizer that steps in every k-th round, and batches that are accumulated.
    """
    for i in unseen:
        kind = type(engine(monitor.optimizers[i])).__name__
        reason = f"I saw no step of optimizer {i + 1} ({kind}) in {after} rounds"
        remedy = "call optimizer.step() itself: a compiled or captured step, or one around torch's, calls no hooks; "
        remedy += "an optimizer that has taken its place needs a Monitor of its own"
        yield Alert("no-step", step, "total", reason, {"rounds": float(after)}, "its weights are not measured", remedy)

"""Say what is ahead: a boundary of regimes, the next break-down, an equilibrium that comes after the end."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from scaleinv.monitor.breakdowns import Window
from scaleinv.monitor.forecast import slope
from scaleinv.monitor.groups import short_name
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Alert
from scaleinv.monitor.rules.past import BACK, Past
from scaleinv.monitor.state import MonitorState
from scaleinv.text import count, steps_text

#: share of the known boundary from which its coming nearer is told, and logged steps that this needs
NEAR_BOUNDARY, _ROWS = 0.5, 8


def boundary(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: the total's ELR is above the boundary given, or above half of it and surely growing.

    Silent: no boundary given; an ELR that falls or stands still below it; fewer than 8 logged steps before.
    """
    limit, elr = monitor.boundary, reading.record.get("total", "elr")
    if limit is None or len(past) <= _ROWS or not elr > NEAR_BOUNDARY * limit:
        return
    growth, sure = slope(past.steps, np.array(past.column("elr")[:, 0]))
    if elr >= limit:
        reason, ahead = f"the ELR {elr:.3g} has reached the boundary {limit:.3g}", "training is in the next regime"
    elif sure > 5 and growth > 0:
        reason = f"the ELR {elr:.3g} nears the boundary {limit:.3g}"
        ahead = f"reached in about {steps_text(math.log(limit / elr) / growth)} at the present growth"
    else:
        return
    numbers = {"elr": elr, "boundary": limit, "growth": growth}
    remedy = "lower the learning rate, or the weight decay that makes the norm fall"
    yield Alert("boundary", reading.record.step, "total", reason, numbers, ahead, remedy)


def window_text(window: Window) -> str:
    """Write when the next break-down is expected, and how many windows held so far."""
    ends = steps_text(window.latest)
    if (least := f"{window.earliest:.3g}") != f"{window.latest:.3g}":
        ends = f"{least} to {ends}" if window.latest >= 1 else ends
    held = f" ({window.held} of {count(window.told, 'such window')} held so far)" if window.told else ""
    return ends + held


def break_down(reading: Reading, window: Window) -> Iterator[Alert]:
    """Triggers: a window for the next break-down is told, in phase B after five break-downs or more.

    Silent: norms that fall without break-downs before; all windows but the 1st, 2nd, 4th, 8th ...
    """
    elr = reading.record.get("total", "elr")
    reason = f"phase B: the norm falls and the ELR {elr:.3g} grows, after {window.seen} break-downs "
    reason += f"at an ELR about {window.elr:.3g}"
    ahead = f"the next break-down is expected in {window_text(window)}"
    remedy = "nothing, if that is meant; else lower the learning rate before, or fix the norm (scaleinv.Sphere)"
    numbers = {"elr": elr, "elr_then": window.elr, "earliest": window.earliest, "latest": window.latest}
    numbers["seen"] = float(window.seen)
    yield Alert("break-down", reading.record.step, "total", reason, numbers, ahead, remedy)


def out_of_time(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers, once 32 steps are logged: groups that need longer for their equilibrium than the run has left, by a
    tenth and more; by the schedule that is known or, where none is, by the learning rate extrapolated.

    Silent: ``total_steps`` not given; groups at rest, or with no equilibrium; told before.
    """
    total = monitor.total_steps
    if total is None or past.rows != BACK:
        return
    left = total - reading.record.step
    known = [f for f in monitor.forecasts() if f.group != "total"]
    slow = [f for f in known if f.time_to_equilibrium > 1.1 * left]
    if not slow:
        return
    worst = max(slow, key=lambda f: f.time_to_equilibrium)
    reason = (
        f"{count(len(slow), 'group')} will not reach equilibrium in the {count(left, 'step')} left "
        f"(slowest: {short_name(worst.group)}, rho {worst.rho:.3g}, there {worst.equilibrium_rho:.3g})"
    )
    numbers = {"time_to_equilibrium": worst.time_to_equilibrium, "left": float(left)}
    ahead = "at the learning rates to come it does not get there: the initial norms decide the ELR"
    if math.isfinite(worst.time_to_equilibrium):
        ahead = f"it takes {steps_text(worst.time_to_equilibrium)}; until then the initial norms decide the ELR"
    if worst.schedule:
        ahead += f" ({worst.schedule})"
    remedy = "nothing, if that is meant; "
    remedy += "else scale the weights to the equilibrium norm at the start, or raise lr wd"
    yield Alert("out-of-time", reading.record.step, "total", reason, numbers, ahead, remedy)

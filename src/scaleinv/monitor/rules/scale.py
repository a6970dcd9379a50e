"""Alert to groups that have a scale though they should not, and to decay of what has no effect."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from scaleinv.monitor.groups import DEAD, FREE
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Alert, Record
from scaleinv.monitor.rules.past import Past
from scaleinv.monitor.state import MonitorState
from scaleinv.text import steps_text

#: |cos(gradient, weight)| sqrt(size) above which a group counts as having a scale: about 1 for a weight with one, below
#: 1e-3 in float32 and 1e-2 in bfloat16 for one without (rounding errors fall as 1/sqrt(size), like random directions)
RADIAL = 0.25
#: logged steps at an interval of one; at larger ones two of three decide
_ROWS = 8


def decay_of_the_dead(monitor: MonitorState, past: Past, reading: Reading) -> Iterator[Alert]:
    """Triggers: weight decay on tensors the output does not depend on. Silent: dead tensors without decay."""
    dead = [(g, rate) for g, rate in zip(monitor.groups, reading.rates[1:]) if g.kind == DEAD and rate.wd > 0]
    if not dead:
        return
    first, rate = dead[0]
    numbers = {"wd": rate.wd, "rho": reading.record.get(first.name, "rho"), "tensors": float(len(dead))}
    reason = f"weight decay {rate.wd:g} acts on a tensor that the output does not depend on"
    if len(dead) > 1:
        reason += f" (so it is with {', '.join(g.name for g, _ in dead[1:4])}{' ...' if len(dead) > 4 else ''})"
    half = f"its norm halves every {steps_text(math.log(2) / rate.shrink)}" if rate.shrink > 0 else ""
    remedy = "leave it out of the model (bias=False before a normalisation) or out of the decay"
    yield Alert("dead-decay", reading.record.step, first.name, reason, numbers, half, remedy)


def scale(monitor: MonitorState, past: Past, reading: Reading, first: Record, starved: set[str]) -> Iterator[Alert]:
    """Triggers: gradient and weight of a scale-invariant group are not orthogonal, in the median of 8 logged steps; in
    two of three at larger intervals.

    It is eps of the normalisation where the symmetry is proved, or was there at the start and the norm has fallen;
    else the group given has a scale. Silent: rounding in float32 or bfloat16, one odd batch, groups without ELR, groups
    some rows of which get no gradient (the size is then not theirs), gradients that are rounding themselves.
    """
    wide = len(past) >= 3 and past.steps[-1] - past.steps[-2] > 2
    rows = 3 if wide else _ROWS
    if len(past) < rows:
        return
    cosines = np.abs(past.column("g_radial")[-rows:])
    with np.errstate(all="ignore"):
        roots = past.roots(monitor)  # of the sizes of the groups without scale, else zero
        if not (cosines.max(axis=0) * roots > RADIAL).any():  # the largest first: a median costs more
            return
        typical = np.median(cosines, axis=0)
    for i, g in enumerate(monitor.groups, start=1):
        root = math.sqrt(g.size)
        if g.kind != FREE or not typical[i] * root > RADIAL or g.name in starved:
            continue
        rho, rho0 = reading.record.get(g.name, "rho"), first.get(g.name, "rho")
        before = abs(first.get(g.name, "g_radial"))
        numbers = {"g_radial": float(typical[i]), "g_radial_first": before, "rho": rho, "rho_first": rho0}
        seen = f"gradient and weight have the cosine {typical[i]:.2g} (median of {rows} logged steps); "
        seen += f"without a scale it is zero, with one about {1 / root:.2g}"
        if monitor.proved or (before * root < RADIAL / 2 and rho < rho0):
            kind = "eps"
            reason = f"eps of the normalisation breaks the invariance at the present norm {rho:.3g}: {seen}"
            ahead = "the ELR stops growing as the norm falls, and the gradient shrinks with the norm"
            remedy = "a smaller eps, less weight decay, or scale the group up (the function stays the same)"
        else:
            kind, ahead = "not-scale-free", "its ELR means little"
            reason = f"the group does not look scale-invariant: {seen}"
            remedy = "let find_symmetries(model, inputs) decide; if it agrees, a smaller eps in the normalisation"
        yield Alert(kind, reading.record.step, g.name, reason, numbers, ahead, remedy)

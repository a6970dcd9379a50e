"""How fast weight decay acts: by how much the learning rate counts in ``1/(lr wd)``.

SGD. torch adds ``wd w`` to the gradient before the momentum buffer, ``m' = momentum m + (1 - dampening)(g + wd w)``, so
gradient and decay of one step go on acting in those after it: in all ``(1 - dampening)/(1 - momentum)`` times, with
Nesterov's look-ahead too. On the scale of a period, which is long against ``1/(1 - momentum)`` steps, it is plain SGD
at ``lr (1 - dampening)/(1 - momentum)``: the decay of the norm, the growth by gradients and the ELR.

Decoupled decay (AdamW, Lion, Muon) multiplies the weights by ``1 - lr wd`` and knows no momentum. Decay that passes
through a normalisation (Adam with L2) has no clock: what it takes from the norm depends on the gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from scaleinv.theory._formula import Number

#: classes whose weight decay is decoupled, where the options do not say so
DECOUPLED = frozenset({"AdamW", "Lion", "Muon", "Adafactor"})


def sgd_pace(momentum: Number = 0.0, dampening: Number = 0.0) -> Number:
    """``(1 - dampening)/(1 - momentum)``; 1 without momentum, where torch has no buffer and dampening does nothing.

    >>> sgd_pace(0.75), sgd_pace(0.75, dampening=0.75), sgd_pace(0.0, dampening=0.5)
    (4.0, 1.0, 1.0)
    """
    return (1 - dampening * (momentum != 0)) / (1 - momentum)


def pace(names: Collection[str], options: Mapping[str, Any]) -> float | None:
    """What weight decay takes from log rho in a step, in units of ``lr wd``, for an optimizer whose class and bases
    have these names, with the options of its parameter group; None where that has no answer.

    >>> pace({"SGD"}, {"momentum": 0.75}), pace({"AdamW"}, {"betas": (0.9, 0.999)}), pace({"Adam"}, {})
    (4.0, 1.0, None)
    """
    if "decoupled_weight_decay" in options:
        return 1.0 if options["decoupled_weight_decay"] else None
    if "SGD" in names:
        return float(sgd_pace(float(options.get("momentum") or 0.0), float(options.get("dampening") or 0.0)))
    return 1.0 if DECOUPLED & set(names) else None

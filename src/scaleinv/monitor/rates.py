"""How an optimizer treats its tensors: learning rate, weight decay, law and clock, by the traits of its class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.runfolder.files import plain
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of


@dataclass(frozen=True)
class Rates:
    """How the optimizer treats a tensor: learning rate, weight decay, law and where the decay acts."""

    lr: float
    wd: float
    law: str  # sgd | normalised | measured
    direct: bool = True  # the decay is added to the update itself, not passed through a normalisation
    sign: float = 1.0  # -1 for ``maximize``
    pace: float = 1.0  # by how much lr counts in 1/(lr wd), see scaleinv.theory.optimizers


def common(rates: Sequence[Rates]) -> Rates:
    """Merge the rates of a group's tensors: NaN where they differ, and the law is then ``measured``."""
    first = rates[0]
    if all(r == first for r in rates[1:]):
        return first
    merged = {}
    for name in ("lr", "wd", "sign", "pace"):
        values = {getattr(r, name) for r in rates}
        merged[name] = values.pop() if len(values) == 1 else math.nan
    one_law = len({r.law for r in rates}) == 1 and merged["lr"] == merged["lr"]
    return Rates(law=first.law if one_law else "measured", direct=all(r.direct for r in rates), **merged)


def unwrap(optimizer: Optimizer) -> Optimizer:
    """Find the optimizer whose ``step`` is taken, inside the wrappers of Accelerate and Lightning. A Sphere is one."""
    while not isinstance(optimizer, Sphere):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer):
            break
        optimizer = inner
    return optimizer


def engine(optimizer: Optimizer) -> Optimizer:
    """Find the optimizer that holds learning rates, decay and state: inside a Sphere the wrapped one."""
    return optimizer.optimizer if isinstance(optimizer, Sphere) else optimizer


def law_of(optimizer: Optimizer) -> str:
    """Name the law: ``sgd``, ``normalised`` or, for an optimizer that is not known, ``measured``."""
    return optimizer.law if isinstance(optimizer, Sphere) else traits_of(optimizer).law or "measured"


def rates(optimizer: Optimizer) -> dict[int, Rates]:
    """Map the id of each tensor to its rates at this moment."""
    law = law_of(optimizer)
    result = {}
    for group in engine(optimizer).param_groups:
        lr = group.get("lr", math.nan)
        traits = traits_of(engine(optimizer), group)
        pace = traits.clock(group)
        factor = 1.0 if traits.rate_factor is None else traits.rate_factor(group)
        one = Rates(
            factor * (float(lr.detach()) if isinstance(lr, Tensor) else float(lr)),
            float(group.get("weight_decay", 0.0) or 0.0),
            law,
            pace is not None,
            -1.0 if group.get("maximize") else 1.0,
            1.0 if pace is None else pace,
        )
        result.update(dict.fromkeys(map(id, group["params"]), one))
    return result


def description(optimizer: Optimizer) -> dict[str, Any]:
    """Describe an optimizer for config.json: its class, law and decay, and every param group's options and clock."""
    inner = engine(optimizer)
    groups = []
    for group in inner.param_groups:
        shown = {k: plain(v) for k, v in group.items() if k not in ("params", "param_names") and _simple(v)}
        groups.append({**shown, "clock": plain(traits_of(inner, group).clock(group))})
    return {
        "class": type(inner).__name__,
        "law": law_of(optimizer),
        "decay": traits_of(inner).decay,
        "groups": groups,
    }


def _simple(value: Any) -> bool:
    return isinstance(value, (int, float, bool, str, tuple, list))

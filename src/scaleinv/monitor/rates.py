"""How an optimizer treats its tensors: the law, and where its weight decay acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.monitor.quantities import Rates
from scaleinv.sphere import Sphere, optimizer_law
from scaleinv.theory.clock import pace


def unwrap(optimizer: Optimizer) -> Optimizer:
    """The optimizer whose ``step`` is taken: inside the wrappers of Accelerate and Lightning. A Sphere is one by
    itself.
    """
    while not isinstance(optimizer, Sphere):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer):
            break
        optimizer = inner
    return optimizer


def engine(optimizer: Optimizer) -> Optimizer:
    """The optimizer that holds learning rates, decay and state: inside a Sphere the wrapped one."""
    return optimizer.optimizer if isinstance(optimizer, Sphere) else optimizer


def law_of(optimizer: Optimizer) -> str:
    """``sgd``, ``normalised`` or, for optimizers that are not known, ``measured``."""
    if isinstance(optimizer, Sphere):
        return optimizer.law
    return optimizer_law(optimizer) or "measured"


def pace_of(optimizer: Optimizer, group: Mapping[str, Any]) -> float | None:
    """What weight decay takes from log rho in a step, in units of ``lr wd`` (:func:`scaleinv.theory.clock.pace`)."""
    return pace({kind.__name__ for kind in type(engine(optimizer)).__mro__}, group)


def rates(optimizer: Optimizer) -> dict[int, Rates]:
    """id of a tensor -> its rates at this moment."""
    law = law_of(optimizer)
    result = {}
    for group in engine(optimizer).param_groups:
        lr = group.get("lr", float("nan"))
        pace = pace_of(optimizer, group)
        one = Rates(
            float(lr.detach()) if isinstance(lr, Tensor) else float(lr),
            float(group.get("weight_decay", 0.0) or 0.0),
            law,
            pace is not None,
            -1.0 if group.get("maximize") else 1.0,
            1.0 if pace is None else pace,
        )
        result.update(dict.fromkeys(map(id, group["params"]), one))
    return result

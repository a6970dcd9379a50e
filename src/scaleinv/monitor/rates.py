"""How an optimizer treats its tensors: the law, and where its weight decay acts."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.monitor.quantities import Rates
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of


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
    return traits_of(optimizer).law or "measured"


def rates(optimizer: Optimizer) -> dict[int, Rates]:
    """id of a tensor -> its rates at this moment."""
    law = law_of(optimizer)
    result = {}
    for group in engine(optimizer).param_groups:
        lr = group.get("lr", float("nan"))
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

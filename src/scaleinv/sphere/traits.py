"""Find the traits of a torch optimizer by the names of its class and bases (:mod:`scaleinv.theory.optimizers`)."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.theory.known_optimizers import as_set
from scaleinv.theory.optimizers import OptimizerTraits, traits_of_names
from scaleinv.theory.rates import LAWS, Law


def class_names(optimizer: Optimizer) -> list[str]:
    """List the names of the optimizer's class and of what it is a subclass of, the class first.

    Of a wrapper that shards the state of another optimizer (``ZeroRedundancyOptimizer``), those of the other one.
    """
    inside = getattr(optimizer, "optim", None)
    if isinstance(inside, Optimizer) and type(optimizer).__name__.startswith("Zero"):
        return class_names(inside)
    return [kind.__name__ for kind in type(optimizer).__mro__]


def traits_of(optimizer: Optimizer, group: Mapping[str, Any] | None = None) -> OptimizerTraits:
    """Find what the optimizer is like in one of its param groups, by the names of its class and bases.

    - ``group``: one of its param groups; a class may mix Muon and Adam. None: what the class is in the first place.

    >>> import torch
    >>> traits_of(torch.optim.SGD([torch.zeros(1)], lr=0.1)).law
    'sgd'
    """
    found = traits_of_names(class_names(optimizer))
    if group is None:
        return found
    return as_set(found if found.of_group is None else found.of_group(group), group)


def choose_law(optimizer: Optimizer, law: str | None) -> Law:
    """Choose the law as stated, else as known; refuse optimizers that cannot be kept on a sphere."""
    name = type(optimizer).__name__
    if "LBFGS" in class_names(optimizer):
        raise UserError(f"{name} evaluates the loss several times a step and cannot be kept on a sphere in between")
    if law is not None:
        if law in LAWS:
            return law
        choice = "sgd (lr = elr rho^2), normalised (lr = elr rho) or relative (lr = elr)"
        raise UserError(f"unknown law {law!r}; choose {choice}")
    found = traits_of(optimizer).law
    if found is None:
        raise UserError(
            f"the law of {name} is not known; pass law='sgd' if its update grows with the gradient, "
            "else law='normalised', or name it once with scaleinv.register_optimizer"
        )
    return found

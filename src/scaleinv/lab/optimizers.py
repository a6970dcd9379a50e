"""Make the optimizer a config names, and find its law."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.lab.config import OPTIMIZERS, OPTIMIZERS_OF_LAB, RunConfig
from scaleinv.lab.muon import MuonAdamW
from scaleinv.lab.references import reference_to
from scaleinv.plugins import load_object
from scaleinv.sphere.traits import traits_of
from scaleinv.theory.rates import Law

#: classes by the names of OPTIMIZERS_OF_LAB
_OF_LAB: dict[str, Callable[..., Any]] = {"MuonAdamW": MuonAdamW}
#: factor of the gradients by which the law is measured, and how near a step must come to a power of it
_FACTOR, _NEAR = 16.0, 0.05


def make_optimizer(config: RunConfig, plans: Sequence[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Make the optimizer; the first of ``plans`` holds the scale-invariant weights, the second, if any, the others."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(list(plans), lr=rate, momentum=config.momentum, foreach=True)
    if config.optimizer in OPTIMIZERS:
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        return kind(list(plans), lr=rate, foreach=True)
    if config.optimizer in OPTIMIZERS_OF_LAB:
        plans = [{**plans[0], "use_muon": True}, *plans[1:]]
    return made(optimizer_class(config.optimizer), config.optimizer, plans, rate, arguments_of(config))


def arguments_text(arguments: dict[str, Any]) -> str:
    """Write the arguments of an optimizer as a config stores them."""
    return json.dumps(arguments, sort_keys=True) if arguments else ""


def arguments_of(config: RunConfig) -> dict[str, Any]:
    """Read the arguments of an optimizer of one's own; momentum among them."""
    arguments: dict[str, Any] = json.loads(config.optimizer_args or "{}")
    return {"momentum": config.momentum, **arguments} if config.momentum else arguments


def named_optimizer(given: Any) -> tuple[str, dict[str, Any]]:
    """Name an optimizer and its arguments as a config stores them: a name, a class, or a partial of a class.

    >>> named_optimizer(torch.optim.NAdam), named_optimizer(functools.partial(torch.optim.Adam, betas=(0.9, 0.95)))
    (('NAdam', {}), ('Adam', {'betas': [0.9, 0.95]}))
    """
    if isinstance(given, str):
        return given, {}
    if isinstance(given, torch.optim.Optimizer):
        raise UserError(f"optimizer is a {type(given).__name__} that holds weights already; give its class or its name")
    arguments: dict[str, Any] = {}
    if isinstance(given, functools.partial):
        if given.args:
            raise UserError("optimizer is a partial with positional arguments; give them by name")
        arguments, given = json.loads(json.dumps(given.keywords, default=str)), given.func
    if not callable(given):
        raise UserError(f"optimizer {given!r} is no name and no class of an optimizer")
    name = str(getattr(given, "__name__", ""))
    if getattr(torch.optim, name, None) is given or _OF_LAB.get(name) is given:
        return name, arguments
    reference = reference_to(given)
    if not isinstance(reference, str):
        raise UserError(f"optimizer {name} has no name that can be imported; put it into a file")
    return reference, arguments


def optimizer_class(name: str) -> Callable[..., Any]:
    """Find a class of torch.optim by its name, or what ``FILE.py:CLASS`` names."""
    found = load_object(name) if ":" in name else _OF_LAB.get(name) or getattr(torch.optim, name, None)
    if not callable(found):
        raise UserError(f"optimizer {name!r} is not one of torch.optim (torch {torch.__version__}); give FILE.py:CLASS")
    return found


def made(
    kind: Callable[..., Any], name: str, plans: Sequence[dict[str, Any]], rate: float, arguments: dict[str, Any]
) -> torch.optim.Optimizer:
    """Make an optimizer that the package does not know; what it does not take is told in one line."""
    plans = [dict(plan) for plan in plans]
    defaults = _parameters(kind)
    if defaults is not None and "weight_decay" not in defaults:
        if any(plan["weight_decay"] for plan in plans):
            raise UserError(f"optimizer {name} has no weight decay; leave --weight-decay out")
        for plan in plans:
            del plan["weight_decay"]
    try:
        optimizer = kind(plans, lr=rate, **arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"optimizer {name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"optimizer {name} gives {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer


def _parameters(kind: Callable[..., Any]) -> set[str] | None:
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}


def law_of_optimizer(config: RunConfig, optimizer: torch.optim.Optimizer) -> Law:
    """Find the law: as registered, else as the config has it, else as measured."""
    known = traits_of(optimizer).law
    if known is not None:
        return known
    if config.law in ("sgd", "normalised"):
        return config.law  # type: ignore[return-value]
    name = config.optimizer
    return measured_law(
        lambda p: made(optimizer_class(name), name, [{"params": p, "weight_decay": 0.0}], 1e-3, {}), name
    )


def with_law(config: RunConfig) -> RunConfig:
    """Check that the optimizer can be made, and complete the config by its law where the package does not know it."""
    if config.optimizer in OPTIMIZERS:
        if config.optimizer_args:
            raise UserError(f"optimizer-args are for other optimizers than {', '.join(OPTIMIZERS)}")
        return config
    kind, weight = optimizer_class(config.optimizer), torch.zeros(4, 4, device="cpu", requires_grad=True)
    plan = {"params": [weight], "weight_decay": config.weight_decay}
    optimizer = made(kind, config.optimizer, [plan], config.lr or 1e-3, arguments_of(config))
    if traits_of(optimizer).law is not None:
        return config
    return dataclasses.replace(config, law=law_of_optimizer(config, optimizer))


def measured_law(make: Callable[[list[Tensor]], torch.optim.Optimizer], name: str) -> Law:
    """Measure whether steps grow with the gradient (``sgd``) or not (``normalised``).

    Two copies of a matrix get gradients that differ by a factor of 16 for eight steps; the lengths of what they moved
    differ by 16 or by 1. In float64, where weights of size 1 show steps of 1e-6 as they are. UserError for anything
    between, which has no ELR of either kind.

    >>> measured_law(lambda p: torch.optim.Rprop(p, lr=1e-3), "Rprop")
    'normalised'
    """
    generator = torch.Generator().manual_seed(0)
    at: dict[str, Any] = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    start = torch.randn(8, 6, **at)
    gradients = [torch.randn(8, 6, **at) for _ in range(8)]
    lengths = []
    for factor in (1.0, _FACTOR):
        weight = start.clone().requires_grad_(True)
        optimizer = make([weight])
        for gradient in gradients:
            weight.grad = gradient * factor
            optimizer.step()
        lengths.append(float((weight.detach() - start).norm()))
    ratio = lengths[1] / lengths[0] if lengths[0] else 0.0
    if abs(ratio / _FACTOR - 1) < _NEAR:
        return "sgd"
    if abs(ratio - 1) < _NEAR:
        return "normalised"
    raise UserError(
        f"optimizer {name}: a gradient {_FACTOR:g} times as large makes steps {ratio:.3g} times as long, not 1 "
        f"or {_FACTOR:g} times; name its law once with scaleinv.register_optimizer"
    )

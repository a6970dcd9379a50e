"""Losses of one's own: a name, a torch.nn loss, or a callable that gives the mean over a batch."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.errors import UserError
from scaleinv.lab.losses import squared
from scaleinv.lab.problem import Measured
from scaleinv.lab.references import Reference, object_of, reference_to
from scaleinv.lab.splits import examples_in
from scaleinv.text import near

#: by name; of integer targets, of floating targets
NAMED: dict[str, tuple[Callable[..., Tensor] | None, Callable[..., Tensor] | None]] = {
    "ce": (functional.cross_entropy, functional.cross_entropy),
    "mse": (squared, functional.mse_loss),
    "bce": (None, functional.binary_cross_entropy_with_logits),
    "l1": (None, functional.l1_loss),
    "huber": (None, functional.huber_loss),
}


@dataclass(frozen=True)
class LossSpec:
    """A loss: what it is called, how it is made again, and how it measures a batch."""

    name: str
    description: str  # part of the fingerprint
    reference: Reference  # None: it cannot be made again elsewhere
    measure: Callable[[Any, Any], tuple[Tensor, Tensor | float]]  # (mean, weight)
    ignore: int | None = None  # targets that do not count

    def total(self, outputs: Any, targets: Any) -> Measured:
        """Give (sum, weight) of a batch."""
        mean, weight = self.measure(outputs, targets)
        return mean * weight, weight


def loss_spec(loss: Any, integer: bool) -> LossSpec:
    """Read a loss; ``integer``: whether targets are whole numbers. None: ce for them, else mse.

    >>> loss_spec("ce", True).measure(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2]))
    (tensor(1.0986), 4)
    """
    if loss is None:
        loss = "ce" if integer else "mse"
    if isinstance(loss, str) and ":" not in loss:
        return _named(loss, integer)
    reference = loss if isinstance(loss, (str, dict)) else reference_to(loss)
    found = object_of(loss) if isinstance(loss, (str, dict)) else loss
    if isinstance(found, type):
        found = found()
    if isinstance(found, nn.Module):
        return _module(found, reference)
    if not callable(found):
        raise UserError(f"loss {loss!r} is no name, no torch.nn loss and cannot be called; names: {', '.join(NAMED)}")
    name = str(getattr(found, "__name__", type(found).__name__))

    def measure(outputs: Any, targets: Any) -> tuple[Tensor, float]:
        return found(outputs, targets), examples_in(targets)

    return LossSpec(name, f"callable {name}", reference, measure)


def _named(name: str, integer: bool) -> LossSpec:
    if name not in NAMED:
        raise UserError(f"unknown loss {name!r}{near(name, NAMED)}; choose one of: {', '.join(NAMED)}, or FILE.py:NAME")
    function = NAMED[name][0 if integer else 1]
    if function is None:
        raise UserError(
            f"loss {name!r} needs floating targets, and these are whole numbers; give them as float32, or use ce for "
            "classes"
        )

    def measure(outputs: Any, targets: Any) -> tuple[Tensor, float]:
        return function(outputs, targets), examples_in(targets)

    return LossSpec(name, name, name, measure, -100 if name == "ce" and integer else None)


def _module(loss: nn.Module, reference: Reference) -> LossSpec:
    reduction = getattr(loss, "reduction", "mean")
    name = type(loss).__name__
    if reduction != "mean":
        raise UserError(
            f"{name} has reduction={reduction!r}; give reduction='mean': the loss is the mean over the batch"
        )
    arguments = _arguments(loss)
    told = ", ".join(f"{key}={value!r}" for key, value in sorted(arguments.items()))
    torchs = type(loss).__module__.startswith("torch.nn.")
    if torchs:
        reference = {"ref": f"torch.nn:{name}", "kwargs": arguments}
    ignore = getattr(loss, "ignore_index", None)
    weights = getattr(loss, "weight", None)
    counts = isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))

    def measure(outputs: Any, targets: Any) -> tuple[Tensor, Tensor | float]:
        if counts and isinstance(weights, Tensor) and loss.weight.device != outputs.device:
            loss.to(outputs.device)
        mean = loss(
            outputs.float() if counts and outputs.dtype == torch.float64 and weights is not None else outputs, targets
        )
        if not counts or targets.is_floating_point():
            return mean, examples_in(targets)
        counted = targets != ignore
        if weights is None:
            return mean, counted.sum()
        return mean, (loss.weight[targets.clamp(min=0)] * counted).sum()  # type: ignore[index]

    return LossSpec(name, f"{name}({told})", reference, measure, ignore if counts else None)


def _arguments(loss: nn.Module) -> dict[str, Any]:
    """Find the arguments a torch.nn loss was made with, as JSON has them; defaults are left out."""
    found = {}
    for name, parameter in inspect.signature(type(loss).__init__).parameters.items():
        value = getattr(loss, name, parameter.default)
        if (
            name in ("self", "size_average", "reduce")
            or value is parameter.default
            or parameter.default is parameter.empty
        ):
            continue
        value = value.tolist() if isinstance(value, Tensor) else value
        if value != parameter.default:
            found[name] = value
    return found

"""From the words of a command line to a model and its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.plugins import call_object, load_object

_FORM = (
    "give PACKAGE.MODULE:FACTORY or FILE.py:FACTORY, FACTORY a function without arguments, a Module class or a Module"
)


def load_model(target: str) -> nn.Module:
    """The model that ``PACKAGE.MODULE:FACTORY`` (or ``FILE.py:FACTORY``) names; what it prints goes to stderr.

    Raises UserError where the module or factory is not found, needs arguments, fails, or gives no ``nn.Module``.
    """
    found = load_object(target, _FORM)
    if not isinstance(found, nn.Module):
        found = call_object(found, target, _FORM)
    if not isinstance(found, nn.Module):
        raise UserError(f"{target} gives {type(found).__name__}, not a torch.nn.Module; {_FORM}")
    return found


def parse_inputs(texts: Sequence[str], seed: int = 0) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Random inputs from their descriptions, one tensor each.

    ``8,3,32,32``: standard normal numbers of that shape. ``int:2,16:50257``: whole numbers from 0 to 50256. With
    ``NAME=`` in front of every one the model gets them by name.

    >>> [t.shape for t in parse_inputs(["8,3", "int:2,16:100"])]
    [torch.Size([8, 3]), torch.Size([2, 16])]
    """
    if not texts:
        raise UserError("give at least one --input, for example --input 12,3,32,32 or --input int:2,16:50257")
    generator = torch.Generator().manual_seed(seed)
    named: dict[str, Tensor] = {}
    plain: list[Tensor] = []
    for text in texts:
        name, equals, rest = text.rpartition("=")
        tensor = _tensor(rest if equals else text, generator)
        if equals:
            named[name] = tensor
        else:
            plain.append(tensor)
    if named and plain:
        raise UserError("some inputs have a name and some have none; name all of them or none")
    return named if named else tuple(plain)


def _tensor(text: str, generator: torch.Generator) -> Tensor:
    parts = text.split(":")
    form = "write 8,3,32,32 for numbers, int:2,16:50257 for integers below 50257"
    whole = parts[0] == "int"
    if (whole and len(parts) != 3) or (not whole and len(parts) != 1):
        raise UserError(f"input {text!r} is not understood; {form}")
    try:
        shape = [int(n) for n in parts[1 if whole else 0].split(",")]
        high = int(parts[2]) if whole else 1
    except ValueError:
        raise UserError(f"input {text!r} is not understood; {form}") from None
    if any(n < 1 for n in shape) or high < 1:
        raise UserError(f"input {text!r} has a size that is not positive; {form}")
    if math.prod(shape) > 2**31:
        raise UserError(f"input {text!r} has {math.prod(shape)} numbers; a small batch is enough")
    if whole:
        return torch.randint(high, shape, generator=generator)
    return torch.randn(shape, generator=generator)

"""Load a model by its name, and make random inputs for it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.plugins import call_object, load_object

_FORM = (
    "give PACKAGE.MODULE:FACTORY or FILE.py:FACTORY, FACTORY a function without arguments, a Module class or a Module"
)


def load_model(target: str) -> nn.Module:
    """Load the model that ``PACKAGE.MODULE:FACTORY`` (or ``FILE.py:FACTORY``) names; what it prints goes to stderr.

    Raises UserError where the module or factory is not found, needs arguments, fails, or gives no ``nn.Module``.
    """
    found = load_object(target, _FORM)
    if not isinstance(found, nn.Module):
        found = call_object(found, target, _FORM)
    if not isinstance(found, nn.Module):
        raise UserError(f"{target} gives {type(found).__name__}, not a torch.nn.Module; {_FORM}")
    return found


def random_inputs(
    wanted: Mapping[str, tuple[tuple[int, ...], int | None]], seed: int = 0
) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Make random inputs, one tensor for each (shape, high): standard normal numbers, or whole numbers below ``high``.

    high 0: truth values, three of four true; along the last dimension the first is true and the last false, so that no
    row is masked altogether, whichever of the two masks.

    A dict by name if the names are not "0", "1", ..., else a tuple.

    >>> [t.shape for t in random_inputs({"0": ((8, 3), None), "1": ((2, 16), 100)})]
    [torch.Size([8, 3]), torch.Size([2, 16])]
    """
    generator = torch.Generator().manual_seed(seed)
    made = {name: _random(shape, high, generator) for name, (shape, high) in wanted.items()}
    return tuple(made.values()) if all(name.isdigit() for name in made) else made


def _random(shape: tuple[int, ...], high: int | None, generator: torch.Generator) -> Tensor:
    if high is None:
        return torch.randn(shape, generator=generator, device="cpu")
    if high:
        return torch.randint(high, shape, generator=generator, device="cpu")
    mask = torch.rand(shape, generator=generator, device="cpu") < 0.75
    if shape[-1] > 1:
        mask[..., 0], mask[..., -1] = True, False
    return mask

"""Remember what :func:`scaleinv.find_symmetries` said of a parameter, as long as the parameter lives.

So Sphere can refuse a dimension that was found not to be free, whatever way the parameter came to it.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


@dataclass(frozen=True)
class KnownSlices:
    """What is known of one parameter."""

    name: str
    single: bool  # scale-invariant alone
    dim: int | None = None  # each slice of this dimension is so by itself
    blocks: tuple[tuple[int, int], ...] = ()  # runs of slices that are so by themselves ...
    blocks_dim: int | None = None  # ... along this dimension


_CLAIMS: MutableMapping[Tensor, KnownSlices] = WeakIdKeyDictionary()


def remember(parameters: Mapping[str, Tensor], found: Any) -> None:
    """Remember what a ``Symmetries`` claims about parameters, by their names; nothing where it is undecided."""
    if found.verdict != "clear":
        return
    parts = {part.name: part for part in (*found.partial, *found.blocks)}
    for name, parameter in parameters.items():
        if name not in found.shapes or tuple(parameter.shape) != found.shapes[name]:
            continue
        part = parts.get(name)
        dim = found.row_dim.get(name)
        blocks = () if part is None else part.blocks or part.ranges
        along = None if part is None else part.dim
        _CLAIMS[parameter] = KnownSlices(name, name in found.single, dim, tuple(blocks), along)


def claim_of(parameter: Tensor) -> KnownSlices | None:
    """Find what was said of a parameter last; None if nothing was."""
    return _CLAIMS.get(parameter)

"""Check in one line of a test suite which weights of a model are scale-invariant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from scaleinv.errors import UserError
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.result import Symmetries


def assert_scale_invariant(
    model: nn.Module, inputs: Any, names: Iterable[str | Iterable[str]] | None = None, *, seed: int = 0
) -> Symmetries:
    """Raise AssertionError unless the named tensors have no scale; return what was found.

    names: parameter names; a name alone must be scale-invariant alone or be a member of a joint group, a tuple of names
    must be scale-invariant as a set: a joint group, or made of whole ones. None: every trained tensor must be
    scale-invariant, alone, jointly or dead. Raises UserError for a name the model does not have.

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> assert_scale_invariant(net, torch.randn(5, 4), ["0.weight"]).single
    ('0.weight',)
    """
    found = find_symmetries(model, inputs, seed=seed)
    if found.verdict != "clear":
        raise AssertionError(found.headline())
    free = set(found.single) | {name for tensors in found.joint for name in tensors}
    if names is None:
        kept = [n for n in found.shapes if n not in free and n not in found.dead and n not in found.frozen]
        if kept:
            said = f"these trained tensors have a scale of their own: {', '.join(kept)}"
            raise AssertionError(f"{said}; {found.headline()}")
        return found
    for wanted in [names] if isinstance(names, str) else names:
        tensors = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for name in tensors:
            if name not in found.shapes:
                raise UserError(f"the model has no floating parameter {name!r}; see model.named_parameters()")
        if isinstance(wanted, str):
            if wanted not in free:
                raise AssertionError(f"{wanted} is {_kind(found, wanted)}, not scale-invariant; {found.headline()}")
            continue
        left = set(tensors)
        for group in [(n,) for n in (*found.single, *found.dead)] + list(found.joint):
            if left.issuperset(group):
                left.difference_update(group)
        if left:
            said = ", ".join(sorted(left))
            raise AssertionError(f"{said}: not scale-invariant as part of this set; {found.headline()}")
    return found


def _kind(found: Symmetries, name: str) -> str:
    if name in found.dead:
        return "dead"
    pairs = any(name in pair for pair in found.rescaling)
    return "part of a rescaling symmetry" if pairs else "of a scale of its own"

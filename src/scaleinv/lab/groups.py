"""The scale-invariant groups of a network of the lab, found numerically, never listed by hand.

What is invariant depends on how layers are connected, not on how wide they are or on the image size, so a narrow
twin on small images is searched instead of the network itself, once a process.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.lab.models import build_model
from scaleinv.symmetry import find_symmetries

_TWIN_WIDTH, _TWIN_SIDE, _TWIN_BATCH = 4, 16, 12


@functools.cache
def group_names(
    model: str, variant: str, norm: str, in_shape: tuple[int, int, int], classes: int
) -> tuple[tuple[str, ...], ...]:
    """The tensors of every scale-invariant group of weight matrices, in the order of use; each tensor in one group.

    Groups of norm gains and biases alone are left out: rho of the papers counts weight matrices.

    >>> group_names("mlp", "si", "batch", (1, 8, 8), 10)
    (('layers.0.weight',), ('layers.1.weight',), ('layers.2.weight',))
    """
    channels, height, width = in_shape
    twin_shape = in_shape if model == "mlp" else (channels, min(height, _TWIN_SIDE), min(width, _TWIN_SIDE))
    generator = torch.Generator().manual_seed(0)
    twin = build_model(
        model, variant=variant, in_shape=twin_shape, classes=classes, width=_TWIN_WIDTH, norm=norm, generator=generator
    )
    found = find_symmetries(twin, torch.randn(_TWIN_BATCH, *twin_shape, generator=generator), defect=False)
    if found.verdict != "clear":
        raise UserError(f"the scale-invariant weights of {model} ({variant}, {norm} norm): {found.headline()}")
    return tuple(tensors for _, tensors in found.groups)


def group_tensors(network: nn.Module, names: tuple[tuple[str, ...], ...]) -> dict[str, tuple[Tensor, ...]]:
    """The groups as tensors of ``network``; a group is named after its tensors, joined by ``+``."""
    if not names:
        raise UserError("the network has no scale-invariant weights, so there is no sphere to train on")
    parameters = dict(network.named_parameters())
    return {"+".join(group): tuple(parameters[name] for name in group) for group in names}

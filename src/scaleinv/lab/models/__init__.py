"""The networks of the papers, each as ``si`` (fully scale-invariant) and ``standard`` (affine norms, trained head)."""

import math
from collections.abc import Callable

import torch
from torch import nn

from scaleinv.errors import UserError
from scaleinv.lab.models.layers import NORMS, Layers
from scaleinv.lab.models.networks import MLP, ConvNet, ResNet18

__all__ = ["DEFAULT_WIDTH", "MLP", "MODELS", "NORMS", "VARIANTS", "ConvNet", "ResNet18", "build_model"]

MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "convnet": ConvNet, "resnet18": ResNet18}
DEFAULT_WIDTH = {"mlp": 64, "convnet": 32, "resnet18": 32}
VARIANTS = ("si", "standard")
#: smallest image side that survives the pools and strides of a convolutional model
_SMALLEST_SIDE = 8


def build_model(
    name: str,
    *,
    classes: int,
    variant: str = "si",
    in_shape: tuple[int, ...] = (3, 32, 32),
    width: int | None = None,
    head_norm: float = 10.0,
    norm: str = "batch",
    norm_eps: float = 1e-5,
    generator: torch.Generator,
    head_generator: torch.Generator | None = None,
) -> nn.Module:
    """Build a network in float32 from explicit generators (``generator`` alone draws everything, the head last).

    ``si``: norms without affine parameters, last layer frozen, its weight rescaled to Frobenius norm ``head_norm``.
    ``standard``: the same topology with affine norms and a trained last layer of the default initialisation.
    The weights of the layers in common are the same draw in both variants.

    >>> net = build_model("convnet", classes=100, width=32, generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters() if p.requires_grad)
    387936
    """
    for what, chosen, known in (
        ("model", name, tuple(MODELS)),
        ("variant", variant, VARIANTS),
        ("normalization", norm, NORMS),
    ):
        if chosen not in known:
            raise UserError(f"unknown {what} {chosen!r}; choose one of: {', '.join(known)}")
    if not 1e-38 <= norm_eps <= 1e30:
        raise UserError(
            f"norm eps {norm_eps} is not a number from 1e-38, float32's least, to 1e30; torch and the papers use 1e-5"
        )
    if width is not None and width < 1:
        raise UserError(f"width {width} is not a positive number of channels; give --width 1 or more")
    if not (math.isfinite(head_norm) and head_norm > 0):
        raise UserError(f"head norm {head_norm} is not a positive number; the papers use 10")
    if name != "mlp" and (len(in_shape) != 3 or min(in_shape[1:]) < _SMALLEST_SIDE):
        raise UserError(f"{name} needs images of at least 8x8 pixels, not {'x'.join(map(str, in_shape))}; use mlp")
    inputs = math.prod(in_shape) if name == "mlp" else in_shape[0]
    affine = variant == "standard"
    head_generator = generator if head_generator is None else head_generator
    make = Layers(generator, head_generator, norm, norm_eps, affine, None if affine else head_norm)
    return MODELS[name](inputs, classes, DEFAULT_WIDTH[name] if width is None else width, make)

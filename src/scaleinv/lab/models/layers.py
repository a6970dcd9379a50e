"""Layers shared by the models, initialised from an explicit generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError

#: the normalization layers a model can be built with
NORMS = ("batch", "layer", "group", "weight")
#: numbers a norm over features needs to pass anything on
FEWEST_FEATURES = 4


def kaiming_uniform(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill with PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)): variance 1/(3 fan_in).

    The initial norm of a conv or linear weight is then sqrt(fan_out_elements/3) (in total sqrt(sum_out/3)).
    """
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)


def conv3x3(
    inputs: int, outputs: int, generator: torch.Generator, stride: int = 1, *, norm_kind: str = "batch"
) -> nn.Conv2d:
    """A 3x3 convolution, padding 1, no bias."""
    return _conv(inputs, outputs, 3, stride, generator, norm_kind)


def conv1x1(
    inputs: int, outputs: int, generator: torch.Generator, stride: int = 1, *, norm_kind: str = "batch"
) -> nn.Conv2d:
    """A 1x1 convolution, no bias."""
    return _conv(inputs, outputs, 1, stride, generator, norm_kind)


def _conv(inputs: int, outputs: int, size: int, stride: int, generator: torch.Generator, norm_kind: str) -> nn.Conv2d:
    conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        WeightNormConv2d if norm_kind == "weight" else nn.Conv2d,
        inputs,
        outputs,
        kernel_size=size,
        stride=stride,
        padding=size // 2,
        bias=False,
        device="cpu",
    )
    kaiming_uniform(conv.weight, inputs * size * size, generator)
    return conv


def linear(inputs: int, outputs: int, generator: torch.Generator, *, bias: bool, norm_kind: str = "batch") -> nn.Linear:
    """A linear layer in PyTorch's default initialisation."""
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        WeightNormLinear if norm_kind == "weight" else nn.Linear, inputs, outputs, bias=bias, device="cpu"
    )
    kaiming_uniform(layer.weight, inputs, generator)
    if bias:
        kaiming_uniform(layer.bias, inputs, generator)
    return layer


class WeightNormConv2d(nn.Conv2d):
    """A convolution whose every filter w acts as ``sqrt(2) w / ||w||`` (weight normalization, the gain not trained)."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(input, _normalised(self.weight), self.bias)
        return output


class WeightNormLinear(nn.Linear):
    """A linear layer whose every row w acts as ``sqrt(2) w / ||w||``."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, _normalised(self.weight), self.bias)


def _normalised(weight: Tensor) -> Tensor:
    """Rows of norm sqrt 2: behind a ReLU the mean square of what passes is then kept from layer to layer."""
    norms = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    normalised: Tensor = weight * (math.sqrt(2.0) / norms)
    return normalised


class Affine(nn.Module):
    """A gain and a bias per channel, and no normalization: what a norm layer trains, for weight normalization."""

    def __init__(self, channels: int, images: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.shape = (-1, 1, 1) if images else (-1,)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = input * self.weight.view(self.shape) + self.bias.view(self.shape)
        return output


def norm(kind: str, channels: int, *, affine: bool, eps: float, images: bool) -> nn.Module:
    """A normalization layer over ``channels``; ``images`` tells (N, C, H, W) from (N, C).

    ``group``: 8 groups, or the largest smaller power of two that divides the channels. Over (N, C) every group, and
    ``layer``, must have at least ``FEWEST_FEATURES`` numbers: one alone is normalised to 0 and two to +1 and -1,
    whatever the input.
    """
    if kind == "weight":  # the weights are normalised, not what they give
        return Affine(channels, images) if affine else nn.Identity()
    if kind == "batch":
        return (nn.BatchNorm2d if images else nn.BatchNorm1d)(channels, eps=eps, affine=affine)
    if kind in ("layer", "group") and not images and channels < FEWEST_FEATURES:
        raise UserError(
            f"width {channels} is too small for normalization {kind!r}: it would normalise {channels} number(s) at a "
            f"time and forget the input; use a width of {FEWEST_FEATURES} or more, or normalization 'batch'"
        )
    if kind == "layer":
        if images:
            return nn.GroupNorm(1, channels, eps=eps, affine=affine)
        return nn.LayerNorm(channels, eps=eps, elementwise_affine=affine)
    if kind == "group":
        groups = math.gcd(channels, 8)
        while not images and groups > 1 and channels // groups < FEWEST_FEATURES:
            groups //= 2
        return nn.GroupNorm(groups, channels, eps=eps, affine=affine)
    raise UserError(f"unknown normalization {kind!r}; choose one of: {', '.join(NORMS)}")


def head(inputs: int, classes: int, generator: torch.Generator, *, bias: bool, frozen_norm: float | None) -> nn.Linear:
    """The last layer; with ``frozen_norm`` its weight is rescaled once to that Frobenius norm and takes no gradient.

    The bias, if any, keeps its initial value (Lobacheva et al. 2021, released code: frozen as well, not
    rescaled).
    """
    layer = linear(inputs, classes, generator, bias=bias)
    if frozen_norm is not None:
        with torch.no_grad():
            layer.weight.mul_(frozen_norm / torch.linalg.vector_norm(layer.weight))
        layer.requires_grad_(False)
    return layer

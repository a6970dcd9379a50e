"""The layers of a network, all of one kind of normalization, initialised from explicit generators."""

import math
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network."""

    generator: torch.Generator
    head_generator: torch.Generator
    norm_kind: str = "batch"  # of NORMS
    norm_eps: float = 1e-5
    affine: bool = False  # whether norms have a trained gain and bias
    head_norm: float | None = None  # of the last layer's weight, which is then frozen; None: it is trained

    def conv(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
        """Make a convolution of odd kernel size, padded so that it keeps the side at stride 1, no bias."""
        conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            WeightNormConv2d if self.norm_kind == "weight" else nn.Conv2d,
            inputs,
            outputs,
            kernel_size=size,
            stride=stride,
            padding=size // 2,
            bias=False,
            device="cpu",
        )
        kaiming_uniform(conv.weight, inputs * size * size, self.generator)
        return conv

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Make a linear layer without bias."""
        kind = WeightNormLinear if self.norm_kind == "weight" else nn.Linear
        layer: nn.Linear = nn.utils.skip_init(kind, inputs, outputs, bias=False, device="cpu")  # type: ignore[no-untyped-call]
        kaiming_uniform(layer.weight, inputs, self.generator)
        return layer

    def norm(self, channels: int, *, images: bool = True) -> nn.Module:
        """Make a normalization layer over ``channels``; ``images`` tells (N, C, H, W) from (N, C).

        ``group``: 8 groups, or the largest smaller power of two that divides the channels. Over (N, C) every group, and
        ``layer``, must have at least ``FEWEST_FEATURES`` numbers: one alone is normalised to 0 and two to +1 and -1,
        whatever the input.
        """
        kind, eps, affine = self.norm_kind, self.norm_eps, self.affine
        if kind == "weight":  # the weights are normalised, not what they give
            return Affine(channels, images) if affine else nn.Identity()
        if kind == "batch":
            return (nn.BatchNorm2d if images else nn.BatchNorm1d)(channels, eps=eps, affine=affine)
        if kind in ("layer", "group") and not images and channels < FEWEST_FEATURES:
            raise UserError(
                f"width {channels} is too small for normalization {kind!r}: it would normalise {channels} number(s) at "
                f"a time and forget the input; use a width of {FEWEST_FEATURES} or more, or normalization 'batch'"
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

    def head(self, inputs: int, classes: int, *, bias: bool) -> nn.Linear:
        """Make the last layer; with ``head_norm`` its weight is rescaled once to that Frobenius norm and frozen.

        The bias, if any, keeps its initial value (Lobacheva et al. 2021, released code: frozen as well, not rescaled).
        """
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, classes, bias=bias, device="cpu")  # type: ignore[no-untyped-call]
        for p in layer.parameters():
            kaiming_uniform(p, inputs, self.head_generator)
        if self.head_norm is not None:
            with torch.no_grad():
                layer.weight.mul_(self.head_norm / torch.linalg.vector_norm(layer.weight))
            layer.requires_grad_(False)
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
        self.weight = nn.Parameter(torch.ones(channels, device="cpu"))
        self.bias = nn.Parameter(torch.zeros(channels, device="cpu"))
        self.shape = (-1, 1, 1) if images else (-1,)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = input * self.weight.view(self.shape) + self.bias.view(self.shape)
        return output

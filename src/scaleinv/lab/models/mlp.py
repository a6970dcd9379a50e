"""A multilayer perceptron in which every hidden layer is followed by a normalization layer."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from scaleinv.lab.models.layers import head, linear, norm

LAYERS = 3


class MLP(nn.Module):
    """``LAYERS`` times (Linear without bias, norm, ReLU), then a linear head with bias.

    Input (N, ...) is flattened. Scale-invariant groups of the ``si`` variant with batch norm: each hidden weight alone.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        width: int,
        *,
        affine: bool,
        norm_kind: str,
        norm_eps: float,
        head_norm: float | None,
        generator: torch.Generator,
        head_generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = [inputs] + [width] * LAYERS
        self.layers = nn.ModuleList(
            linear(a, b, generator, bias=False, norm_kind=norm_kind) for a, b in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            norm(norm_kind, width, affine=affine, eps=norm_eps, images=False) for _ in range(LAYERS)
        )
        self.head = head(width, classes, head_generator, bias=True, frozen_norm=head_norm)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images.flatten(1)
        for layer, normalise in zip(self.layers, self.norms):
            hidden = torch.relu(normalise(layer(hidden)))
        logits: Tensor = self.head(hidden)
        return logits

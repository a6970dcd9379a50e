"""The papers' ConvNet: four 3x3 convolutions, each before a normalization layer."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.lab.models.layers import conv3x3, head, norm


class ConvNet(nn.Module):
    """Widths k, 2k, 4k, 8k; conv, norm, ReLU; max-pool 2 after conv 2, 3 and 4; global max-pool; linear head with bias.

    At 32x32 the last pool is a max-pool of 4, exactly the papers' (Lobacheva et al. 2021, "5-layer CNN"). Parameter
    count of the convolutions: 9 (c k + 2 k^2 + 8 k^2 + 32 k^2) for c input channels, so 387 936 for k = 32, c = 3.
    Input (N, c, H, W) with H, W >= 8.
    """

    def __init__(
        self,
        channels: int,
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
        sizes = [channels, width, 2 * width, 4 * width, 8 * width]
        self.convs = nn.ModuleList(conv3x3(a, b, generator, norm_kind=norm_kind) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(
            norm(norm_kind, size, affine=affine, eps=norm_eps, images=True) for size in sizes[1:]
        )
        self.head = head(8 * width, classes, head_generator, bias=True, frozen_norm=head_norm)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for i, (conv, normalise) in enumerate(zip(self.convs, self.norms)):
            hidden = functional.relu(normalise(conv(hidden)))
            if i > 0:
                hidden = functional.max_pool2d(hidden, 2)
        logits: Tensor = self.head(hidden.amax(dim=(2, 3)))
        return logits

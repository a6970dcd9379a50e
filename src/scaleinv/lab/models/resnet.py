"""The papers' pre-activation ResNet-18 with the extra norms that make it fully scale-invariant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scaleinv.lab.models.layers import conv1x1, conv3x3, head, norm

BLOCKS = (2, 2, 2, 2)


class Block(nn.Module):
    """norm, ReLU, conv, norm, ReLU, conv, plus the shortcut: identity, or norm and 1x1 conv of the activated input."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        affine: bool,
        norm_kind: str,
        norm_eps: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.norm1 = norm(norm_kind, inputs, affine=affine, eps=norm_eps, images=True)
        self.conv1 = conv3x3(inputs, outputs, generator, stride, norm_kind=norm_kind)
        self.norm2 = norm(norm_kind, outputs, affine=affine, eps=norm_eps, images=True)
        self.conv2 = conv3x3(outputs, outputs, generator, norm_kind=norm_kind)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                norm(norm_kind, inputs, affine=affine, eps=norm_eps, images=True),
                conv1x1(inputs, outputs, generator, stride, norm_kind=norm_kind),
            )

    def forward(self, stream: Tensor) -> Tensor:
        active = torch.relu(self.norm1(stream))
        skip = stream if self.shortcut is None else self.shortcut(active)
        hidden = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        total: Tensor = hidden + skip
        return total


class ResNet18(nn.Module):
    """Blocks [2, 2, 2, 2] of widths k..8k; a norm before each shortcut convolution and before the global average pool.

    Linear head without bias (Lobacheva et al. 2021, SI version). 2 790 240 scale-invariant weights for k = 32, 3
    channels.
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
        self.stem = conv3x3(channels, width, generator, norm_kind=norm_kind)
        self.stages = nn.ModuleList()
        inputs = width
        for stage, blocks in enumerate(BLOCKS):
            outputs = width * 2**stage
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    Block(
                        inputs,
                        outputs,
                        stride,
                        affine=affine,
                        norm_kind=norm_kind,
                        norm_eps=norm_eps,
                        generator=generator,
                    )
                )
                inputs = outputs
            self.stages.append(nn.Sequential(*layers))
        self.norm = norm(norm_kind, inputs, affine=affine, eps=norm_eps, images=True)
        self.head = head(inputs, classes, head_generator, bias=False, frozen_norm=head_norm)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images)
        for stage in self.stages:
            stream = stage(stream)
        logits: Tensor = self.head(torch.relu(self.norm(stream)).mean(dim=(2, 3)))
        return logits

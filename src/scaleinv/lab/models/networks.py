"""The networks: an MLP, the papers' ConvNet and their pre-activation ResNet-18."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.lab.models.layers import Layers

HIDDEN = 3  #: hidden layers of the MLP
BLOCKS = (2, 2, 2, 2)  #: of the stages of ResNet-18


class MLP(nn.Module):
    """``HIDDEN`` times (Linear without bias, norm, ReLU), then a linear head with bias.

    Input (N, ...) is flattened. Scale-invariant groups of the ``si`` variant with batch norm: each hidden weight alone.
    """

    def __init__(self, inputs: int, classes: int, width: int, make: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make.linear(a, b) for a, b in pairwise([inputs] + [width] * HIDDEN))
        self.norms = nn.ModuleList(make.norm(width, images=False) for _ in range(HIDDEN))
        self.head = make.head(width, classes, bias=True)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images.flatten(1)
        for layer, normalise in zip(self.layers, self.norms):
            hidden = torch.relu(normalise(layer(hidden)))
        logits: Tensor = self.head(hidden)
        return logits


class ConvNet(nn.Module):
    """Widths k, 2k, 4k, 8k; conv, norm, ReLU; max-pool 2 after conv 2, 3 and 4; global max-pool; linear head with bias.

    At 32x32 the last pool is a max-pool of 4, exactly the papers' (Lobacheva et al. 2021, "5-layer CNN"). Parameter
    count of the convolutions: 9 (c k + 2 k^2 + 8 k^2 + 32 k^2) for c input channels, so 387 936 for k = 32, c = 3.
    Input (N, c, H, W) with H, W >= 8.
    """

    def __init__(self, channels: int, classes: int, width: int, make: Layers) -> None:
        super().__init__()
        sizes = [channels, width, 2 * width, 4 * width, 8 * width]
        self.convs = nn.ModuleList(make.conv(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(make.norm(size) for size in sizes[1:])
        self.head = make.head(8 * width, classes, bias=True)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for i, (conv, normalise) in enumerate(zip(self.convs, self.norms)):
            hidden = functional.relu(normalise(conv(hidden)))
            if i > 0:
                hidden = functional.max_pool2d(hidden, 2)
        logits: Tensor = self.head(hidden.amax(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """norm, ReLU, conv, norm, ReLU, conv, plus the shortcut: identity, or norm and 1x1 conv of the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int, make: Layers) -> None:
        super().__init__()
        self.norm1 = make.norm(inputs)
        self.conv1 = make.conv(inputs, outputs, stride=stride)
        self.norm2 = make.norm(outputs)
        self.conv2 = make.conv(outputs, outputs)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(make.norm(inputs), make.conv(inputs, outputs, 1, stride))

    def forward(self, stream: Tensor) -> Tensor:
        active = torch.relu(self.norm1(stream))
        skip = stream if self.shortcut is None else self.shortcut(active)
        hidden = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        total: Tensor = hidden + skip
        return total


class ResNet18(nn.Module):
    """Blocks [2, 2, 2, 2] of widths k..8k; a norm before each shortcut convolution and before the global average pool.

    These extra norms make the pre-activation network fully scale-invariant. Linear head without bias (Lobacheva et al.
    2021, SI version). 2 790 240 scale-invariant weights for k = 32, 3 channels.
    """

    def __init__(self, channels: int, classes: int, width: int, make: Layers) -> None:
        super().__init__()
        self.stem = make.conv(channels, width)
        self.stages = nn.ModuleList()
        inputs = width
        for stage, count in enumerate(BLOCKS):
            outputs = width * 2**stage
            blocks = []
            for block in range(count):
                blocks.append(Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1, make))
                inputs = outputs
            self.stages.append(nn.Sequential(*blocks))
        self.norm = make.norm(inputs)
        self.head = make.head(inputs, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images)
        for stage in self.stages:
            stream = stage(stream)
        logits: Tensor = self.head(torch.relu(self.norm(stream)).mean(dim=(2, 3)))
        return logits

"""Problems of a user: small networks, arrays and data sets, with the randomness that people have."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import scaleinv as si


def make_net(width: int = 8, classes: int = 3) -> nn.Module:
    """Sequences of 2 channels; dropout draws from the global generator at every step."""
    return nn.Sequential(
        nn.Conv1d(2, width, 3, padding=1, bias=False),
        nn.BatchNorm1d(width, affine=False),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def arrays(count: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three equally frequent classes, told apart by the frequency of a wave in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    inputs = rng.normal(size=(count, 2, 12))
    inputs[:, 0] += 2 * np.sin(np.arange(12)[None] * (labels[:, None] + 1))
    return inputs, labels


class Jittered(Dataset[Any]):
    """A map-style data set whose transform draws from torch's global generator."""

    def __init__(self, count: int = 96) -> None:
        self.inputs, self.labels = arrays(count)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.as_tensor(self.inputs[index]) + 0.1 * torch.randn(2, 12, dtype=torch.float64), int(
            self.labels[index]
        )


class Plain(Jittered):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.as_tensor(self.inputs[index]), int(self.labels[index])


def problem() -> Any:
    return si.classification(make_net, arrays(), arrays(48, 1))


def jittered() -> Any:
    return si.classification(make_net, Jittered(), arrays(48, 1))


def noisy(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs + 0.3 * torch.randn(inputs.shape, generator=generator)


class Shifted(Jittered):
    """Its transform draws from the generators of Python and numpy."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        moved = np.roll(self.inputs[index], random.randrange(3), axis=1) + 0.1 * np.random.normal()  # noqa: NPY002
        return torch.as_tensor(moved), int(self.labels[index])


def shifted(read_workers: int = 0) -> Any:
    return si.classification(make_net, Shifted(), Shifted(48), read_workers=read_workers)


def augmented(read_workers: int = 0) -> Any:
    """Examples that are read, with a transform of their own and an augmentation of the batch."""
    return si.classification(make_net, Jittered(), augment=noisy, read_workers=read_workers)


def load_jittered() -> Any:
    return Jittered(), arrays(48, 1)


def load_plain() -> Any:
    return Plain(), arrays(48, 1)


def load() -> Any:
    return arrays(), arrays(48, 1)


def smooth(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, label_smoothing=0.1)


def regressor() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16, bias=False), nn.BatchNorm1d(16, affine=False), nn.ReLU(), nn.Linear(16, 1))


def regression() -> Any:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(96, 4, generator=draw)
    return si.classification(regressor, (x, 2 * x[:, :1] + x[:, 1:2] ** 2))


class Gpt(nn.Module):
    """A language model that answers as those of the Hugging Face do: with ``logits``."""

    def __init__(self, vocabulary: int = 7, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.mix = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Any:
        class Answer:
            logits = self.head(torch.relu(self.norm(self.mix(self.embed(tokens)))))

        return Answer()


def tokens(count: int = 1200) -> np.ndarray:
    """A walk on a ring of 7, with steps 1, 1 and 2: each next token is one of two."""
    steps = np.random.default_rng(0).choice([1, 1, 2], count)
    return (np.cumsum(steps) % 7).astype(np.uint16)


def language() -> Any:
    return si.language_model(Gpt, tokens(), context=16)

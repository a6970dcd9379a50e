"""Small nets and loops that the tests of the monitor share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

FREE = ["0.weight", "3.weight"]


def net(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Two scale-invariant layers without biases, affine batch norm, a head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3),
        )  # fmt: skip
    return model.to(dtype)


def batches(count: int, dtype: torch.dtype = torch.float32, size: int = 24) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 6, generator=generator, dtype=dtype), torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    steps: int,
    monitor: Any = None,
    *,
    dtype: torch.dtype = torch.float32,
    change: Callable[[int], None] | None = None,
) -> list[float]:
    """The plain loop; gives the losses."""
    losses = []
    for i, (x, y) in enumerate(batches(steps, dtype)):
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if change is not None:
            change(i)
        if monitor is not None:
            monitor.loss(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))

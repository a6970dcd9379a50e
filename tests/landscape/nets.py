"""Small surfaces for the tests of this room: a float64 network on real digits, and a toy whose loss is known."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.lab import build as lab_groups
from scaleinv.lab.data import load_dataset
from scaleinv.lab.losses import get_loss
from scaleinv.lab.models import build_model
from scaleinv.landscape.surface import Surface

BATCH = 16


def surface(
    model: str = "mlp",
    *,
    loss: str = "ce",
    images: int = 48,
    batch_size: int | None = BATCH,
    width: int = 4,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    norm_eps: float = 1e-30,
    **options: Any,
) -> Surface:
    """A network of the lab, its BN buffers filled with numbers of their own, on a few digits."""
    data = load_dataset("digits", subset=images)
    net = build_model(
        model,
        classes=data.classes,
        width=width,
        in_shape=data.in_shape,
        norm_eps=norm_eps,
        generator=torch.Generator().manual_seed(seed),
        **options,
    ).to(dtype)
    for i, layer in enumerate(m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        g = torch.Generator().manual_seed(50 + i)
        layer.running_mean.copy_(0.1 * torch.randn(layer.num_features, generator=g))  # type: ignore[union-attr]
        layer.running_var.copy_(0.5 + torch.rand(layer.num_features, generator=g))  # type: ignore[union-attr]
    groups = lab_groups.group_tensors(net, lab_groups.group_names(model, "si", "batch", data.in_shape, 10))
    return Surface(
        net,
        groups,
        get_loss(loss),
        (data.train_images.to(dtype), data.train_labels),
        (data.test_images[:100].to(dtype), data.test_labels[:100]),
        batch_size,
    )


class Toy(nn.Module):
    """Logits that are, for every image, a function of the weight's direction alone."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(start.clone())

    def forward(self, images: Tensor) -> Tensor:
        value = (self.x[0] ** 2) / (self.x**2).sum()
        return torch.stack([value, 1 - value]).expand(len(images), 2)


def toy(start: list[float], alpha: float = 1.0) -> Surface:
    """f = alpha x_0^2/|x|^2, the papers' toy function (Kodryan et al. 2022, Proposition 3), as a surface."""
    net = Toy(torch.tensor(start, dtype=torch.float64))
    data = (torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    return Surface(net, {"x": (net.x,)}, lambda logits, _: alpha * logits[:, 0].mean(), data, data, None)


def toy_state(theta: float, radius: float = 1.0) -> dict[str, Tensor]:
    """The toy's weights at an angle from its second axis, where f = alpha sin^2 theta."""
    return {"x": radius * torch.tensor([math.sin(theta), math.cos(theta)], dtype=torch.float64)}


def fingerprint(net: nn.Module) -> list[bytes]:
    """All weights, buffers, gradients, modes and flags of a network."""
    held = [t.detach().contiguous().numpy().tobytes() for t in [*net.parameters(), *net.buffers()]]
    flags = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    modes = [(m.training, getattr(m, "momentum", None)) for m in net.modules()]
    return [*held, repr((flags, modes)).encode()]


def turned(state: dict[str, Tensor], names: list[str], angle: float, seed: int) -> dict[str, Tensor]:
    """Another point: the named tensors moved by about ``angle`` in a random direction."""
    g = torch.Generator().manual_seed(seed)
    size = torch.sqrt(sum((state[n].double() ** 2).sum() for n in names))  # type: ignore[arg-type]
    noise = {n: torch.randn(state[n].shape, generator=g, dtype=torch.float64) for n in names}
    length = torch.sqrt(sum((v**2).sum() for v in noise.values()))  # type: ignore[arg-type]
    return {
        n: (t + (angle * size / length * noise[n]).to(t.dtype) if n in noise else t.clone()) for n, t in state.items()
    }

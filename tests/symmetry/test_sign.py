"""What a norm reduces to its sign: scale-invariant, though no gradient reaches it; dead is what does nothing at all."""

from __future__ import annotations

import pytest
import torch
from tests.cases import normal
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.symmetry import find_symmetries


class Numbers(nn.Module):
    """A number for each channel, or one for all, in front of a norm."""

    def __init__(self, width: int, norm: nn.Module) -> None:
        super().__init__()
        self.number, self.norm, self.head = nn.Parameter(torch.rand(width) + 0.5), norm, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.norm(x * self.number)))


@pytest.mark.parametrize(("width", "norm"), [(8, nn.BatchNorm1d(8)), (1, nn.LayerNorm(8)), (1, nn.BatchNorm1d(8))])
def test_numbers_in_front_of_a_norm(width: int, norm: nn.Module) -> None:
    torch.manual_seed(0)
    found = find_symmetries(Numbers(width, norm), normal(16, 8), defect=False)
    assert found.verdict == "clear"
    assert found.single == ("number",)
    assert found.dead == ()


def test_a_depthwise_convolution_on_single_pixels() -> None:
    """Of a 3x3 kernel on 1x1 maps the middle alone is used, and batch norm leaves its sign."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    found = find_symmetries(net, normal(12, 3, 1, 1), defect=False)
    assert found.verdict == "clear"
    assert set(found.single) >= {"0.weight", "3.weight"}


def test_a_bias_that_a_norm_takes_away_stays_dead() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    assert find_symmetries(net, normal(16, 8), defect=False).dead == ("0.bias",)

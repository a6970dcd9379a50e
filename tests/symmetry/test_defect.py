"""What eps does: a closed form for one norm, and the law that carries a measured error to another norm."""

from __future__ import annotations

import math

import pytest
import torch
from tests.cases import normal
from torch import nn

from scaleinv.symmetry import find_symmetries
from scaleinv.symmetry.defect import norm_of_error

pytestmark = pytest.mark.numerics


def test_one_norm_in_closed_form() -> None:
    """rms norm of W x over a whitened input: var = rho^2/8 at every sample in the mean, so x = 8 eps / rho^2."""
    layer = nn.Linear(6, 8, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(8, 6))
    samples = torch.nn.functional.normalize(normal(200, 6), dim=1) * math.sqrt(6)  # |x|^2 = 6 for every sample
    model = nn.Sequential(layer, nn.RMSNorm(8, eps=1e-5, elementwise_affine=False))
    found = find_symmetries(model, samples)
    rho = found.defect["0.weight"]["norm"]
    assert rho == pytest.approx(math.sqrt(6))
    # mean square of the output is rho^2/6 * 6/8 with rho^2 = 6 c^2: x = eps * 8 / rho^2; the factor is (1 + x)^(-1/2)
    for key, error in (("norm_1_percent", 0.01), ("norm_10_percent", 0.10)):
        x = (1 - error) ** -2 - 1
        expected = math.sqrt(1e-5 * 8 / x)
        # the gradient has a radial part as well, of relative size up to x/(1+x): between one and two times the error
        assert 0.95 * expected < found.defect["0.weight"][key] < 1.7 * expected


def test_the_error_falls_as_the_square_of_the_norm() -> None:
    assert norm_of_error(1.0, 1e-4, 1e-6) == pytest.approx(10, rel=1e-3)


def test_a_group_near_the_origin_is_told() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3))
    far = find_symmetries(model, normal(50, 6)).defect["0.weight"]
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    near = find_symmetries(model, normal(50, 6)).defect["0.weight"]
    assert far["error"] < 1e-3 < near["error"]
    assert near["cosine"] > 10 * far["cosine"]
    assert near["norm"] < near["norm_10_percent"]
    # the danger zone does not depend on where one stands
    assert near["norm_1_percent"] == pytest.approx(far["norm_1_percent"], rel=0.25)

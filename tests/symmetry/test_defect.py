"""What eps does: a closed form for one norm, and the law that carries a measured error to another norm."""

from __future__ import annotations

import math

import pytest
import torch
from tests.cases import normal
from torch import nn

from scaleinv.symmetry import defect, find_symmetries
from scaleinv.symmetry.defect import norm_of_error
from scaleinv.symmetry.probe import Probe

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


class Standardised(nn.Module):
    """Weight standardisation as published: eps outside the root, where the error falls as the norm, not its square."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight - self.weight.mean(1, keepdim=True)
        return x @ (w / (w.std(1, keepdim=True) + 1e-4)).T


def networks() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        mlp = nn.Sequential(
            nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16, bias=False),
            nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3),
        )  # fmt: skip
        conv = nn.Sequential(
            nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False),
            nn.GroupNorm(2, 8, eps=1e-3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3),
        )  # fmt: skip
        standard = nn.Sequential(Standardised(), nn.Tanh(), nn.Linear(8, 3))
    return {
        "mlp": (mlp, normal(40, 6)),
        "conv": (conv, normal(3, 2, 6, 6)),
        "standardised": (standard, normal(40, 6)),
        "tiny": (nn.Sequential(mlp[0], mlp[1], nn.Tanh(), nn.Linear(16, 2)), normal(30, 6) * 1e-2),
    }


def by_bisection(model: nn.Module, x: torch.Tensor, group: list[int], error: float) -> list[float]:
    """Factors on the weights, a twentieth of a power of two apart, between which the error passes ``error``."""
    own = Probe(model, x, dtype=torch.float64, eps=None)
    u = defect.cotangent(torch.ones_like(own.value(), dtype=torch.float64), torch.Generator().manual_seed(5))

    def effective(factor: float) -> torch.Tensor:
        with own.scaled(dict.fromkeys(group, factor)), own.differentiable(group):
            rows = defect.full_row(own, own.outputs(), u, group, keep=False)
        return factor * torch.cat([row.reshape(-1) for row in rows])

    far = effective(2.0**14)
    grid = [k / 20 for k in range(-340, 100)]
    errors = [float((effective(2.0**k) - far).norm() / far.norm()) for k in grid]
    return [2.0**a for a, b, c in zip(grid, errors, errors[1:]) if (b > error) != (c > error)]


@pytest.mark.parametrize("name", networks())
def test_the_norm_of_one_per_cent_is_that_of_a_search_in_double_precision(name: str) -> None:
    """Where units switch on and off the error jumps, and may pass one per cent more than once: at one of these."""
    model, x = networks()[name]
    own = Probe(model, x, dtype=None, eps=None)
    groups = {key: [own.names.index(n) for n in key.split("+")] for key in find_symmetries(model, x).defect}
    assert groups
    found = defect.eps_defect(model, x, groups, torch.Generator().manual_seed(5), own)
    for key, group in groups.items():
        for column, error in (("norm_1_percent", 0.01), ("norm_10_percent", 0.10)):
            told, rho = found[key][column], found[key]["norm"]
            assert told is not None
            assert rho is not None
            crossings = [rho * c for c in by_bisection(model, x, group, error)]
            assert min(abs(math.log(told / c)) for c in crossings) < 0.1, (key, told, crossings)


def test_powers_of_two_alone_bracket_it_where_no_copy_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = networks()["mlp"]
    exact = find_symmetries(model, x).defect["0.weight"]["norm_1_percent"]
    seen: list[float] = []
    of = defect._gradients

    def noted(own: Probe, group: list[int], factor: float, u: torch.Tensor) -> list[torch.Tensor]:
        seen.append(factor)
        return of(own, group, factor, u)

    monkeypatch.setattr(defect, "_MOST", 0)
    monkeypatch.setattr(defect, "_gradients", noted)
    assert find_symmetries(model, x).defect["0.weight"]["norm_1_percent"] == pytest.approx(exact, rel=0.15)
    assert {math.frexp(factor)[0] for factor in seen} == {0.5}


def test_an_error_that_is_rounding_has_no_norm() -> None:
    known = {0.0: 0.02}
    assert defect._factor_of(0.01, lambda k: 0.02, known, whole=False) is None
    assert len(known) <= 4
    assert defect._factor_of(0.01, lambda k: math.nan, {0.0: 0.02}, whole=False) is None

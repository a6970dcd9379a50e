"""The runs about the regimes: what they promise holds for every network declared."""

from __future__ import annotations

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.experiments import regimes


@pytest.mark.parametrize(("scale", "model"), list(regimes._NETS))
def test_elrs(scale: str, model: str) -> None:
    net = regimes.find(scale, model)
    for elrs in (net.elrs, net.convergence, net.equilibrium):
        assert list(elrs) == sorted(set(elrs))
    assert net.convergence[-1] < net.equilibrium[0]
    assert net.elrs[0] <= net.convergence[0]
    assert net.elrs[-1] > net.equilibrium[-1]


def test_sweep_is_seeds_by_elrs() -> None:
    net = regimes.find("digits")
    requests = regimes.sweep(net, seeds=(0, 3))
    assert [(r.seed, r.elr) for r in requests] == [(s, e) for s in (0, 3) for e in net.elrs]


def test_unknown_network() -> None:
    with pytest.raises(UserError, match="no regimes of 'vit'"):
        regimes.find("digits", "vit")

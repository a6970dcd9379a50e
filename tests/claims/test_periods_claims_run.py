"""The claims about periods on a network so small and runs so short that they decide nothing: every check comes to an
end with a verdict and a reason, and claims share runs.
"""

from dataclasses import replace

import pytest

from scaleinv.papers.context import Context
from scaleinv.papers.lobacheva2021 import runs as periods
from scaleinv.papers.shelf import claims

FAMILY = [
    id
    for id, claim in claims().items()
    if claim.check.startswith("scaleinv.papers.lobacheva2021.") and "digits" in claim.scales
]


def tiny(name):
    return replace(
        _full(name),
        rates=(0.1, 0.2, 0.4, 0.8),
        steps=(400, 300, 200, 200),
        large=(10.0, 100),
        small=(0.01, 100),
        spheres=(1e-2, 1e-1),
        sphere_steps=120,
    )


def small_base(scale):
    return replace(_base(scale), model="mlp", width=8, subset=64, weight_decay=0.05)


def small_variations(scale):
    return {
        name: replace(one, settings=replace(one.settings, steps=min(one.settings.steps, 300)))
        for name, one in _variations(scale).items()
    }


_full, _base, _variations = periods._plan, periods.base, periods.variations


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("id", FAMILY)
def test_a_check_ends(id, folder, monkeypatch):
    monkeypatch.setattr(periods, "_plan", tiny)
    monkeypatch.setattr(periods, "base", small_base)
    monkeypatch.setattr(periods, "variations", small_variations)
    whole = periods.resting("digits")
    short = [replace(one, settings=replace(one.settings, width=8, steps=200)) for one in whole]
    monkeypatch.setattr(periods, "resting", lambda scale: short)
    result = claims()[id].run(Context("digits", folder))
    assert result.verdict in ("holds", "fails", "undecided")
    assert result.evidence
    assert set(result.measured) == set(result.expected) == set(result.tolerance)
    before = {path.name for path in folder.iterdir()}
    claims()[id].run(Context("digits", folder))
    assert {path.name for path in folder.iterdir()} == before


def test_the_family_is_whole():
    assert {"constant-interval", "norm-at-equilibrium", "jump-envelope", "critical-elr", "periods-adamw"} <= set(FAMILY)
    assert len(FAMILY) >= 22

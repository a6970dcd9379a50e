"""The figures about the regimes draw: on runs so small that nothing is learnt, the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaleinv.lab.config import Settings
from scaleinv.papers import figure as registry
from scaleinv.papers.kodryan2022 import runs as regimes

FIGURES = ["fig5", "fig7-left", "fig7-right", "fig8-left", "fig8-right", "connectivity", "transition"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> regimes.Net:
    settings = Settings(model="mlp", width=8, subset=64, epochs=20, eval_every=2, keep_every=5)
    net = regimes.Net(settings, (1e-3, 4e-3, 1e-1, 10.0), (1e-3, 2e-3, 4e-3), (5e-2, 1e-1, 2e-1), (0,))
    monkeypatch.setattr(regimes, "_NETS", {key: net for key in regimes._NETS if key[0].startswith("digits")})
    monkeypatch.setattr(regimes, "_PASSAGE", {"digits": ("mlp", (1e-3, 4e-3))})
    return net


@pytest.mark.parametrize("id", FIGURES)
def test_drawn(id: str, runs: Path, tmp_path: Path) -> None:
    entry = registry.find(id)
    written = []
    for name in ("a", "b"):
        drawn = entry.make(registry.Context(tmp_path / name, ("svg",), "digits", runs))
        assert [path.suffix for path in drawn.paths] == [".svg", ".json"]
        written.append([path.read_bytes() for path in drawn.paths])
    assert written[0] == written[1]
    numbers = json.loads(written[0][1])
    assert numbers["scale"] == "digits"


def test_fig5_says_what_each_run_is(runs: Path, tmp_path: Path, tiny: regimes.Net) -> None:
    numbers = registry.find("fig5").make(registry.Context(tmp_path, ("svg",), "digits", runs)).numbers
    assert [run["elr"] for run in numbers["runs"]] == list(tiny.elrs)
    assert set(numbers["boundaries"]) == {"1/2", "2/3"}
    huge = numbers["runs"][-1]
    assert abs(huge["late"]["cosine"]) < 0.3  # at ELR 10 every step forgets the last

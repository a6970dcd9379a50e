"""The figures about the regimes draw: on runs so small that nothing is learnt, and again from their JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.figures.redraw import redrawn

from scaleinv.papers import shelf
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.scales import settings

FIGURES = ["fig5", "fig7-left", "fig7-right", "fig8-left", "fig8-right", "connectivity", "transition"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> regimes.Net:
    base = settings("digits", model="mlp", width=8, subset=64, epochs=20, eval_every=2, keep_every=5)
    net = regimes.Net(base, (1e-3, 4e-3, 1e-1, 10.0), (1e-3, 2e-3, 4e-3), (5e-2, 1e-1, 2e-1), (0,))
    monkeypatch.setattr(regimes, "_NETS", {key: net for key in regimes._NETS if key[0].startswith("digits")})
    monkeypatch.setattr(regimes, "_PASSAGE", {"digits": ("mlp", (1e-3, 4e-3))})
    return net


@pytest.mark.parametrize("id", FIGURES)
def test_drawn_again_from_its_json(id: str, runs: Path, tmp_path: Path) -> None:
    entry, context = shelf.find_figure(id), Context("digits", runs)
    numbers = redrawn(entry.drawing, entry.compute(context), tmp_path)
    assert numbers["scale"] == "digits"
    assert entry.compute(context) == numbers


def test_fig5_says_what_each_run_is(runs: Path, tiny: regimes.Net) -> None:
    numbers = shelf.find_figure("fig5").compute(Context("digits", runs))
    assert [run["elr"] for run in numbers["runs"]] == list(tiny.elrs)
    assert set(numbers["boundaries"]) == {"1/2", "2/3"}
    huge = numbers["runs"][-1]
    assert abs(huge["late"]["cosine"]) < 0.3  # at ELR 10 every step forgets the last

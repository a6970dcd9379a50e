"""The registered figures draw, twice the same bytes, and their numbers say what theory says."""

import json

import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.papers import figure as registry
from scaleinv.theory import lobacheva2021 as theory

QUICK = ["feedback", "fig2", "fig6-left", "forces", "norm-bounds", "toy-periods"]


def draw(id, out):
    return registry.find(id).make(registry.Context(out, ("svg",)))


@pytest.mark.parametrize("id", QUICK)
def test_same_bytes(id, tmp_path):
    first = draw(id, tmp_path / "a")
    second = draw(id, tmp_path / "b")
    assert [p.name for p in first.paths] == [f"{id}.svg", f"{id}.json"]
    for one, two in zip(first.paths, second.paths):
        assert one.read_bytes() == two.read_bytes()


def test_numbers(tmp_path):
    drawn = draw("norm-bounds", tmp_path).numbers
    low, high = drawn["interval"]
    for path in drawn["rho_sq"].values():
        assert low * 0.999 <= path[-1] <= high * 1.01
    drawn = draw("toy-periods", tmp_path).numbers
    assert drawn["elr"].max() > 1 > drawn["elr"][-100:].min()
    drawn = draw("forces", tmp_path).numbers
    assert drawn["rest"][3.0] == theory.resting_rho_sq(3.0, drawn["lr"], drawn["wd"])
    assert json.loads((tmp_path / "forces.json").read_text())["rest"]["3.0"] == drawn["rest"][3.0]


def test_bifurcation_means_follow_theory():
    from scaleinv.papers.kodryan2022 import fig_bifurcation as bifurcation

    numbers = bifurcation.points([1.0, 3.0], np.array([0.5, 1.3]) / 4, 4000, 4)
    assert numbers["mean"] == pytest.approx([0.0, 2 * (1 - 1 / 1.3)], abs=0.02)
    assert numbers["loss"].shape == (2, 160)


def test_registry_refuses_doubles_and_strangers():
    with pytest.raises(RuntimeError, match="twice"):
        registry.figure("forces", paper="p", place="q", title="t", scales={"toy": 1})(lambda context: None)
    with pytest.raises(RuntimeError, match="small-cifar"):
        registry.figure("other", paper="p", place="q", title="t", scales={"small-cifar": 1})(lambda context: None)
    with pytest.raises(UserError, match="unknown figure"):
        registry.find("nothing")


def test_plain():
    values = {"a": np.array([1.0, np.nan]), 2: (np.float64(1.5), np.int64(3)), "c": float("inf"), "d": "x"}
    assert registry.plain(values) == {"a": [1.0, None], "2": [1.5, 3], "c": None, "d": "x"}


def test_files_are_named_by_the_scale_where_there_are_several():
    entry = registry.FigureEntry("one", "p", "q", "t", {"digits": 60.0, "paper": 1e6}, lambda context: None)
    assert entry.stem("digits") == "one-digits"
    assert registry.find("forces").stem("toy") == "forces"
    assert entry.choose(None) == "digits"
    assert entry.choose("paper") == "paper"
    with pytest.raises(UserError, match="it has: digits, paper"):
        entry.choose("mnist")

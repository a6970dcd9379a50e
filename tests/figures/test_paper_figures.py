"""The figures of the papers: each can be drawn again from its JSON, and its numbers say what theory says."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.papers import shelf
from scaleinv.papers.context import Context
from scaleinv.papers.figure import FigureEntry, array, write_figure
from scaleinv.papers.kodryan2022 import fig_toy
from scaleinv.runfolder.files import plain
from scaleinv.theory import lobacheva2021 as theory

TOY = [id for id, entry in shelf.figures().items() if "toy" in entry.scales]


def made(id, out):
    return shelf.find_figure(id).make(Context(), out, ("svg",))


@pytest.mark.parametrize("entry", shelf.figures().values(), ids=lambda entry: entry.id)
def test_numbers_and_draw_are_there(entry):
    for target in (entry.numbers, entry.draw):
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("id", TOY)
def test_drawn_again_from_its_json(id, tmp_path):
    svg, record = made(id, tmp_path / "a").paths
    assert [svg.name, record.name] == [f"{id}.svg", f"{id}.json"]
    entry, numbers = shelf.find_figure(id), json.loads(record.read_text())
    again = write_figure(entry.drawing(numbers), numbers, tmp_path / "b", id, ("svg",))
    assert [path.read_bytes() for path in again.paths] == [svg.read_bytes(), record.read_bytes()]
    if id != "bifurcation":  # seconds
        assert entry.compute(Context()) == numbers


def test_numbers(tmp_path):
    drawn = made("norm-bounds", tmp_path).numbers
    low, high = drawn["interval"]
    for path in drawn["rho_sq"].values():
        assert low * 0.999 <= path[-1] <= high * 1.01
    drawn = made("toy-periods", tmp_path).numbers
    assert max(drawn["elr"]) > 1 > min(drawn["elr"][-100:])
    drawn = made("forces", tmp_path).numbers
    assert drawn["rest"]["3.0"] == theory.resting_rho_sq(3.0, drawn["lr"], drawn["wd"])
    assert json.loads((tmp_path / "forces.json").read_text())["rest"]["3.0"] == drawn["rest"]["3.0"]


def test_bifurcation_means_follow_theory():
    numbers = fig_toy.points([1.0, 3.0], np.array([0.5, 1.3]) / 4, 4000, 4)
    assert numbers["mean"] == pytest.approx([0.0, 2 * (1 - 1 / 1.3)], abs=0.02)
    assert numbers["loss"].shape == (2, 160)


def one(id="one", **scales):
    return FigureEntry(id, "p", "q", "t", scales or {"digits": 60.0, "paper": 1e6}, "m:numbers", "m:draw")


def test_doubles_and_strangers_are_refused(monkeypatch):
    with pytest.raises(UserError, match="small_cifar"):
        one(small_cifar=1.0)
    with pytest.raises(UserError, match="unknown figure"):
        shelf.find_figure("nothing")
    mine = SimpleNamespace(FIGURES=(one("forces"),))
    known = shelf.catalogues()
    monkeypatch.setattr(shelf, "catalogues", lambda: [*known, ("mine", mine)])
    with pytest.raises(UserError, match=r"mine has the id 'forces', as has scaleinv\.papers\.lobacheva2021"):
        shelf.figures()


def test_plain():
    values = {"a": np.array([1.0, np.nan]), 2: (np.float64(1.5), np.int64(3)), "c": float("inf"), "d": "x"}
    assert plain(values) == {"a": [1.0, None], "2": [1.5, 3], "c": None, "d": "x"}
    assert array(plain(values)["a"]).tolist() == pytest.approx([1.0, np.nan], nan_ok=True)


def test_files_are_named_by_the_scale_where_there_are_several():
    entry = one()
    assert entry.stem("digits") == "one-digits"
    assert shelf.find_figure("forces").stem("toy") == "forces"
    assert entry.choose(None) == "digits"
    assert entry.choose("paper") == "paper"
    with pytest.raises(UserError, match="it has: digits, paper"):
        entry.choose("mnist")

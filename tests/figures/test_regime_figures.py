"""Figures of the regimes draw from made-up numbers, and again from their JSON; one from small runs of its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.analysis.made import made_run
from tests.figures.redraw import redrawn

from scaleinv.papers import shelf
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import fig6_right, fig_conventional
from scaleinv.papers.kodryan2022 import fig_divergence as regime3
from scaleinv.papers.nakhodnov2022 import fig9
from scaleinv.papers.nakhodnov2022 import fig_cosine as mse_cosine
from scaleinv.papers.scales import settings
from scaleinv.plots.style import regime_names
from scaleinv.runfolder.files import plain
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import Request

RNG = np.random.default_rng(0)


def walks():
    walk = {"loss": 5 + RNG.random(60), "cosine": 1e-3 * RNG.random(60)}
    return {
        "elr": 1.0,
        "random_directions": [5.0],
        "walks": dict.fromkeys(regime3.KINDS, walk),
        "late": {kind: {"loss": 1.1, "se": 0.01} for kind in regime3.KINDS},
    }


def groups():
    run = {"elr": 1e-2, "groups": ("a", "b"), "common_ess": 0.3, "ratio": 1.01, "clock": 20.0}
    run |= {"group_elr": 0.02 + 0.01 * RNG.random((2, 9)), "group_eg": 10 + RNG.random((2, 9))}
    run |= {"start": np.array([[0.02, 12.0], [0.03, 12.5]])}
    return {"regimes": [1, 2], "runs": [run, run]}


def cosine_numbers():
    runs = []
    for k, distance in enumerate([1e-4, 2e-4, 4e-4, 1e-2]):
        series = {
            ("online", "total", "loss"): np.full(40, 0.01),
            ("weights", "total", "cos_previous_epoch"): 1 - distance * np.exp(0.05 * RNG.normal(size=40)),
            ("weights", "total", "cos_start"): np.full(40, 0.5),
        }
        runs.append(made_run(series, elr=2.0**k, loss="mse"))
    return mse_cosine.collect(runs)


def pair():
    return {
        "names": {"si": "si lr 0.1", "standard": "standard lr 0.02"},
        "errors": {"si": {0: 0.02, 1: 0.03}, "standard": {0: 0.02, 1: 0.025}},
        "difference": 0.0025,
        "interval": [-0.01, 0.02],
        "loss": {"si": [[1.0, 0.5]], "standard": [[1.0, 0.4]]},
    }


def ranking():
    place = {"error": 0.05, "interval": [0.04, 0.06], "not_distinguishable": ()}
    starts = {"cosine from 0.004": 0.004, "constant from 0.1": 0.1, "step from 0.001": 0.001}
    return {
        "regimes": {0.001: 1, 0.004: 2},
        "ranking": [{"name": name, "start": start, **place} for name, start in starts.items()],
        "seeds": (0, 1, 2),
    }


@pytest.mark.parametrize(
    ("draw", "numbers"),
    [
        (regime3.draw, walks()),
        (fig6_right.draw, groups()),
        (mse_cosine.draw, cosine_numbers()),
        (fig_conventional.draw_pair, pair()),
        (fig_conventional.draw_schedules, ranking()),
    ],
    ids=["regime3", "fig6-right", "mse-cosine", "si-vs-standard", "schedules"],
)
def test_drawn_again_from_its_json(draw, numbers, tmp_path):
    assert redrawn(draw, numbers, tmp_path)


def test_schedules_are_coloured_by_the_regime_of_their_start():
    numbers = plain(ranking())
    (ax,) = fig_conventional.draw_schedules(numbers).axes
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [f"start in regime {k}, {regime_names[k]}" for k in (1, 3, 2)]


def test_the_gap_is_drawn_where_there_is_one():
    found = cosine_numbers()
    assert found["verdict"] == "gap"
    assert found["between"] == [4.0, 8.0]


def test_the_diagram_of_runs(tmp_path):
    short = settings("digits", model="mlp", width=16, subset=64, epochs=30, loss="mse")
    short = dataclasses.replace(short, evaluation="online", eval_every=30, record_steps=True)
    requests = [Request(settings=short, elr=elr) for elr in (10.0, 1e-3)]
    numbers = redrawn(fig9.draw, fig9.collect(Context("digits", tmp_path / "runs"), requests), tmp_path)
    assert numbers["objects"] == 64
    runs, traces = numbers["runs"], numbers["traces"]
    assert [run["elr"] for run in runs] == [1e-3, 10.0]
    assert len(traces[0]["loss"]) == 60
    assert runs[0]["late"]["loss"] == pytest.approx(np.mean(traces[0]["loss"][30:]))
    assert runs[0]["late"]["cosine"] > 0.99 > abs(runs[1]["late"]["cosine"])
    # no exact pass: the first batch at the first weights, one point for all rates of a seed
    first = load_steps(next((tmp_path / "runs").glob("*/metrics")).parent)
    assert [trace["start"] for trace in traces] == [[first.loss[0], first.eg[0]]] * 2


IDS = ["fig6-right", "fig9-left", "fig9-right", "mse-cosine", "regime3", "schedules", "si-vs-standard"]


@pytest.mark.parametrize("id", IDS)
def test_scales(id):
    assert list(shelf.find_figure(id).scales) == ["digits", "mnist", "cifar-small", "paper"]

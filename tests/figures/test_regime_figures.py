"""Figures of the regimes draw from made-up numbers, twice the same bytes; one draws from small runs of its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.analysis.made import made_run

from scaleinv.lab.config import Settings
from scaleinv.papers import figure as registry
from scaleinv.papers.kodryan2022 import fig6_right
from scaleinv.papers.kodryan2022 import fig_divergence as regime3
from scaleinv.papers.kodryan2022 import fig_schedules as schedules
from scaleinv.papers.kodryan2022 import fig_si_vs_standard as si_vs_standard
from scaleinv.papers.nakhodnov2022 import diagram as _diagram
from scaleinv.papers.nakhodnov2022 import fig_cosine as mse_cosine
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
        (regime3.draw_walks, walks()),
        (fig6_right.draw_groups, groups()),
        (mse_cosine.draw_cosines, cosine_numbers()),
        (si_vs_standard.draw_pair, pair()),
        (schedules.draw_ranking, ranking()),
    ],
    ids=["regime3", "fig6-right", "mse-cosine", "si-vs-standard", "schedules"],
)
def test_same_bytes(draw, numbers, tmp_path):
    first = draw(numbers, registry.Context(tmp_path / "a", ("svg",), stem="x"))
    second = draw(numbers, registry.Context(tmp_path / "b", ("svg",), stem="x"))
    assert [p.name for p in first.paths] == ["x.svg", "x.json"]
    assert [p.read_bytes() for p in first.paths] == [p.read_bytes() for p in second.paths]
    assert json.loads((tmp_path / "a" / "x.json").read_text())


def test_the_gap_is_drawn_where_there_is_one():
    found = cosine_numbers()
    assert found["verdict"] == "gap"
    assert found["between"] == [4.0, 8.0]


def test_the_diagram_of_runs(tmp_path):
    settings = Settings(
        model="mlp", width=16, subset=64, epochs=30, eval_every=30, loss="mse", evaluation="online", record_steps=True
    )
    context = registry.Context(tmp_path / "out", ("svg",), runs=tmp_path / "runs", stem="diagram")
    traces = _diagram.trace_all(context, [Request(settings=settings, elr=elr) for elr in (10.0, 1e-3)])
    assert [t["elr"] for t in traces] == [1e-3, 10.0]
    assert len(traces[0]["loss"]) == 60
    assert traces[0]["late"]["loss"] == pytest.approx(traces[0]["loss"][30:].mean())
    assert traces[0]["late"]["cosine"] > 0.99 > abs(traces[1]["late"]["cosine"])
    # no exact pass: the first batch at the first weights, one point for all rates of a seed
    first = load_steps(next((tmp_path / "runs").glob("*/metrics")).parent)
    assert {t["start"] for t in traces} == {(first.loss[0], first.eg[0])}
    drawn = _diagram.draw_traces(traces, "Title", context, {"runs": _diagram.table(traces)})
    assert json.loads(drawn.paths[-1].read_text())["runs"][1]["elr"] == 10.0


IDS = ["fig6-right", "fig9-left", "fig9-right", "mse-cosine", "regime3", "schedules", "si-vs-standard"]


@pytest.mark.parametrize("id", IDS)
def test_scales(id):
    assert list(registry.find(id).scales) == ["digits", "mnist", "cifar-small", "paper"]

"""Each judge of the claims about regime 3, step sizes, the edge, the squared loss and schedules can say no."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.analysis.made import made_run
from tests.analysis.test_ess import toy

from scaleinv.analysis.ess import from_steps
from scaleinv.landscape.edge import EdgePoint
from scaleinv.landscape.walks import RandomDirections, WalkComparison
from scaleinv.papers.claim import Sheet
from scaleinv.papers.kodryan2022 import conventional, equal_ess, regimes
from scaleinv.papers.nakhodnov2022 import runs as squared
from scaleinv.papers.nakhodnov2022 import squared_loss
from scaleinv.papers.others import lyu2022 as full_batch_edge
from scaleinv.papers.shelf import claims


def judged(judge, *evidence) -> Sheet:
    sheet = Sheet()
    judge(sheet, *evidence)
    return sheet


def comparison(walk: float, sgd: float, ascent: float, cosine: float = 1e-3, error: float = 0.9) -> WalkComparison:
    def table(values):
        return {kind: np.array([value]) for kind, value in zip(("walk", "sgd", "ascent"), values)}

    return WalkComparison(
        elr=1.0,
        seeds=(0,),
        steps=10,
        window=5,
        loss=table((walk, sgd, ascent)),
        error=table([error] * 3),
        cosine=table([cosine] * 3),
        random=RandomDirections((5.0,), (0.9,)),
        walks=(),
    )


@pytest.mark.parametrize(
    ("shift", "options", "verdict"),
    [
        ((0.0, 1.0, 2.0), {}, "holds"),
        ((0.0, -1.0, 2.0), {}, "fails"),
        ((0.0, 1.0, 0.3), {}, "fails"),
        ((0.5, 1.0, 2.0), {}, "fails"),
        ((0.0, 1.0, 2.0), {"cosine": 0.1}, "fails"),
        ((0.0, 1.0, 2.0), {"error": 0.6}, "fails"),
        ((0.0, math.nan, 2.0), {}, "undecided"),
        ((0.0, 1.0, 2.0), {"cosine": [0.01, 0.025, 0.01]}, "undecided"),  # one network of three
        ((0.0, 1.0, 2.0), {"error": [0.8, 0.9, 0.85]}, "undecided"),
    ],
)
def test_regime_3(shift, options, verdict):
    heads = [5.0, 5.1, 4.9]  # the level of each head's random directions
    wobble = [0.01, -0.01, 0.0]
    each = [{name: x[k] if isinstance(x, list) else x for name, x in options.items()} for k in range(3)]
    losses = [(h + shift[0], h + shift[1] + w, h + shift[2] + 2 * w) for h, w in zip(heads, wobble)]
    found = [comparison(*one, **its) for one, its in zip(losses, each)]
    assert judged(regimes.judge_walks, found, heads, 0.9).result().verdict == verdict


def test_equal_step_sizes():
    calm, chaotic = from_steps(toy(0.5, 400)), from_steps(toy(1.4, 4000))
    for record, regime, verdict in (
        (calm, 1, "holds"),
        (chaotic, 2, "holds"),
        (calm, 2, "undecided"),  # too few of its times 1/ESS^2
        (chaotic, 1, "fails"),
    ):
        sheet = Sheet()
        equal_ess.judge(sheet, "toy", record, regime)
        assert sheet.result().verdict == verdict


def test_unequal_step_sizes_in_regime_2_fail():
    record = toy(1.4, 400)
    record.groups["b"].g[:] *= 1.5
    sheet = Sheet()
    equal_ess.judge(sheet, "toy", from_steps(record), 2)
    assert sheet.verdicts["toy: largest over smallest"] == "fails"


def test_a_record_that_breaks_the_relations_fails():
    record = toy(1.4, 400)
    record.groups["b"].g[200] *= 1.5
    sheet = Sheet()
    equal_ess.judge(sheet, "toy", from_steps(record), 2)
    assert sheet.verdicts["toy: feedback, largest residual"] == "fails"


def edge(products: list[float], residual: float = 1e-3) -> list[EdgePoint]:
    """Points of sharpness 10."""
    return [EdgePoint(k, 0.01, 1.0, product / 10, 10.0, residual, 5) for k, product in enumerate(products)]


@pytest.mark.parametrize(
    ("products", "verdict"),
    [
        ([0.5, 1.0, 1.5, 1.9, 2.0, 1.9, 2.0, 1.9, 2.0], "holds"),
        ([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5], "fails"),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], "fails"),
        ([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], "fails"),  # it did not rise
        ([0.5, 1.0, 1.5, 1.9, 2.0, 2.0, 1.4, 2.6, 2.0], "undecided"),
    ],
)
def test_the_edge(products, verdict):
    sheet = Sheet()
    full_batch_edge.judge(sheet, "run", edge(products))
    assert sheet.result().verdict == verdict


@pytest.mark.parametrize("last", [2.0, 9.0])
def test_an_eigenvalue_that_is_not_known_decides_nothing(last):
    sheet = Sheet()
    full_batch_edge.judge(sheet, "run", edge([0.5, 0.7, 1.5, 1.9, 2.0, 1.9, last, last, last], residual=1.0))
    assert sheet.result().verdict == "undecided"


def run(regime: int, elr: float):
    """A run on the sphere in that regime: series of 60 epochs."""
    rng = np.random.default_rng(0)
    level, error, cosine = {1: (1e-5, 0.0, 1.0), 2: (0.03, 0.2, 0.99), 3: (0.3, 0.9, 0.0)}[regime]
    loss = level * np.exp(0.02 * rng.normal(size=60))
    series = {
        ("online", "total", "loss"): loss,
        ("online", "total", "error"): np.full(60, error),
        ("online", "total", "cosine"): np.full(60, cosine),
        ("online", "total", "eg"): loss,
        ("online", "total", "ess"): loss,
    }
    series |= {("reference", f"direction-{k}", "loss"): np.array([0.3 + 0.001 * k]) for k in range(8)}
    return made_run(series, elr=elr, loss="mse")


def runs(*regimes: int):
    return [run(regime, 10.0**k) for k, regime in enumerate(regimes)]


@pytest.mark.parametrize(
    ("full", "small", "full_head", "small_head", "verdict"),
    [
        ((2, 2, 3), (1, 2, 3), (2, 3), (2, 3), "holds"),
        ((1, 2, 3), (1, 2, 3), (2, 3), (2, 3), "fails"),
        ((2, 2, 3), (2, 2, 3), (2, 3), (2, 3), "fails"),
        ((2, 2, 3), (1, 2, 3), (2, 2), (2, 3), "undecided"),  # regime 3 may lie beyond the sweep
        ((2, 3), (1, 3), (2, 3), (2, 3), "undecided"),  # and regime 2 between two ELRs far apart
        ((2, 2, 3), (1, 2, 3), (2, 3), (1, 3), "fails"),
    ],
)
def test_squared_loss(full, small, full_head, small_head, verdict):
    found = judged(squared_loss.judge, runs(*full), runs(*small), runs(*full_head), runs(*small_head))
    assert found.result().verdict == verdict


def at(level: float):
    """A run above the threshold or below it, whose loss ends at ``level`` of it."""
    one = run(2 if level > 1 else 1, 0.1)
    loss = one.series("online", "total", "loss")[1]
    series = {key: s.values for key, s in one.metrics.items()}
    return made_run(series | {("online", "total", "loss"): loss * level * 9e-4 / loss.mean()}, elr=0.1, loss="mse")


@pytest.mark.parametrize(
    ("level", "full", "small"),
    [(9.0, "holds", "fails"), (0.1, "fails", "holds")] + [(level, "undecided", "undecided") for level in (0.8, 1.3)],
)
def test_a_final_loss_at_the_edge_is_one_draw(level, full, small):
    """1 % of the constant answer's loss is 9e-4 with 10 classes."""
    others = [*runs(1, 2, 3)]
    sheet = judged(squared_loss.judge, [at(level), *others[1:]], runs(1, 2, 3))
    assert sheet.verdicts[f"full set: {squared_loss.LOWEST}"] == full
    sheet = judged(squared_loss.judge, runs(2, 2, 3), [at(level), *others[1:]])
    assert sheet.verdicts[f"small set: {squared_loss.LOWEST}"] == small
    # with head norm 10 regime 1 must not be seen, and a run just below the threshold is one draw
    sheet = judged(squared_loss.judge, runs(2, 2, 3), runs(1, 2, 3), runs(2, 3), [at(level), *others[1:]])
    assert sheet.verdicts["small set, head norm 10: regime 1 seen"] == {
        9.0: "holds", 1.3: "holds", 0.8: "undecided", 0.1: "fails"
    }[level]  # fmt: skip


@pytest.mark.parametrize("scale", claims()["squared-loss-regimes"].scales)
def test_no_run_is_asked_for_in_a_regime_and_out_of_it(scale):
    """With runs made up by what the paper says, one for each request, the claim holds at every scale."""
    full, small, *heads = squared_loss.requested(scale)
    paper = squared.PAPER_HEAD
    assert len(heads) == (0 if scale == "paper" else 2)

    def regimes(requests):
        """By rising ELR; no regime 1 on the full set, nor on a small network with head norm 10."""
        few = requests[0].settings.subset is not None
        converges = few and (requests[0].settings.head_norm != paper or scale == "paper")
        between = [2] * (len(requests) - 2)
        return (1, *between, 3) if converges else (2, *between, 3)

    by_request = {}
    for requests in (full, small, *heads):
        for request, regime in zip(requests, regimes(requests)):
            assert by_request.setdefault((request.settings, request.elr, request.seed), regime) == regime
    found = [
        [run(by_request[r.settings, r.elr, r.seed], r.elr) for r in requests] for requests in (full, small, *heads)
    ]
    result = judged(squared_loss.judge, *found).result()
    assert result.verdict == "holds", result.evidence
    # and no run is part of both what has to show regime 1 and what must not
    without = {(r.settings, r.elr, r.seed) for requests in (full, *heads) for r in requests}
    assert not without & {(r.settings, r.elr, r.seed) for r in small}


@pytest.mark.parametrize(
    ("regimes", "factor", "verdict"),
    [((2, 3), 2.0, "holds"), ((2, None), 2.0, "undecided"), ((2, 2), 2.0, "undecided")]
    + [((1, 3), 2.0, "fails"), ((1, 3), 10.0, "undecided"), ((1, None, 3), 2.0, "undecided")],
)
def test_a_regime_not_seen_may_be_one_not_looked_for(regimes, factor, verdict):
    """That of an undecided run, or beyond the sweep, or between two ELRs far apart; but not between two neighbours."""
    sheet = Sheet()
    squared_loss.seen(sheet, "set", [(factor**k, regime) for k, regime in enumerate(regimes)], 3, 2)
    assert sheet.result().verdict == verdict


def cosine_runs(distances: list[float], level: float):
    """Runs whose epochs turn the weights so far (1 - cos)."""
    rng = np.random.default_rng(1)
    found = []
    for k, distance in enumerate(distances):
        series = {
            ("online", "total", "loss"): np.full(40, level),
            ("weights", "total", "cos_previous_epoch"): 1 - distance * np.exp(0.05 * rng.normal(size=40)),
            ("weights", "total", "cos_start"): np.full(40, 0.5),
        }
        found.append(made_run(series, elr=2.0**k, loss="mse"))
    return found


@pytest.mark.parametrize(
    ("distances", "level", "verdict"),
    [
        ([1e-4, 2e-4, 4e-4, 1e-2, 2e-2], 0.01, "holds"),
        ([1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3], 0.01, "fails"),  # no gap
        ([1e-4, 2e-4, 4e-4, 1e-2, 2e-2], 1e-5, "undecided"),  # it converges: nothing to tell the cosines apart for
        ([1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3], 1e-5, "undecided"),
        ([1e-4, 2e-4], 0.01, "undecided"),
    ],
)
def test_cosines(distances, level, verdict):
    assert judged(squared_loss.judge_cosines, cosine_runs(distances, level)).result().verdict == verdict


@pytest.mark.parametrize(("cost", "verdict"), [(0.002, "holds"), (0.03, "fails"), (0.0095, "undecided")])
def test_the_price_of_a_frozen_head(cost, verdict):
    noise = [0.0, 0.002, -0.002, 0.001, -0.001]
    table = {
        "standard lr 1": dict(enumerate([0.02] * 5)),
        "standard lr 2": dict(enumerate([0.5] * 5)),
        "si lr 1": dict(enumerate([0.7] * 5)),
        "si lr 2": {seed: 0.02 + cost + x for seed, x in enumerate(noise)},
    }
    assert judged(conventional.judge_pair, table).result().verdict == verdict


def schedule_table(**errors: float):
    noise = [0.0, 0.001, -0.001, 0.0005, -0.0005]
    return {
        name.replace("_", " ").replace("p", "."): {seed: e + (1 + 0.1 * k) * x for seed, x in enumerate(noise)}
        for k, (name, e) in enumerate(errors.items())
    }


REGIMES = {1.0: 1, 2.0: 2, 30.0: 2}


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ({"constant_from_1": 0.05, "constant_from_2": 0.2, "cosine_from_2": 0.02, "cosine_from_30": 0.04}, "holds"),
        ({"constant_from_1": 0.05, "constant_from_2": 0.2, "cosine_from_2": 0.06, "cosine_from_30": 0.04}, "fails"),
        ({"constant_from_1": 0.05, "constant_from_2": 0.2, "cosine_from_2": 0.02, "cosine_from_30": 0.0201}, "holds"),
        ({"constant_from_1": 0.0201, "constant_from_2": 0.2, "cosine_from_2": 0.02}, "undecided"),
        ({"constant_from_1": 0.05, "constant_from_2": 0.2}, "undecided"),
    ],
)
def test_schedules(errors, verdict):
    assert judged(conventional.judge_schedules, schedule_table(**errors), REGIMES).result().verdict == verdict

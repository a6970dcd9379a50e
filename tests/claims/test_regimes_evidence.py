"""Every conclusion about the regimes can come out otherwise: made-up numbers, no training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.analysis.made import made_run

from scaleinv.analysis.statistics import Estimate
from scaleinv.papers.claim import Sheet
from scaleinv.papers.kodryan2022.evidence import (
    Landing,
    Region,
    combine,
    connected,
    local_convexity,
    one_curvature,
    ratio_is_one,
    spectrum_of_minima,
    unconnected_pairs,
)
from scaleinv.papers.kodryan2022.regime_evidence import Point, boundaries, jump, point, three_regimes, visible


def sphere(seed: int = 0, scale: float = 1.0) -> list[Point]:
    """ELRs by factors of 2: three that converge, three in between, three at chance."""
    rows = [
        (1e-3, 1e-3, 0.0, 1.0, 0.0),
        (2e-3, 8e-4, 0.0, 1.0, 0.0),
        (4e-3, 5e-4, 0.0, 1.0, 0.05),
        (8e-3, 0.5, 0.15, 0.98, 1.0),
        (1.6e-2, 1.5, 0.5, 0.9, 1.0),
        (3.2e-2, 5.0, 0.8, 0.5, 1.0),
        (6.4e-2, 6.5, 0.9, 0.4, 1.0),
        (1.28e-1, 7.0, 0.9, 0.1, 1.0),
        (2.56e-1, 7.0, 0.89, 0.0, 1.0),
    ]
    return [Point(scale * elr, seed, loss, error, cosine, share, 0.9) for elr, loss, error, cosine, share in rows]


def verdict(*points: list[Point]) -> tuple[str, str]:
    sheet = Sheet()
    three_regimes(sheet, "net", [p for some in points for p in some])
    result = sheet.result()
    return result.verdict, result.evidence


def no_middle(p: Point) -> Point:
    return replace(p, error=0.9, cosine=0.0) if 8e-3 <= p.rate < 2e-1 else p


def test_three_regimes_hold() -> None:
    assert verdict(sphere())[0] == verdict(sphere(), sphere(1))[0] == "holds"
    found = boundaries(sphere())
    assert found.first == (4e-3, 8e-3)
    assert found.second == (3.2e-2, 6.4e-2)
    assert (jump(sphere()).ratio, jump(sphere()).most) == pytest.approx((1000, 1000))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # the loss rises by less than a factor 10 at the boundary
        (lambda p: replace(p, loss=2e-3) if p.rate == 8e-3 else p, "loss over a factor 3"),
        # nothing between convergence and chance, for two seeds
        (no_middle, "fails: net: seeds with an ELR in regime 2"),
        # chance, but the weights hardly move
        (lambda p: replace(p, cosine=0.99) if p.rate > 0.2 else p, "|cos| beyond 2/3"),
        (lambda p: replace(p, error=0.99) if p.rate > 0.2 else p, "error beyond 2/3"),
    ],
)
def test_three_regimes_fail(change, said) -> None:
    answer, evidence = verdict(*([change(p) for p in sphere(seed)] for seed in (0, 1)))
    assert answer == "fails"
    assert said in evidence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # a factor 10 within the scatter of draws
        (lambda p: replace(p, loss=6e-3, loss_se=6e-4) if p.rate == 8e-3 else p, "loss over a factor 3"),
        # no run of the other side within a factor 3
        (lambda p: replace(p, rate=4 * p.rate) if p.rate > 4e-3 else p, "at 1/2 is nan, not measured"),
        # no regime 2, but only one draw
        (no_middle, "seeds with an ELR in regime 2 is 0 of 1"),
        # nothing converges on this grid
        (lambda p: replace(p, share=1.0), "ELRs in regime 1 is 0, needed at least 1"),
        # at the edge, within the error of the mean over epochs
        (lambda p: replace(p, cosine=0.32, cosine_se=0.02) if p.rate > 0.2 else p, "largest |cos| beyond 2/3 is 0.32"),
        (lambda p: replace(p, error=0.95, error_se=0.01) if p.rate > 0.2 else p, "error beyond 2/3 is 0.95"),
        # all ReLUs of a layer are silent: no regime at all
        (lambda p: replace(p, cosine=1.0, dead=True) if p.rate > 0.1 else p, "the gradient is exactly 0 at ELR 0.128"),
    ],
)
def test_one_draw_at_the_edge_is_undecided(change, said) -> None:
    answer, evidence = verdict([change(p) for p in sphere()])
    assert answer == "undecided"
    assert said in evidence


def test_a_seed_that_the_others_contradict_is_one_draw() -> None:
    def stuck(points: list[Point]) -> list[Point]:
        return [replace(p, cosine=0.9) if p.rate > 0.2 else p for p in points]

    assert verdict(sphere(), stuck(sphere(1)))[0] == "undecided"
    assert verdict(stuck(sphere()), stuck(sphere(1)))[0] == "fails"


@pytest.mark.parametrize(
    ("apart", "expected"), [(1.0, "holds"), (2.0, "undecided"), (4.0, "undecided"), (8.0, "fails")]
)
def test_boundaries_over_seeds(apart, expected) -> None:
    """Each is known to a factor 2 of the grid: middles 4 apart may be anything between 1 and 16."""
    answer, evidence = verdict(sphere(), sphere(1, apart))
    assert answer == expected
    assert ("boundary 1/2 over seeds" in evidence) == (expected != "holds")


def test_a_grid_that_ends_early_is_undecided() -> None:
    assert verdict(sphere()[:7])[0] == "undecided"


def test_an_intermittent_run_is_no_jump() -> None:
    band = [replace(p, share=0.3) if p.rate == 8e-3 else p for p in sphere()]
    # 1.6e-2 is a factor 4 from the last that converges; from the band (loss 0.5) the loss rises by 3 only
    assert (jump(band).ratio, jump(band).most) == pytest.approx((3, 1000))
    assert verdict(band)[0] == "undecided"
    losses = {8e-3: 2e-3, 1.6e-2: 6e-3}
    gradual = [replace(p, loss=losses.get(p.rate, p.loss)) for p in band]
    assert (jump(gradual).ratio, jump(gradual).most) == pytest.approx((3, 4))
    # whatever the band counts as
    assert verdict(gradual, [replace(p, seed=1) for p in gradual])[0] == "fails"
    assert verdict(gradual)[0] == "undecided"  # one draw
    assert math.isnan(jump([p for p in sphere() if p.share < 0.5]).ratio)


def test_visible_regimes() -> None:
    def answer(points: list[Point]) -> str:
        sheet = Sheet()
        visible(sheet, "net", points)
        return sheet.result().verdict

    assert answer(sphere()) == "holds"
    # no regime 2: it may lie between two rates far apart, not between neighbours
    gap = [p for p in sphere() if p.share < 0.5 or p.error > 0.85]
    assert answer(gap) == "undecided"
    assert answer([replace(p, rate=p.rate / 6) if p.error > 0.85 else p for p in gap]) == "fails"
    # the grid ends before regime 1, or before regime 3
    assert answer([p for p in sphere() if p.share > 0.5]) == "undecided"
    assert answer([p for p in sphere() if p.error < 0.85]) == "undecided"
    # one run out of order is one draw, two are none
    late = [replace(sphere()[0], rate=elr) for elr in (1.0, 2.0)]
    assert answer([*sphere(), late[0]]) == "undecided"
    assert answer([*sphere(), *late]) == "fails"
    # a rate in the intermittent band is left out
    assert answer([replace(p, share=0.3) if p.rate == 4e-3 else p for p in sphere()]) == "holds"
    # a rate so low that the run has not arrived yet
    slow = Point(1e-4, 0, 0.04, 0.0, 1.0, 1.0, 0.9)
    assert answer([slow, *sphere()]) == "undecided"
    assert answer([slow, replace(slow, rate=2e-4), *sphere()]) == "fails"
    assert answer([replace(slow, falling=True), *sphere()]) == "holds"
    # not a number counts as chance
    assert answer([*sphere(), Point(1.0, 0, math.nan, math.nan, math.nan, 1.0, 0.9)]) == "holds"


def test_spectrum() -> None:
    def answer(*seeds: list[float], error: float = 0.01) -> str:
        sheet = Sheet()
        rows = [[Estimate(math.log(r), error) for r in ratios] for ratios in seeds]
        spectrum_of_minima(sheet, "net", [10.0**k for k in range(len(rows[0]))], rows)
        return sheet.result().verdict

    assert answer([900, 800, 820, 600]) == "holds"
    assert answer([900, 800, 600]) == answer([600, 800, 900]) == "undecided"  # too few ELRs
    assert answer([900, 950, 1000, 600]) == "fails"  # two inversions
    assert answer([900, 950, 960, 600]) == "undecided"  # the second one may be none
    assert answer([900, 800, 795, 790, 500]) == "undecided"  # two of the falls may be none
    # compared seed by seed: what all seeds have in common does not scatter
    assert answer([900, 800, 700, 600], [1800, 1600, 1400, 1200]) == "holds"
    assert answer([900, 950, 1000, 600], [1000, 800, 700, 500]) == "undecided"
    assert answer([900, 800, math.nan, 600]) == "undecided"
    assert answer([900, 850, 800, 750]) == "fails"  # nearly equal
    assert answer([600, 800, 700, 900]) == "fails"  # the other way round
    assert answer([900, 800, 820, 680], error=0.1) == "undecided"


def test_ratio() -> None:
    def answer(*logs: float, error: float = 0.01) -> str:
        sheet = Sheet()
        ratio_is_one(sheet, "ratio", [Estimate(x, error) for x in logs], 0.1)
        return sheet.result().verdict

    assert answer(0.02, -0.03) == "holds"
    assert answer(0.5, 0.52) == "fails"
    assert answer(0.3, -0.3) == "undecided"  # seeds disagree
    assert answer(0.05, 0.05, error=0.2) == "undecided"  # none is known
    assert combine([Estimate(1.0, 0.3), Estimate(1.0, 0.4)]).error == pytest.approx(0.25)


def test_leaving() -> None:
    def landing(ratios: list[float], barrier: float) -> Landing:
        elrs = (1e-4, 2e-4, 4e-4)
        logs = {elr: Estimate(math.log(r), 0.01) for elr, r in zip(elrs, ratios)}
        return Landing(logs, {(1e-4, 2e-4): 0.0, (1e-4, 4e-4): barrier})

    def answer(check, low: Landing, high: Landing, seeds: int = 1) -> str:
        sheet = Sheet()
        check(sheet, [low] * seeds, [high] * seeds, *([1000] if check is connected else []))
        return sheet.result().verdict

    alike, apart = landing([500, 510, 490], 0.1), landing([900, 600, 400], 20.0)
    assert answer(one_curvature, alike, apart) == answer(connected, alike, apart) == "holds"
    assert answer(one_curvature, apart, alike) == answer(connected, apart, alike, seeds=2) == "fails"
    assert answer(one_curvature, apart, landing([900, 500, 300], 30.0)) == "fails"  # the low start spreads too
    assert answer(connected, landing([500, 510, 490], 5.0), apart, seeds=2) == "fails"  # alike, but not connected
    # the high start is connected better, or so by a few images
    assert answer(connected, landing([500, 510, 490], 5.0), landing([900, 600, 400], 0.0), seeds=2) == "fails"
    assert answer(connected, landing([500, 510, 490], 5.0), landing([900, 600, 400], 0.0)) == "undecided"  # one draw
    assert answer(connected, alike, landing([900, 600, 400], 0.0)) == "undecided"
    assert answer(connected, alike, landing([900, 600, 400], 0.5)) == "undecided"
    assert answer(connected, landing([500, 510, 490], 0.6), apart) == "undecided"  # connected within half a point?
    assert answer(connected, landing([1, 1, 1], 0.0), landing([3, 2, 1], 0.0)) == "undecided"
    # spreads that differ by less than their errors tell nothing, and without errors a single seed neither
    assert answer(one_curvature, alike, landing([510, 500, 490], 0.1)) == "undecided"
    unsure = Landing({elr: Estimate(e.value, math.nan) for elr, e in apart.logs.items()}, apart.barriers)
    assert answer(one_curvature, alike, unsure) == "undecided"
    assert answer(one_curvature, alike, unsure, seeds=3) == "holds"
    assert answer(one_curvature, alike, landing([math.nan, 400, 300], 0.1)) == "undecided"
    assert alike.spread.value == pytest.approx(510 / 490)


def test_convexity() -> None:
    valley, rough = Region(-0.2, 0.0), Region(0.4, 0.6)

    def answer(low: list[Region], high: list[Region]) -> str:
        sheet = Sheet()
        local_convexity(sheet, low, high)
        return sheet.result().verdict

    assert answer([valley] * 3, [rough] * 3) == "holds"
    assert answer([valley] * 2, [rough] * 2) == answer([rough] * 2, [valley] * 2) == "undecided"  # too few seeds
    assert answer([valley] * 3, [rough, valley, rough]) == "undecided"  # one draw
    assert answer([valley, Region(-0.1, 0.1), valley], [rough] * 3) == "undecided"
    assert answer([valley] * 3, [valley] * 3) == answer([rough] * 3, [rough] * 3) == "fails"


def test_unconnected_minima() -> None:
    def answer(*heights: float) -> str:
        sheet = Sheet()
        unconnected_pairs(sheet, range(len(heights)), {(1e-3, 4e-3): heights}, 512)
        return sheet.result().verdict

    assert answer(8.6, 5.9) == answer(4.0) == "holds"
    assert answer(0.0, 0.0) == "fails"
    assert answer(0.0) == answer(8.6, 0.0) == "undecided"  # one draw
    assert answer(1.0, 8.6) == "undecided"  # five images of 512
    assert answer(math.nan, 8.6) == "undecided"


def test_the_point_of_a_run_knows_its_errors() -> None:
    rng = np.random.default_rng(0)
    series = {
        ("online", "total", "loss"): np.full(40, 0.1),
        ("online", "total", "error"): 0.9 + 0.01 * rng.normal(size=40),
        ("online", "total", "cosine"): 0.2 + 0.1 * rng.normal(size=40),
        ("online", "total", "eg"): np.full(40, 0.0),
        ("online", "total", "ess"): np.full(40, 0.0),
    }
    found = point(made_run(series, elr=1.0, loss="mse"), 1.0)
    assert found.dead
    assert found.error_se == pytest.approx(0.01 / math.sqrt(20), rel=0.5)
    assert found.cosine_se == pytest.approx(0.1 / math.sqrt(20), rel=0.5)
    series["online", "total", "eg"] = np.r_[1.0, np.zeros(38), 1.0]
    assert not point(made_run(series, elr=1.0, loss="mse"), 1.0).dead

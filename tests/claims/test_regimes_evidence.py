"""Every conclusion about the regimes can come out otherwise: made-up numbers, no training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scaleinv.analysis.statistics import Estimate
from scaleinv.claims.regimes_evidence import (
    Landing,
    Point,
    Region,
    boundaries,
    combine,
    connected,
    jump,
    local_convexity,
    one_curvature,
    ratio_is_one,
    spectrum_of_minima,
    three_regimes,
    visible,
)
from scaleinv.claims.registry import Sheet


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


def test_three_regimes_hold() -> None:
    assert verdict(sphere(), sphere(1, 2.0))[0] == "holds"
    found = boundaries(sphere())
    assert found.first == (4e-3, 8e-3)
    assert found.second == (3.2e-2, 6.4e-2)
    assert jump(sphere()) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # the loss rises by less than a factor 10 at the boundary
        (lambda p: replace(p, loss=3e-3) if p.elr == 8e-3 else p, "loss over a factor 3"),
        # nothing between convergence and chance
        (lambda p: replace(p, error=0.9) if 8e-3 <= p.elr < 6e-2 else p, "ELRs in regime 2"),
        # chance, but the weights hardly move
        (lambda p: replace(p, cosine=0.99) if p.elr > 0.2 else p, r"\|cos\| beyond 2/3"),
    ],
)
def test_three_regimes_fail(change, said) -> None:
    answer, evidence = verdict([change(p) for p in sphere()])
    assert answer == "fails"
    assert said.replace("\\", "") in evidence


def test_boundaries_far_apart_over_seeds_fail() -> None:
    answer, evidence = verdict(sphere(), sphere(1, 4.0))
    assert answer == "fails"
    assert "boundary 1/2 over seeds" in evidence


def test_a_grid_that_ends_early_is_undecided() -> None:
    assert verdict(sphere()[:7])[0] == "undecided"


def test_an_intermittent_run_is_no_jump() -> None:
    band = [replace(p, share=0.3) if p.elr == 8e-3 else p for p in sphere()]
    # 1.6e-2 is a factor 4 from the last that converges; from the band (loss 0.5) the loss rises by 3 only
    assert jump(band) == pytest.approx(3)
    assert jump([p for p in sphere() if p.share < 0.5]) == 1.0


def test_visible_regimes() -> None:
    def answer(points: list[Point]) -> str:
        sheet = Sheet()
        visible(sheet, "net", points)
        return sheet.result().verdict

    assert answer(sphere()) == "holds"
    assert answer([p for p in sphere() if p.share < 0.5 or p.error > 0.85]) == "fails"
    assert answer([*sphere(), replace(sphere()[0], elr=1.0)]) == "fails"
    # a rate in the intermittent band is left out
    assert answer([replace(p, share=0.3) if p.elr == 4e-3 else p for p in sphere()]) == "holds"
    # a rate so low that the run has not arrived yet
    slow = Point(1e-4, 0, 0.04, 0.0, 1.0, 1.0, 0.9)
    assert answer([slow, *sphere()]) == "fails"
    assert answer([replace(slow, falling=True), *sphere()]) == "holds"
    # not a number counts as chance
    assert answer([*sphere(), Point(1.0, 0, math.nan, math.nan, math.nan, 1.0, 0.9)]) == "holds"


def test_spectrum() -> None:
    def answer(ratios: list[float], error: float = 0.01) -> str:
        sheet = Sheet()
        spectrum_of_minima(
            sheet, "net", [10.0**k for k in range(len(ratios))], [Estimate(math.log(r), error) for r in ratios]
        )
        return sheet.result().verdict

    assert answer([900, 800, 820, 600]) == "holds"
    assert answer([900, 800, 600]) == "fails"  # too few ELRs
    assert answer([900, 950, 960, 600]) == "fails"  # two inversions
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
        check(sheet, [low] * seeds, [high] * seeds)
        return sheet.result().verdict

    alike, apart = landing([500, 510, 490], 0.1), landing([900, 600, 400], 20.0)
    assert answer(one_curvature, alike, apart) == answer(connected, alike, apart) == "holds"
    assert answer(one_curvature, apart, alike) == answer(connected, apart, alike) == "fails"
    assert answer(one_curvature, apart, landing([900, 500, 300], 30.0)) == "fails"  # the low start spreads too
    assert answer(connected, landing([500, 510, 490], 5.0), apart) == "fails"  # alike, but not connected
    assert answer(connected, alike, landing([900, 600, 400], 0.0)) == "fails"  # the high start is connected better
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
    assert answer([valley] * 2, [rough] * 2) == "fails"  # too few seeds
    assert answer([valley] * 3, [rough, valley, rough]) == "fails"
    assert answer([valley, Region(-0.1, 0.1), valley], [rough] * 3) == "fails"

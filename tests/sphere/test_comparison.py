"""The page that compares Sphere with the published forms says what a short run says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from benchmarks import sphere_comparison

PAGE = Path(__file__).parents[2] / "docs" / "results" / "sphere.md"
#: forms that differ, and why the page says so
DIFFERENT = {
    ("15 lines of one's own, momentum 0.9", "granularity='tensor'"),
    ("geoopt RiemannianSGD, momentum 0.9", "granularity='tensor'"),
    ("geoopt, momentum 0.9, averages begun at zero", "granularity='tensor'"),
    ("EDM2 with its eps = 1e-4", "granularity='row', an ELR a matrix"),
    ("hyperball, Adam", "normalise_update=True"),
    ("row-wise oblique SGD", "granularity='row', radius=1"),
}


def told() -> dict[tuple[str, str], str]:
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    return {(theirs, ours): verdict for theirs, ours, verdict in rows}


def test_the_page_has_all_rows() -> None:
    assert len(told()) == 13
    assert {key for key, verdict in told().items() if verdict != "same"} <= DIFFERENT


@pytest.mark.slow
def test_a_short_run_says_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphere_comparison, "STEPS", 5)
    found = sphere_comparison.rows()
    assert len(found) == 13 - 3 * (importlib.util.find_spec("geoopt") is None)
    for row in found:
        key = (row.theirs, row.ours)
        assert key in told()
        if key not in DIFFERENT:
            assert row.distance < sphere_comparison.SAME, row
        elif told()[key] != "same":
            assert row.distance > 1e-13, row
        assert row.losses[0] == pytest.approx(row.losses[1], rel=1e-2)

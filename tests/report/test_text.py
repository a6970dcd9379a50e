"""Numbers and names for people."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.plots.drawing import MOST_POINTS, spread, thin
from scaleinv.report.landscape_section import _table
from scaleinv.report.landscape_words import landscape_answers
from scaleinv.report.shared_sections import command_line
from scaleinv.text import (
    clean,
    duration,
    elr_digits,
    elr_text,
    esc,
    number,
    numbers_whole,
    plain,
    short,
    show,
    visible,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "0.0123"),
        (0.00012, "1.2e-4"),
        (3500, "3 500"),
        (1.2e6, "1.2e6"),
        (999.6, "1 000"),
        (99.96, "100"),
        (0, "0"),
        (-0.5, "-0.5"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        ("text", "–"),
        (True, "–"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert show(value) == text


@given(st.floats(1e-12, 1e12))
def test_a_shown_number_reads_back_within_its_digits(x: float) -> None:
    assert float(show(x).replace(" ", "")) == pytest.approx(x, rel=6e-3)


@pytest.mark.parametrize(
    ("elr", "text"), [(1e-4, "1e-4"), (3.16e-3, "3.2e-3"), (0.1, "0.1"), (0.32, "0.32"), (2, "2"), (1e5, "1e5")]
)
def test_elrs_as_typed(elr: float, text: str) -> None:
    assert elr_text(elr) == text
    assert float(text) == pytest.approx(elr, rel=0.05)


def test_different_elrs_look_different() -> None:
    assert elr_digits([1e-3, 2e-3]) == 2
    assert elr_digits([1.001e-3, 1.002e-3, math.nan]) == 4
    assert elr_digits([]) == 2


@given(st.text())
def test_clean_text_goes_into_utf8_and_xml(text: str) -> None:
    from xml.etree import ElementTree

    cleaned = clean(text)
    cleaned.encode("utf-8")
    element = ElementTree.fromstring(f"<a b='{esc(text)}'>{esc(text)}</a>")
    assert element.text is None or element.text == cleaned


def test_what_a_terminal_obeys_or_hides_is_shown() -> None:
    assert clean("a\x1b[2J\x07\x9b\x7f\r\x00") == r"a\x1b[2J\x07\x9b\x7f\x0d\x00"
    assert clean("\u202ea\u2066b\u200f\u061c\u2028\ufeff\udcff\U000e0041") == (
        r"\u202ea\u2066b\u200f\u061c\u2028\ufeff\udcff\U000e0041"
    )
    kept = "Grüße, 漢字, שלום, 👩\u200d🔬\t\n\ufffd"  # scripts, a joined emoji, a tab and a new line stay
    assert visible(kept) == clean(kept) == kept


def test_short_names() -> None:
    assert short("a" * 40, 11) == "aaaaa…aaaaa"
    assert short("a\nb") == "a b"


def test_small_words() -> None:
    assert plain({"a": [1, 0.5, None], "b": True}) == "a 1, 0.5, –; b yes"
    assert plain(list(range(20))).endswith("(20 in all)")
    assert [duration(s) for s in (12.5, 200, 7500, math.nan)] == ["12.5 s", "3 min 20 s", "2 h 5 min", "–"]
    assert number("1") != number("1")  # NaN: text is not a number
    assert numbers_whole("up to 2.3e-2; 0.5") == 'up to <span class="whole">2.3e-2</span>; 0.5'
    assert command_line(["/x y/__main__.py", "report", "a b"]) == "python -m scaleinv report 'a b'"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_labels_keep_their_distance_and_order(places: list[float]) -> None:
    gap = 0.03
    moved = spread(places, gap)
    ordered = [m for _, m in sorted(zip(places, moved))]
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(sorted(moved)))
    assert all(b >= a for a, b in pairwise(ordered))
    assert min(moved) >= -1e-9
    assert max(moved) <= 1 + 1e-9


def test_thinning_keeps_ends_extremes_and_gaps() -> None:
    x = np.arange(20_000)
    y = np.sin(x / 500.0)
    y[7_777], y[12_345] = 50.0, math.nan
    tx, ty = thin(x, y)
    assert tx.size <= MOST_POINTS + 5
    assert (tx[0], tx[-1]) == (0, 19_999)
    assert np.nanmax(ty) == 50.0
    assert np.isnan(ty).any()
    assert np.all(np.diff(tx) > 0)
    np.testing.assert_array_equal(ty, y[tx])
    assert thin(x[:600], y[:600])[0].size == 600


def test_the_landscape_writes_rates_as_the_rest_of_the_page() -> None:
    """As they are typed, with as many digits as tell them apart."""
    rates = (0.00281, 0.00283, 0.43)
    numbers = dict.fromkeys(("loss", "eg", "ratio", "trace", "stability"), 1.0)
    measured = [{"key": {"rates": [rate]}, "seed": 0, "lambda_1": float(k), **numbers} for k, rate in enumerate(rates)]
    (said,) = landscape_answers("ELR", {"sharpness": measured})
    assert said.startswith(
        "The flattest end is that of ELR 2.81e-3 (largest curvature 0), the sharpest that of 0.43 (2);"
    )
    _, rows = _table("ELR", "sharpness", measured)
    assert [row[0] for row in rows] == ["2.81e-3", "2.83e-3", "0.43"]

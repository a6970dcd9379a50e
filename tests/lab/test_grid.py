from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.lab.evaluate import evaluation_epochs
from scaleinv.studies.grid import parse_grid


def test_ranges_and_lists() -> None:
    assert parse_grid("1e-4:1:5") == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert parse_grid(" 0.1 , 0.2,") == [0.1, 0.2]
    assert parse_grid("0.1,0.1:10:3,10") == [0.1, 1.0, 10.0]
    assert parse_grid("10:0.1:3") == [10.0, 1.0, 0.1]


@given(low=st.floats(1e-12, 1e11, allow_nan=False), ratio=st.floats(1.5, 1e6), count=st.integers(2, 60))
def test_log_spacing(low: float, ratio: float, count: int) -> None:
    high = low * ratio
    values = parse_grid(f"{low!r}:{high!r}:{count}")
    assert len(values) == count
    assert (values[0], values[-1]) == (low, high)
    steps = [math.log(b / a) for a, b in itertools.pairwise(values)]
    # six significant digits of each value
    assert max(abs(step - math.log(ratio) / (count - 1)) for step in steps) < 2.1e-5


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "0", "-1", "nan", "inf", "a", "1,b", "1:2", "1:2:3:4", "1:2:1", "1:2:0", "1:2:-3", "1:2:x", "1:2:2.5",
        "1,,2", ",1", "1,2,,", "0:1:3", "-1:1:3", "nan:1:3", "1:inf:3", "1:1:3", "1:1.00001:100", "1:2:100000000",
    ],
)  # fmt: skip
def test_refusals(text: str) -> None:
    with pytest.raises(UserError, match=r"^elr ") as caught:
        parse_grid(text)
    assert "\n" not in str(caught.value)
    assert text.split(",")[-1] in str(caught.value)


def test_zero_where_it_makes_sense() -> None:
    assert parse_grid("0,1e-3:1e-1:3", "weight-decay", zero=True) == [0.0, 0.001, 0.01, 0.1]


@given(epochs=st.integers(1, 5000), every=st.none() | st.integers(1, 6000))
def test_evaluation_epochs(epochs: int, every: int | None) -> None:
    chosen = evaluation_epochs(epochs, every)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, epochs)
    if every is not None:
        assert set(chosen) == {*range(0, epochs, every), epochs}
    else:
        assert all(b <= 2 * a for a, b in itertools.pairwise(chosen[1:]))
        assert len(chosen) <= 4 + 2 * math.log2(epochs)

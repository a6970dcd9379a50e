"""The one definition of a break-down: what it sees, what it does not, and that it needs no loss."""

import math

import numpy as np
import pytest
from tests.analysis.series import balanced, breaking, columns

from scaleinv.analysis.periods import find_periods
from scaleinv.theory.breakdowns import Definition, LogRows, break_downs
from scaleinv.theory.breakdowns.find import gradient_between
from scaleinv.theory.breakdowns.turning import running_median

LR, WD = 0.1, 0.01


@pytest.fixture(scope="module")
def known():
    return breaking(6000, LR, WD)


def rows_of(series, every=1, **change):
    n = np.arange(0, len(series["loss"]), every)
    time = -math.log1p(-LR * WD) * n
    found = LogRows(n, series["rho"][n] ** 2, series["loss"][n], series["eg"][n], time)
    return found._replace(**change)


@pytest.mark.parametrize("every", [1, 5, 30])
def test_it_is_what_periods_counts(known, every):
    rows = rows_of(known, every)
    series = {k: v[rows.step] if np.ndim(v) else v for k, v in columns(known).items()}
    found = find_periods(**series, step=rows.step)
    assert [int(rows.step[rise.row]) for rise in break_downs(rows)] == [e.step for e in found.break_downs]
    assert len(found.break_downs) == len(known["bursts"])


def test_without_a_loss_the_gradient_decides(known):
    steps = [rise.row for rise in break_downs(rows_of(known, loss=None))]
    assert steps == pytest.approx(known["bursts"], abs=2)
    assert break_downs(rows_of(known, loss=None, eg=None)) == []
    assert break_downs(rows_of(known, loss=None, rho_sq=None)) == []


def test_without_a_gradient_the_loss_has_to_rise_tenfold(known):
    assert len(break_downs(rows_of(known, eg=None))) == len(known["bursts"])
    assert break_downs(rows_of(known, eg=None, loss=known["loss"] ** 0.2)) == []


def test_a_rise_without_a_spike_is_none():
    series = balanced(6000, LR, WD)
    assert break_downs(rows_of(series)) == []
    assert len(break_downs(rows_of(series), Definition(plain=True))) > 3


@pytest.mark.parametrize("every", [5, 20, 50])
def test_the_norm_tells_the_gradient_between_rows(every):
    """Against the RMS of the exact effective gradients of plain SGD, up to the constant factor."""
    series = balanced(6000, LR, WD, spread=0.3)
    between = gradient_between(rows_of(series, every))
    eg = series["eg"][: 6000 // every * every].reshape(-1, every)
    exact = np.log(np.sqrt(np.mean(eg**2, axis=1)))[: len(between) - 1]
    error = between[1:] - exact - np.median(between[1:] - exact)
    assert np.max(np.abs(error)) < 0.1


def test_where_it_cannot_tell_it_says_nothing(known):
    assert gradient_between(rows_of(known)) is None  # every step is known
    assert gradient_between(rows_of(known, 10, time=None)) is None
    assert gradient_between(rows_of(known, 10, exact=False)) is None
    assert gradient_between(rows_of(known, 150)) is None  # further apart than a break-down is long


@pytest.mark.parametrize("width", [1, 2, 3, 11, 55])
def test_running_median_against_scipys(width):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = np.random.default_rng(0).normal(size=70_000)
    wanted = ndimage.median_filter(x, 2 * (width // 2) + 1, mode="nearest") if width > 1 else x
    assert (running_median(x, width) == wanted).all()

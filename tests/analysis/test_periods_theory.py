"""Books, bounds, predictions and intervals of periods, against recursions where they are known."""

import math

import numpy as np
import pytest
from tests.analysis.series import balanced, breaking, columns

from scaleinv.analysis.periods import bounds_of, envelope, find_periods, time_to_jump
from scaleinv.analysis.periods.books import unexplained
from scaleinv.analysis.periods.interval import mean_interval, next_break_down
from scaleinv.analysis.periods.log import make_log
from scaleinv.theory import lobacheva2021
from scaleinv.theory.simulators import recursion

LR, WD = 0.1, 0.01


def test_books_close_on_the_recursion():
    """What decay takes, the gradients give; the log rises at break-downs are all of it where they rest in between."""
    series = breaking(20_000, LR, WD)
    books = find_periods(**columns(series)).books
    assert books.error == pytest.approx(0, abs=1e-9)
    assert books.in_events == pytest.approx(1, abs=0.01)
    assert books.taken == pytest.approx(2 * (20_000 - 2000) * -math.log1p(-LR * WD), rel=2e-3)
    assert books.rise_sum == pytest.approx(1, abs=0.05)  # the log begins and ends within a period
    mean_time = np.diff(series["bursts"]).mean() * LR * WD
    # but for the 20 steps of the burst, in which decay takes as well
    assert books.half_mean_rise == pytest.approx(mean_time - 20 * LR * WD, rel=0.01)


def test_books_of_an_equilibrium_are_not_in_events():
    found = find_periods(**balanced(20_000, LR, WD))
    assert found.books.in_events == 0
    assert found.books.error == pytest.approx(0, abs=1e-9)


def test_wrong_rates_show_in_the_books():
    series = columns(breaking(6000, LR, WD))
    right = make_log(**series)
    assert unexplained(right) == (pytest.approx(0, abs=1e-9), None)
    wrong = make_log(**{**series, "wd": 3 * WD})
    share, begin = unexplained(wrong)
    assert share == pytest.approx(2 / 3, abs=0.05)
    assert begin == 0
    found = find_periods(**{**series, "wd": 3 * WD})
    assert any("does not follow SGD's recursion" in sentence for sentence in found.evidence)


def test_a_norm_that_leaves_the_recursion_late_is_said():
    series = columns(balanced(6000, LR, WD))
    rho = series["rho"].copy()
    rho[4000:] *= np.exp(-2e-3 * np.arange(2000))  # eps of the norm layers, say: the norm shrinks faster than it can
    found = find_periods(**{**series, "rho": rho, "lr": LR, "wd": WD})
    assert any("From step 4000 on the norm departs" in sentence for sentence in found.evidence)


@pytest.mark.parametrize(("eg", "product"), [(0.5, 2e-4), (2.0, 1e-3)])
def test_times_to_a_jump_on_constant_gradients(eg, product):
    """t_min and t_slowest meet the recursion's own first crossing to 0.1 % from every step before it."""
    lr = 0.1
    wd = product / lr
    delta = 0.2 * product
    start = 40 * lobacheva2021.kappa(lr, wd) * eg
    path = recursion.run(start, lr, wd, recursion.constant(eg), int(6 / product))[:, 0]
    log = make_log(loss=np.ones(len(path)), rho=np.sqrt(path), eg=np.full(len(path), eg), lr=lr, wd=wd)
    bounds = bounds_of(log, 0, len(log))
    assert (bounds.low, bounds.high) == (eg, eg)
    t_min, t_max, observed = time_to_jump(log, 0, int(1 / product), bounds, delta)
    known = np.isfinite(observed)
    assert known.all()
    assert np.abs(t_min / observed - 1).max() < 1e-3
    assert np.all(t_max >= observed * (1 - 1e-3))


def test_times_bound_random_gradients_and_miss_where_the_bounds_are_wrong():
    lr, wd, low, high = 0.1, 2e-3, 0.5, 2.0
    delta = 0.2 * lr * wd * (low / high) ** 2
    start = 40 * lobacheva2021.kappa(lr, wd) * high
    steps = int(1.2 * lobacheva2021.t_max(start, low, high, lr, wd, delta))
    path, eg = recursion.run(start, lr, wd, recursion.uniform(low, high, seed=3), steps, keep_eg=True)
    log = make_log(loss=np.ones(steps), rho=np.sqrt(path[:-1, 0]), eg=eg[:, 0], lr=lr, wd=wd)
    bounds = bounds_of(log, 0, steps)
    assert low <= bounds.least < bounds.low < bounds.high < bounds.largest <= high
    t_min, t_max, observed = time_to_jump(log, 0, 2000, bounds, delta)
    assert np.all(t_min <= observed * 1.001 + 1)
    assert np.all(t_max >= observed * 0.999 - 1)
    wrong = bounds_of(make_log(loss=np.ones(steps), rho=np.ones(steps), eg=3 * eg[:, 0]), 0, steps)
    assert time_to_jump(log, 0, 100, wrong, 9 * delta)[0].max() < observed[0]
    low_wrong = bounds_of(make_log(loss=np.ones(steps), rho=np.ones(steps), eg=0.2 * eg[:, 0]), 0, steps)
    assert np.all(time_to_jump(log, 0, 100, low_wrong, delta)[0] > observed[:100])  # the check can fail


def test_the_envelope_holds_with_extremes_and_can_fail_with_others():
    log = make_log(**balanced(5000, LR, WD))
    own = bounds_of(log, 0, 5000)
    assert envelope(log, 0, 5000, own, extremes=True).inside == 1
    percent = envelope(log, 0, 5000, own)
    assert 0.96 <= percent.inside <= 0.99
    other = bounds_of(make_log(**{**balanced(5000, LR, WD), "eg": 10 * log.eg}), 0, 5000)
    assert envelope(log, 0, 5000, other).inside < 0.05
    assert list(percent.step[:2]) == [0, 1]


def test_predictions_use_the_period_before():
    series = breaking(12_000, LR, WD)
    found = find_periods(**columns(series))
    assert len(found.predictions) == len(found.periods) - 1
    one = found.predictions[0]
    before = found.periods[0]
    eg = series["eg"][before.start : before.end]
    assert one.bounds.low == pytest.approx(np.percentile(eg, 1))
    assert one.bounds.high == pytest.approx(np.percentile(eg, 99))
    assert one.holds_min == 1  # equal periods: what held in one holds in the next
    assert found.envelopes[0].inside > 0.95
    # the jump of a break-down seen from every step of phase B, at the step the burst begins
    assert one.step[0] + one.observed[0] == pytest.approx(found.periods[1].end, abs=2)
    assert np.all(np.diff(one.observed) == -1)


def test_theorem_1_on_an_equilibrium():
    found = find_periods(**balanced(20_000, LR, WD))
    e = found.equilibrium
    assert e.condition
    assert e.inside == 1
    assert e.inside_extreme == 1
    assert e.low == pytest.approx(lobacheva2021.resting_rho_sq(e.bounds.low, LR, WD))
    assert 0 < e.fills < 0.2
    assert e.balance == pytest.approx(1, abs=0.02)


def test_theorem_1_says_where_its_condition_fails():
    found = find_periods(**columns(breaking(12_000, LR, WD)))
    assert not found.equilibrium.condition
    assert any("condition 2 lr wd L <= l fails" in sentence for sentence in found.evidence)


def test_no_theory_without_what_it_needs():
    series = columns(breaking(6000, LR, WD))
    for missing in ("eg", "wd"):
        found = find_periods(**{k: v for k, v in series.items() if k != missing})
        assert found.equilibrium is None
        assert found.predictions == ()
        assert found.envelopes == ()
        assert math.isnan(found.books.given_measured)


@pytest.mark.parametrize(("cv", "count"), [(0.5, 5), (0.5, 20), (0.9, 5), (0.9, 12), (0.9, 40)])
def test_confidence_intervals_cover_the_mean(cv, count):
    """Gamma intervals of the irregularity seen on networks: 95 % nominal, at least 89 % of 800 draws (5 s.e. below)."""
    shape = 1 / cv**2
    draws = np.random.default_rng([count, int(10 * cv)]).gamma(shape, 100 / shape, (800, count))
    found = [mean_interval(row.tolist()) for row in draws]
    covered = np.mean([f.low <= 100 <= f.high for f in found])
    assert 0.89 <= covered <= 0.99
    if count >= 12:  # fewer irregular intervals say little, and the interval says so
        assert np.median([f.high for f in found]) < 100 * (1 + 6 / math.sqrt(count))


def test_intervals_too_few_for_a_confidence_interval():
    assert math.isnan(mean_interval([]).mean)
    two = mean_interval([10.0, 20.0])
    assert two.mean == 15
    assert math.isnan(two.low)
    assert mean_interval([5.0] * 4).high == 5.0


def test_the_next_break_down():
    assert next_break_down([], 10) is None
    few = next_break_down([100.0, 120.0], 300)
    assert (few.earliest, few.latest) == (pytest.approx(-math.log(0.9) * 110), pytest.approx(math.log(10) * 110))
    many = next_break_down(list(range(100, 1100, 100)), 450)
    assert (many.earliest, many.latest) == (pytest.approx(100), pytest.approx(500))

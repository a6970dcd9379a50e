"""Periods of logs whose periods are known."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.series import balanced, breaking, columns

from scaleinv.analysis.periods import Definition, find_periods
from scaleinv.analysis.periods.interval import Next
from scaleinv.analysis.periods.sentences import expected
from scaleinv.errors import UserError
from scaleinv.theory.breakdowns.turning import centred_mean, running_median, turning_points
from scaleinv.theory.simulators import recursion, toy

LR, WD = 0.1, 0.01  # lr wd = 1e-3


@pytest.fixture(scope="module")
def known():
    return breaking(12_000, LR, WD)


@pytest.fixture(scope="module")
def found(known):
    return find_periods(**columns(known))


def test_every_break_down_is_found_at_its_step(known, found):
    assert found.verdict == "periodic"
    assert [e.step for e in found.break_downs] == pytest.approx(known["bursts"], abs=1)
    assert len(found.periods) == len(known["bursts"]) - 1
    # log(4) / (2 lr wd) steps of fall and 20 of burst
    assert found.mean_interval == pytest.approx(math.log(4) / (2 * LR * WD) + 20, rel=0.01)
    low, high = found.confidence
    assert low <= found.mean_interval <= high
    assert found.unit == pytest.approx(1 / (LR * WD), rel=1e-3)
    assert all(p.time == pytest.approx(p.length * LR * WD, rel=1e-3) for p in found.periods)
    assert [p.settled for p in found.periods] == [e.step * LR * WD >= 2 for e in found.break_downs[:-1]]


def test_each_period_has_its_phases(known, found):
    for period in found.periods:
        burst, following = period.start, period.end
        assert period.a[1] == pytest.approx(burst + 20, abs=1)  # the norm is largest when the burst ends
        assert period.b == (period.a[1], period.c[0])
        assert period.c[0] == pytest.approx(following - 2, abs=1)  # the loss rises two steps before the gradient
        assert period.elr == pytest.approx(LR / 1.0, rel=0.01)
        assert period.log_rise == pytest.approx(math.log(4), rel=0.1)
        assert period.large
        assert 5e-5 < period.min_loss < 2e-4
        # half-way of the norm's rise is half-way through the burst
        assert period.lead == pytest.approx(12, abs=2)
    event = found.break_downs[1]
    assert event.lead_minimum == pytest.approx(2, abs=1)
    assert event.free_fall == pytest.approx(1.0, abs=0.05)
    assert event.eg_factor > 1000
    assert event.loss_factor > 1000


def test_spans_tile_the_log(known, found):
    assert found.spans[0].start == 0
    assert found.spans[-1].end == len(known["loss"])
    for before, after in pairwise(found.spans):
        assert before.end == after.start
        assert before.phase != after.phase
    assert "".join(s.phase for s in found.spans).replace("CAB", "") in ("", "B", "AB", "CA", "BC", "BCA")
    assert found.phase == found.spans[-1].phase


def test_next_break_down_is_within_the_forecast():
    whole = breaking(12_000, LR, WD)
    cut = whole["bursts"][-1] - 200
    found = find_periods(**{k: v[:cut] if isinstance(v, np.ndarray) else v for k, v in columns(whole).items()})
    assert found.phase == "B"
    # all intervals are equal, to a step or two
    assert found.next.earliest == pytest.approx(200, abs=3)
    assert found.next.latest == pytest.approx(200, abs=3)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scale_of_the_weights_does_not_matter(known, found, scale):
    """x -> c x with lr -> c^2 lr, wd -> wd / c^2 is the same path on the sphere (rho down to 1e-3 here)."""
    other = find_periods(
        loss=known["loss"], rho=scale * known["rho"], eg=known["eg"], lr=scale**2 * LR, wd=WD / scale**2
    )
    assert [e.step for e in other.break_downs] == [e.step for e in found.break_downs]
    assert other.mean_interval == found.mean_interval
    assert other.periods[3].a == found.periods[3].a
    assert other.periods[3].elr == pytest.approx(found.periods[3].elr)


def test_scale_of_the_loss_does_not_matter(known, found):
    other = find_periods(**{**columns(known), "loss": 100 * known["loss"]})
    assert [e.step for e in other.break_downs] == [e.step for e in found.break_downs]


@pytest.mark.parametrize("every", [3, 7])
def test_thinning_finds_the_same_events(known, found, every):
    """A log of every seventh step has the same events, to the spacing."""
    thin = {k: v[::every] if isinstance(v, np.ndarray) else v for k, v in columns(known).items()}
    other = find_periods(**thin, step=np.arange(0, 12_000, every))
    assert other.verdict == "periodic"
    assert [e.step for e in other.break_downs] == pytest.approx([e.step for e in found.break_downs], abs=every)
    assert other.mean_interval == pytest.approx(found.mean_interval, abs=every)
    assert any(f"Rows are {every} steps apart" in sentence for sentence in other.evidence)


def test_steps_need_not_begin_at_zero(known, found):
    other = find_periods(**columns(known), step=np.arange(12_000) + 5000)
    assert [e.step for e in other.break_downs] == [e.step + 5000 for e in found.break_downs]


def slow_lows(y, threshold):
    """Rows that are lowest between a place before and a place after where y is higher by the threshold."""
    rows = []
    for i in range(len(y)):
        left = next((k for k in range(i - 1, -1, -1) if y[k] < y[i] or y[k] >= y[i] + threshold), None)
        right = next((k for k in range(i + 1, len(y)) if y[k] < y[i] or y[k] >= y[i] + threshold), None)
        if left is not None and right is not None and y[left] >= y[i] + threshold and y[right] >= y[i] + threshold:
            rows.append(i)
    return rows


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 250), st.floats(0.3, 6))
def test_turning_points_against_the_slow_definition(seed, count, threshold):
    y = np.cumsum(np.random.default_rng(seed).normal(size=count))
    turns = turning_points(y, threshold).turns
    lows = [turn.row for k, turn in enumerate(turns) if turn.low and k > 0]
    assert lows == slow_lows(y, threshold)
    assert all(a.low != b.low for a, b in pairwise(turns))


def test_smoothing_against_the_obvious():
    x = np.random.default_rng(0).normal(size=50)
    for width in (1, 2, 5, 10, 11):
        slow = [x[max(0, i - width // 2) : i - width // 2 + width].mean() for i in range(50)]
        assert centred_mean(x, width) == pytest.approx(slow)
    steep = np.exp(-np.arange(4000) / 100.0)  # down to 1e-17, to full precision, in float32 as well
    assert centred_mean(steep, 10)[3990] == pytest.approx(steep[3985:3995].mean(), rel=1e-12)
    assert centred_mean(steep.astype(np.float32), 10)[3000] == pytest.approx(steep[2995:3005].mean(), rel=1e-6)
    padded = np.pad(x, 5, mode="edge")
    assert running_median(x, 11).tolist() == [np.median(padded[i : i + 11]) for i in range(50)]


def test_toy_function_has_the_periods_of_its_own_count():
    """The simulator's norm against a detector that knows nothing of ours: upward runs of log rho^2."""
    record = toy.simulate([1.0], [0.1], 6000, seeds=1, every=1, wd=0.02, noise=1e-9, rho0=0.5)
    rho_sq, loss = record.rho_sq[:, 0, 0], record.loss[:, 0, 0]
    eg = record.ess[:, 0, 0] * rho_sq / 0.1
    found = find_periods(loss=loss, rho=np.sqrt(rho_sq), eg=eg, lr=0.1, wd=0.02)
    up = np.diff(np.log(rho_sq)) > np.log(1.05)
    starts = np.nonzero(up[1:] & ~up[:-1])[0] + 1
    assert found.verdict == "periodic"
    assert len(starts) > 20
    assert len(found.break_downs) == pytest.approx(len(starts), abs=1)
    assert found.mean_interval == pytest.approx(float(np.diff(starts[starts > 1000]).mean()), rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_an_equilibrium_is_named_one(seed):
    """rho^2 of a noisy stationary run has minima with a rise, but no spikes."""
    found = find_periods(**balanced(20_000, 0.1, 0.02, spread=0.7, seed=seed))
    assert found.verdict == "equilibrium"
    assert len(found.candidates) > 10
    assert not found.periods
    assert math.isnan(found.mean_interval)
    assert "equilibrium, no periods" in found.answer
    # to second order lr^4 mean(eg^4/rho^4) / (4 lr wd) is left out, 1.4 % here
    assert found.equilibrium.balance == pytest.approx(1, abs=0.03)


def test_a_run_shorter_than_a_period_is_not_yet_one():
    series = breaking(12_000, LR, WD)
    cut = series["bursts"][0] - 50
    found = find_periods(**{k: v[:cut] if isinstance(v, np.ndarray) else v for k, v in columns(series).items()})
    assert found.verdict == "not yet"
    assert "still shrinks at 99% of the speed" in found.reason
    assert found.phase == "B"


def test_few_break_downs_are_undecided():
    series = breaking(12_000, LR, WD)
    cut = series["bursts"][1] + 300
    found = find_periods(**{k: v[:cut] if isinstance(v, np.ndarray) else v for k, v in columns(series).items()})
    assert found.verdict == "undecided"
    assert "2 break-downs; 3 are needed" in found.reason


def test_early_break_downs_count_where_no_later_ones_are():
    series = breaking(12_000, LR, WD)
    found = find_periods(**columns(series), definition=Definition(burn_in=14))
    assert found.verdict == "periodic"
    assert not found.interval_settled
    assert found.interval.count == len(series["bursts"]) - 1


def test_fixed_norm_is_judged_by_the_loss(known):
    still = np.full(12_000, 3.0) * (1 + 1e-7 * np.sin(np.arange(12_000)))
    spiking = find_periods(**{**columns(known), "rho": still})
    assert spiking.on == "loss"
    assert spiking.verdict == "periodic"
    assert [e.step for e in spiking.break_downs] == pytest.approx(np.array(known["bursts"]) - 2, abs=3)
    calm = balanced(12_000, LR, WD)
    quiet = find_periods(**{**calm, "rho": still})
    assert quiet.verdict == "equilibrium"
    assert "the norm is fixed" in quiet.reason
    assert not quiet.candidates


def test_without_a_norm_the_loss_is_what_there_is(known):
    found = find_periods(loss=known["loss"])
    assert found.verdict == "periodic"
    assert found.mean_interval == pytest.approx(np.diff(known["bursts"]).mean(), rel=0.01)
    assert math.isnan(found.unit)
    assert any("No norm is logged" in sentence for sentence in found.evidence)


def test_without_rates_the_clock_is_estimated(known, found):
    other = find_periods(loss=known["loss"], rho=known["rho"], eg=known["eg"])
    assert [e.step for e in other.break_downs] == [e.step for e in found.break_downs]
    assert other.unit == pytest.approx(found.unit, rel=0.01)
    assert other.equilibrium is None
    assert any("lr wd is estimated as 0.001 " in sentence for sentence in other.evidence)


def test_without_effective_gradient_the_loss_decides(known, found):
    other = find_periods(loss=known["loss"], rho=known["rho"], lr=LR, wd=WD)
    assert [e.step for e in other.break_downs] == [e.step for e in found.break_downs]
    assert math.isnan(other.break_downs[0].eg_factor)


def test_a_diverged_run_is_a_result(known):
    series = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in columns(known).items()}
    for name in ("loss", "rho", "eg"):
        series[name][10_007:] = np.nan
    series["loss"][10_007] = np.inf
    found = find_periods(**series)
    assert found.diverged_at == 10_007
    assert "diverged at step 10007" in found.answer
    assert found.verdict == "periodic"
    assert all(p.end < 10_007 for p in found.periods)
    whole = find_periods(**columns(known))
    assert [e.step for e in found.break_downs] == [e.step for e in whole.break_downs if e.step < 10_007]


def test_single_bad_rows_are_left_out(known, found):
    series = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in columns(known).items()}
    series["loss"][[500, 7000]] = np.nan
    series["eg"][600:610] = np.nan
    other = find_periods(**series)
    assert [e.step for e in other.break_downs] == [e.step for e in found.break_downs]
    assert other.diverged_at is None
    assert any(sentence.startswith("2 rows") for sentence in other.evidence)


def test_a_schedule_is_counted_in_lr_wd():
    """The rate falls by 4 half-way: intervals in steps get four times as long, in units of 1/(lr wd) they stay."""
    first = breaking(12_000, LR, WD)
    second = breaking(48_000, LR / 4, WD)
    cut = first["bursts"][-1]  # both halves have rho^2 = 1 at a burst and 4 after it
    begin = second["bursts"][0]
    joined = {
        k: np.concatenate([first[k][:cut], (1.0 if k != "eg" else 4.0) * second[k][begin:]]) for k in ("loss", "rho")
    }
    lr = np.where(np.arange(len(joined["loss"])) < cut, LR, LR / 4)
    found = find_periods(**joined, lr=lr, wd=WD)
    early = [p for p in found.periods if p.end < cut - 10]
    late = [p for p in found.periods if p.start > cut + 10]
    assert len(early) > 5
    assert len(late) > 5
    assert np.mean([p.length for p in late]) / np.mean([p.length for p in early]) == pytest.approx(4, rel=0.1)
    assert np.mean([p.time for p in late]) / np.mean([p.time for p in early]) == pytest.approx(1, rel=0.05)
    assert any("lr or wd change" in sentence for sentence in found.evidence)


def test_without_weight_decay_nothing_comes_back():
    path = recursion.run(1.0, 0.1, 0.0, recursion.constant(0.3), 4000)[:-1, 0]
    found = find_periods(loss=np.exp(-np.arange(4000) / 500), rho=np.sqrt(path), lr=0.1, wd=0.0)
    assert found.verdict == "equilibrium"
    assert found.answer == "no periods: without weight decay none are possible, since nothing brings the ELR back up"
    assert found.verdict_words == "none"
    assert math.isnan(found.unit)
    assert found.settled_from == 0
    assert not any("lr wd" in sentence for sentence in found.evidence)
    assert not any("weight decay" in sentence for sentence in found.evidence)


@pytest.mark.parametrize("given", [{"lr": LR, "wd": 0.0}, {"wd": 0.0}])
def test_no_weight_decay_beside_a_norm_that_falls_is_refused(known, given):
    """19 periods of 300 steps = 0/(lr wd) is no answer; with the decay left out it is estimated."""
    series = {name: known[name] for name in ("loss", "rho", "eg")}
    words = (
        r"wd 0 contradicts the log \(rho\^2 falls by 0.2 % a step before the break-down at step 693\); "
        "give the weight decay that acted, or leave wd out"
    )
    with pytest.raises(UserError, match=words):
        find_periods(**series, **given)
    assert find_periods(**series, lr=LR).verdict == "periodic"


@pytest.fixture(scope="module")
def fast():
    """Periods of 300 steps, 1/(lr wd) = 200 steps."""
    series = breaking(20_000, 0.5, 0.01, jump=math.exp(2 * 280 / 200))
    assert np.diff(series["bursts"]) == pytest.approx(300, abs=2)
    return columns(series)


def thinned(series, every):
    rows = {k: v[::every] if isinstance(v, np.ndarray) else v for k, v in series.items()}
    return find_periods(**rows, step=np.arange(0, len(series["loss"]), every))


@pytest.mark.parametrize("every", [50, 53, 97, 100, 200])
@pytest.mark.parametrize("rates", [True, False])
def test_rows_too_far_apart_decide_nothing(fast, every, rates):
    series = fast if rates else {name: fast[name] for name in ("loss", "rho", "eg")}
    found = thinned(series, every)
    assert found.verdict == "undecided"
    assert f"rows are {every} steps = " in found.reason
    near = 4 if rates else 3  # the estimate is -log(1 - lr wd)
    assert found.reason.endswith(f"break-downs fall between them; log every {near} steps or closer")
    if every == 200 and rates:
        assert "= 1/(lr wd) apart" in found.answer


@pytest.mark.parametrize("every", [1, 4, 5, 10, 20, 25])
def test_periods_seen_through_rows_far_apart_come_with_a_caution(fast, every):
    """On small networks 9 in 10 break-downs are found at 0.02/(lr wd) between rows, 2 in 3 at 0.05, 1 in 3 at 0.1."""
    found = thinned(fast, every)
    assert found.verdict == "periodic"
    words = f"rows are {every} steps = {every / 200:.2g}/(lr wd) apart"
    assert any(said.startswith(f"Caution: {words}") for said in found.evidence) == (every > 4)
    assert (f"at most: rows {every / 200:.3g}/(lr wd) apart miss break-downs" in found.answer) == (every > 4)
    if every < 25:
        assert found.mean_interval == pytest.approx(300, abs=2)


def test_a_break_down_between_two_rows_is_seen_in_the_norm(known):
    """Rows that miss the large gradients of a break-down, as a monitor's may: the norm's jump tells of them."""
    at = np.arange(0, len(known["loss"]), 30)
    quiet = columns({**known, "eg": np.full(len(known["loss"]), 1e-3)})
    rows = {name: column[at] if np.ndim(column) else column for name, column in quiet.items()}
    found = find_periods(**rows, step=at)
    steps = [event.step for event in found.break_downs]
    assert steps == pytest.approx(known["bursts"], abs=30)
    assert found.break_downs[0].eg_factor > 5
    assert find_periods(**quiet).break_downs == ()  # every step is known to have a small gradient


@pytest.mark.parametrize("every", [10, 30, 60])
@pytest.mark.parametrize("seed", range(4))
def test_the_norm_between_rows_makes_no_break_down_of_noise(every, seed):
    """The gradient of a logged step is one draw of the noise: judged by it, a fifth of the rises were break-downs."""
    series = balanced(20_000, LR, WD, spread=0.7, seed=seed)
    assert thinned(series, every).break_downs == ()


def test_rows_too_far_apart_are_no_equilibrium():
    """At 0.07/(lr wd) a log of real periods looked like one."""
    series = balanced(20_000, LR, WD)
    assert thinned(series, 50).verdict == "equilibrium"
    coarse = thinned(series, 70)
    assert coarse.verdict == "undecided"
    assert coarse.reason.startswith("rows are 70 steps = 0.07/(lr wd) apart")


def test_every_step_logged_hides_nothing():
    """Where lr wd is above 0.1 a unit is shorter than ten steps."""
    found = find_periods(**balanced(400, 0.5, 0.4))
    assert found.log.gap > 0.1
    assert found.verdict == "equilibrium"


def first_rows(series, count, **more):
    return {k: v[:count] if isinstance(v, np.ndarray) else v for k, v in {**series, **more}.items()}


def test_a_fixed_norm_is_judged_after_some_windows_of_the_loss():
    calm, still = balanced(12_000, LR, WD), np.full(12_000, 3.0)
    short = find_periods(**first_rows(calm, 24, rho=still, wd=0.0))
    assert short.verdict == "not yet"
    assert "in 24 steps (the norm is fixed), and at least 200 are needed: the loss is averaged over 50" in short.reason
    assert find_periods(**first_rows(calm, 199, rho=still, wd=0.0)).verdict == "not yet"
    assert find_periods(**first_rows(calm, 200, rho=still, wd=0.0)).verdict == "equilibrium"
    # with a clock: two units, as with a norm
    assert find_periods(**first_rows(calm, 1000, rho=still)).verdict == "not yet"
    assert find_periods(**first_rows(calm, 2100, rho=still)).verdict == "equilibrium"


def test_a_fixed_norm_is_not_said_to_be_an_equilibrium():
    """A run at chance has no break-downs either."""
    rng = np.random.default_rng(0)
    chance = 2.3 * np.exp(0.01 * rng.normal(size=5000))
    found = find_periods(loss=chance, rho=np.full(5000, 3.0), eg=np.full(5000, 0.5), lr=LR, wd=WD)
    assert found.answer == (
        "no periods: no 10-fold rise of the loss in 5000 steps (the norm is fixed); the loss went from 2.3 to 2.3, "
        "the effective gradient from 0.5 to 0.5 (medians of the first and last tenth)"
    )
    assert found.verdict_words == "none"
    assert any("do not tell whether training converges, rests or guesses" in said for said in found.evidence)
    assert find_periods(**balanced(12_000, LR, WD)).verdict_words == "equilibrium"


def test_a_log_that_ends_early_says_how_long_it_has_to_be():
    calm = balanced(12_000, LR, WD)
    within = find_periods(**first_rows(calm, 3000), definition=Definition(burn_in=4))
    assert within.answer.startswith(
        "undecided: the log ends within the burn-in (4/(lr wd) = 4000 steps); train at least 7000 steps (7/(lr wd)), "
        "or lower --burn-in"
    )
    after = find_periods(**first_rows(calm, 2500))
    assert "only 0.5/(lr wd) steps after the burn-in (2/(lr wd) = 2000 steps)" in after.reason
    assert "train at least 5000 steps (5/(lr wd))" in after.reason
    assert find_periods(**first_rows(calm, 5000)).verdict == "equilibrium"
    rows = {k: v[:5018:10] if isinstance(v, np.ndarray) else v for k, v in calm.items()}
    assert find_periods(**rows, step=np.arange(0, 5018, 10)).verdict == "equilibrium"


def test_one_is_no_plural_and_has_no_range(known):
    found = find_periods(**first_rows(columns(known), known["bursts"][0] + 300))
    assert "1 rise of the norm: 1 with a spike, 0 without." in found.evidence
    (said,) = [sentence for sentence in found.evidence if sentence.startswith("At the break-down")]
    assert " to " not in said
    assert "median" not in said
    assert any("half-way up (log) 12 steps before rho^2 is." in sentence for sentence in found.evidence)
    assert any(sentence.startswith("1 is large") for sentence in found.evidence)
    two = find_periods(**first_rows(columns(known), known["bursts"][1] + 300))
    assert any(sentence.startswith("One interval: 713 steps") for sentence in two.evidence)


def test_no_lead_is_told_between_rows_further_apart(known):
    """The loss leads by 12 steps: rows 10 steps apart show it, rows 50 steps apart do not."""
    leads = {
        every: any("rises before the norm" in s for s in thinned(columns(known), every).evidence) for every in (10, 50)
    }
    assert leads == {10: True, 50: False}


def test_a_forecast_without_width_is_one_number(known):
    found = find_periods(**first_rows(columns(known), known["bursts"][-1] - 200))
    assert found.next.latest - found.next.earliest < 3
    narrow = expected(Next(285.8, 286.3, ""))
    assert narrow == "in about 286 steps"
    assert expected(Next(0.1, 0.4, "")) == "in about 1 step"


def test_tiny_norms_are_norms(known, found):
    """rho of 1e-6 and below, as float32 has it."""
    small = (1e-6 * known["rho"]).astype(np.float32)
    other = find_periods(loss=known["loss"], rho=small, eg=known["eg"], lr=1e-12 * LR, wd=1e12 * WD)
    assert [e.step for e in other.break_downs] == pytest.approx([e.step for e in found.break_downs], abs=1)


def test_everything_fits_into_json(found):
    import json

    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["verdict"] == "periodic"
    assert content["mean_interval"] == pytest.approx(found.mean_interval)
    assert len(content["periods"]) == len(found.periods)
    assert {"rise", "window", "spike", "excess", "burn_in"} == {row["threshold"] for row in content["sensitivity"]}


def test_the_plain_definition_counts_every_rise():
    """A stationary norm fluctuates: no break-down, but rises enough; the evidence says how many."""
    log = balanced(9000, LR, WD, seed=1)
    found, plain = find_periods(**log), find_periods(**log, definition=Definition(plain=True, rise=0.01))
    assert found.verdict == "equilibrium"
    assert len(plain.break_downs) == len(plain.candidates) > 3
    assert "any minimum of the 10-step mean of rho^2" in plain.evidence[0]
    assert any("each of them counted" in sentence for sentence in plain.evidence)
    spiky = find_periods(**log, definition=Definition(rise=0.01))
    settled = [event.step for event in plain.break_downs if event.settled]
    words = f"counts {len(settled)} events after the burn-in, at a mean interval of {np.mean(np.diff(settled)):.3g} "
    assert any("The plain definition" in sentence and words in sentence for sentence in spiky.evidence)
    assert not any("The plain definition" in sentence for sentence in plain.evidence)


def test_the_definition_is_told_whole(found):
    assert "within 0.1/(lr wd) steps" in found.evidence[0]
    assert "and the loss 2-fold" in found.evidence[0]


def test_an_equilibrium_has_no_phase():
    found = find_periods(**balanced(9000, LR, WD, seed=1))
    assert found.verdict == "equilibrium"
    assert "phase" not in found.answer


def test_sensitivity_holds_the_result_itself(found):
    own = [row for row in found.sensitivity if (row.threshold, row.value) == ("rise", 0.05)]
    assert own[0].mean_interval == pytest.approx(found.mean_interval)
    assert own[0].events == sum(e.settled for e in found.break_downs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rho": [1.0] * 3}, "rho has 3 rows, loss has 12000"),
        ({"lr": -0.1}, "lr is -0.1 at step 0"),
        ({"lr": 200.0}, "lr * wd is 2 at step 0"),
        ({"wd": math.nan}, "wd is not finite"),
        ({"loss": [1.0] * 5, "rho": None, "eg": None}, "5 finite rows are too few"),
        ({"loss": [1.0], "rho": None, "eg": None}, "^1 finite row is too few"),
        ({"loss": "high"}, "loss holds something that is not a number"),
        ({"step": np.zeros(12_000)}, "step 0 follows step 0"),
        ({"step": np.arange(12_000) + 0.5}, "not whole"),
        ({"loss": np.full(12_000, np.nan)}, "0 finite rows"),
    ],
)
def test_columns_that_do_not_fit_are_refused(known, change, words):
    with pytest.raises(UserError, match=words.replace("*", r"\*")):
        find_periods(**{**columns(known), **change})


def test_norms_have_to_be_positive(known):
    rho = known["rho"].copy()
    rho[77] = 0
    with pytest.raises(UserError, match="rho is 0 at step 77"):
        find_periods(**{**columns(known), "rho": rho})


def test_nothing_given_is_refused(tmp_path):
    with pytest.raises(UserError, match="at least the column loss"):
        find_periods()
    with pytest.raises(UserError, match="not both"):
        find_periods(tmp_path, loss=[1.0])
    with pytest.raises(UserError, match="on='loss'"):
        find_periods(loss=np.ones(100), definition=Definition(on="norm"))


@pytest.mark.parametrize("change", [{"rise": 0}, {"window": 0}, {"spike": 1}, {"burn_in": -1}, {"on": "both"}])
def test_definitions_have_a_domain(change):
    with pytest.raises(UserError, match=f"definition: {next(iter(change))} is"):
        Definition(**change)

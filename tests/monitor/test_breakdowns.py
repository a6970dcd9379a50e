"""Break-downs on made-up norms, where it is known when they come; and what a monitor says of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monitor_nets import FREE, batches, net, train
from tests.analysis.series import balanced, breaking

from scaleinv import Monitor
from scaleinv.monitor.breakdowns import FEWEST, STUDENT, Breakdowns, Journal
from scaleinv.monitor.quantities import COLUMN, QUANTITIES
from scaleinv.monitor.reading import Reading
from scaleinv.monitor.records import Record
from scaleinv.monitor.rules import ahead
from scaleinv.monitor.watch import Watch
from scaleinv.theory.breakdowns import LogRows, break_downs

LR, WD = 0.1, 1e-2


def sawtooth(count: int, spread: float, seed: int = 0, spike: float = 20.0, every: int = 1) -> tuple[np.ndarray, list]:
    """Rows (step, rho, eg): the norm falls by weight decay alone until the ELR reaches a critical value, about 1, then
    rho^2 doubles within ten steps, with gradients ``spike`` times as large. Also the steps at which it turned.
    """
    draw = np.random.default_rng(seed)
    rows, turns, y, step = [], [], math.log(LR) + 1.0, 0
    for _ in range(count):
        bottom = math.log(LR) + draw.normal(0, spread)
        while y > bottom:
            rows.append((step, math.exp(y / 2), draw.uniform(0.8, 1.2)))
            y, step = y - 2 * LR * WD, step + 1
        turns.append(step - 1)
        for _ in range(10):
            rows.append((step, math.exp(y / 2), spike))
            y, step = y + math.log(2) / 10, step + 1
    return np.array(rows)[::every], turns


def follow(rows: np.ndarray) -> Breakdowns:
    found = Breakdowns()
    for step, rho, eg in rows:
        found.look(step, rho, eg, LR / rho**2, LR * WD)
    return found


@pytest.mark.parametrize("every", [1, 7])
def test_finds_the_break_downs_where_they_are(every: int) -> None:
    rows, turns = sawtooth(12, 0.05, every=every)
    found = follow(rows)
    assert len(found.periods) == 12
    for period, turn in zip(found.periods, turns):
        assert abs(period.step - turn) <= every
        assert math.exp(period.elr_then) == pytest.approx(1.0, rel=0.2)
        assert period.time == pytest.approx(LR * WD * (period.step - period.told_at))
    assert [p.window is None for p in found.periods] == [True] * FEWEST + [False] * 7


def test_nine_in_ten_windows_hold_and_they_are_narrow() -> None:
    """Periods alike but for a normal error of the critical ELR: what the window assumes."""
    held, widths = [], []
    for seed in range(12):
        for period in follow(sawtooth(40, 0.1, seed)[0]).periods:
            if period.held is not None:
                held.append(period.held)
                widths.append(period.window[1] - period.window[0])
    share, error = np.mean(held), math.sqrt(0.9 * 0.1 / len(held))
    assert abs(share - 0.9) < 3 * error
    # the error of log ELR is 0.1, of the time therefore 0.05/(lr wd); a little more, as it is estimated
    assert 2 * 1.645 * 0.05 < np.median(widths) < 1.3 * 2 * 1.645 * 0.05


def test_a_norm_that_turns_without_a_gradient_breaks_nothing() -> None:
    assert follow(sawtooth(12, 0.05, spike=1.2)[0]).periods == []


def test_the_window_comes_nearer_and_gets_overdue() -> None:
    rows, turns = sawtooth(8, 0.02)
    seen = [i for i, row in enumerate(rows) if row[0] <= turns[6] + 10]
    found = follow(rows[seen])
    step, rho = rows[seen[-1] + 1][0], rows[seen[-1] + 1][1]
    while found.window() is None:
        found.look(step, rho, 1.0, LR / rho**2, LR * WD)
        step, rho = step + 1, rho * (1 - LR * WD)
    first = found.window()
    assert first is not None
    assert (first.seen, first.told) == (7, 2)
    assert first.earliest <= turns[7] - step + 1 <= first.latest
    for _ in range(20):
        found.look(step, rho, 1.0, LR / rho**2, LR * WD)
        step, rho = step + 1, rho * (1 - LR * WD)
    later = found.window()
    assert later is not None
    assert later.latest == pytest.approx(first.latest - 20, abs=0.5)
    for _ in range(1000):
        found.look(step, rho, 1.0, LR / rho**2, LR * WD)
        step += 1
    gone = found.window()
    assert gone is not None
    assert (gone.earliest, gone.latest) == (0.0, 0.0)


def test_not_finite_and_not_measured_steps_are_left_out() -> None:
    rows, _ = sawtooth(8, 0.05)
    found = Breakdowns()
    for step, rho, eg in rows:
        found.look(step, rho, eg, LR / rho**2, LR * WD)
        assert not found.look(step, math.nan, eg, math.nan, LR * WD)
        assert not found.look(step, math.inf, eg, 0.0, LR * WD)
        assert not found.look(step, rho, math.nan, LR / rho**2, LR * WD)
        assert not found.look(step, rho, eg, LR / rho**2, 0.0)
    assert [p.step for p in found.periods] == [p.step for p in follow(rows).periods]
    assert [p.window for p in found.periods] == [p.window for p in follow(rows).periods]


def test_student() -> None:
    stats = pytest.importorskip("scipy.stats")
    wanted = [stats.t.ppf(0.95, n) for n in range(1, 21)]
    assert list(STUDENT) == pytest.approx(wanted, abs=6e-4)


def records(rows: np.ndarray) -> list[Record]:
    found = []
    for step, rho, eg in rows:
        values = np.full((2, len(QUANTITIES)), np.nan)
        for name, value in (
            ("rho", rho), ("eg", eg), ("elr", LR / rho**2), ("lr", LR), ("decay", LR * WD * rho), ("angle", 1e-3),
        ):  # fmt: skip
            values[:, COLUMN[name]] = value
        found.append(Record(int(step), None, float("nan"), ("total", "w"), values, False))
    return found


def test_alert_tells_the_window_sparingly() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, weight_decay=WD)
    monitor = Monitor(model, optimizer, groups=FREE)
    watch, journal, said = Watch(monitor, {}), Journal(), []
    for record in records(sawtooth(14, 0.05)[0]):
        told = journal.take(record)
        window = journal.of["total"].window() if told else None
        if window is not None and watch._spikes.sparingly("break-down"):
            said += list(ahead.break_down(Reading(record, [], []), window))
    assert len(journal.of["w"].periods) == 14
    turns = sawtooth(14, 0.05)[1]
    # windows for the 6th, 7th, ... break-down; told of the first, second, fourth and eighth
    for alert, number in zip(said, (5, 6, 8, 12), strict=True):
        assert turns[number - 1] < alert.step < turns[number]
        left = turns[number] - alert.step
        assert alert.numbers["earliest"] - 30 <= left <= alert.numbers["latest"] + 30
    assert "after 5 break-downs at an ELR about" in said[0].reason
    assert "expected in" in said[0].forecast
    assert "1 of 1 such window held so far" in said[1].forecast
    # after a resume it is not told again at once
    other = Watch(monitor, {})
    other.told(said)
    assert other._spikes.count["break-down"] == 8


def test_a_run_without_break_downs_and_one_that_is_resumed() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=1e-3)
    monitor = Monitor(model, optimizer, inputs=batches(1)[0][0], every=1)
    train(model, optimizer, 60, monitor)
    assert monitor.breakdowns() == []
    assert "broke down" not in str(monitor.summary())
    rows = records(sawtooth(9, 0.05)[0])
    for record in rows:
        monitor._journal.take(record)
        monitor._history.records.append(record)
    told = len(monitor.breakdowns("w"))
    assert told == 9
    again = Monitor(model, optimizer, groups=FREE)
    again.load_state_dict(monitor.state_dict())
    assert len(again.breakdowns("w")) == told


def test_the_summary_tells_the_window() -> None:
    model = net()
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if n in FREE], lr=LR, weight_decay=WD)
    monitor = Monitor(model, optimizer, groups=FREE, every=1)
    train(model, optimizer, 20, monitor)
    rows, turns = sawtooth(8, 0.05)
    for record in records(rows[rows[:, 0] < turns[-1] - 50]):
        monitor._journal.take(record)
    text = str(monitor.summary())
    assert "Training broke down 7 times so far, at an ELR about" in text
    assert "the next is expected in" in text
    assert "windows held so far)" in text


@pytest.mark.parametrize("every", [1, 4, 30])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", ["periods", "noise"])
def test_the_monitor_counts_what_periods_counts(kind: str, told: bool, every: int) -> None:
    """One definition: the rows as they come give the break-downs of the whole log, with a loss and without."""
    series = breaking(4000, LR, WD) if kind == "periods" else balanced(4000, LR, WD, spread=0.7)
    n = np.arange(0, 4000, every)
    rho, eg, loss = series["rho"][n], series["eg"][n], series["loss"][n]
    found = Breakdowns()
    for k, step in enumerate(n.tolist()):
        found.look(step, rho[k], eg[k], LR / rho[k] ** 2, LR * WD, loss[k] if told else math.nan)
    whole = break_downs(LogRows(n, rho**2, loss if told else None, eg, LR * WD * n))
    # a window, and so a period, begins once the norm has fallen by 5 %: the first break-down ends the first of them
    assert [p.step for p in found.periods] == [n[rise.row] for rise in whole]
    assert len(whole) == (len(series["bursts"]) if kind == "periods" else 0)

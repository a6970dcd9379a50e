"""Rates, optimizers and momentum of a log of one's own, and rates that contradict it."""

import numpy as np
import pytest
from tests.analysis.series import balanced, breaking, columns

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.periods.optimizers import acts_as
from scaleinv.errors import UserError

LR, WD = 0.1, 0.01


@pytest.fixture(scope="module")
def log():
    return {name: x for name, x in columns(breaking(5000, LR, WD)).items() if name not in ("lr", "wd")}


@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_a_weight_decay_that_is_too_small_is_said_in_the_answer(log, factor):
    found = find_periods(**log, lr=LR, wd=factor * WD)
    assert (
        f"lr and wd contradict the log: the norm falls {1 / factor:.2g} times as fast as decay can make it"
        in found.answer
    )
    assert "so lr wd is at least 0.001" in found.answer
    assert "--momentum m" in found.answer  # the usual reason
    rows = {name: x[::20] for name, x in log.items()}
    assert "contradict" in find_periods(**rows, step=np.arange(0, 5000, 20), lr=LR, wd=factor * WD).answer


def test_a_learning_rate_that_changed_is_seen(log):
    assert "contradict" in find_periods(**log, lr=np.where(np.arange(5000) < 2500, LR, LR / 10), wd=WD).answer


@pytest.mark.parametrize("every", [1, 10, 40])
@pytest.mark.parametrize("digits", [3, 7, 17])
def test_rates_that_are_right_contradict_nothing(every, digits):
    """Printed with few digits, too: 1e-3 of a norm is more than decay takes in a step."""
    for series in (columns(breaking(5000, LR, WD)), balanced(5000, LR, WD)):
        rho = np.array([float(f"{x:.{digits}g}") for x in series["rho"]])
        rows = {k: x[::every] if np.ndim(x) else x for k, x in {**series, "rho": rho}.items()}
        assert "faster than" not in (answer := find_periods(**rows, step=np.arange(0, 5000, every)).answer)
        assert "contradict" not in answer


def test_a_norm_changed_from_outside_is_told_apart(log):
    rho = log["rho"].copy()
    rho[3100:] *= 0.7
    answer = find_periods(**{**log, "rho": rho}, lr=LR, wd=WD).answer
    assert (
        "the norm falls faster than these lr and wd can make it: other rates, or weights changed from outside" in answer
    )


def test_momentum_is_the_same_as_a_larger_rate(log):
    plain = find_periods(**log, lr=LR, wd=WD)
    found = find_periods(**log, lr=LR / 10, wd=WD, momentum=0.9)
    assert found.unit == pytest.approx(plain.unit)
    assert "contradict" not in found.answer
    assert "contradict" in find_periods(**log, lr=LR / 10, wd=WD).answer


def test_optimizers_by_name(log):
    plain = find_periods(**log, lr=LR, wd=WD)
    adamw = find_periods(**log, lr=LR, wd=WD, optimizer="adamw")
    assert adamw.unit == plain.unit
    assert adamw.log.law == "normalised"
    assert adamw.break_downs[0].elr == pytest.approx(LR / log["rho"][adamw.break_downs[0].row])
    assert any("Optimizer: AdamW, of the law lr/rho" in sentence for sentence in adamw.evidence)
    adam = find_periods(**log, lr=LR, wd=WD, optimizer="Adam")
    assert adam.log.clock == "estimated"
    assert any("lr wd is estimated" in sentence for sentence in adam.evidence)
    assert adam.unit == pytest.approx(plain.unit, rel=0.02)


@pytest.mark.parametrize(
    ("name", "momentum", "words"),
    [
        ("SDG", 0.0, "optimizer 'SDG' is not known; choose one of SGD, Adam, AdamW"),
        ("AdamW", 0.9, "momentum 0.9 does not change the clock of AdamW; leave it out"),
        ("SGD", 1.0, r"momentum 1 is not in \[0, 1\)"),
    ],
)
def test_optimizers_that_cannot_be(name, momentum, words):
    with pytest.raises(UserError, match=words):
        acts_as(name, momentum)


def test_the_loss_alone_never_says_that_there_are_no_periods():
    """A break-down raises a loss of 0.02 by a factor of six only, and a tenfold rise is what the loss has to show."""
    series = balanced(5000, LR, WD)
    found = find_periods(loss=series["loss"], lr=LR, wd=WD)
    assert found.verdict == "undecided"
    assert "the loss alone does not tell periods from noise: log the norm too" in found.reason
    rises = np.where(np.arange(5000) % 700 < 100, 0.5, 0.1)
    assert "but 7 rises of 3-fold or more" in find_periods(loss=rises, lr=LR, wd=WD).reason

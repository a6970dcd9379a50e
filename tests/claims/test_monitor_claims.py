"""What the claims about the Monitor compute, on cases small enough to see the answer."""

from __future__ import annotations

import math

import pytest

from scaleinv.monitor.breakdowns import MonitoredPeriod
from scaleinv.papers.others import break_down_window, rotation_net


def period(time: float, window: tuple[float, float] | None) -> MonitoredPeriod:
    return MonitoredPeriod(0.0, 1.0, time, 0.0, 1.0, 0.0, window)


def test_windows_are_judged_against_the_times_before_only() -> None:
    periods = [period(t, None) for t in (1.0, 3.0)] + [period(2.5, (2.0, 3.0)), period(9.0, (0.0, 4.0))]
    found = break_down_window.judge(periods)
    assert (found.periods, found.held, found.widths) == (4, [True, False], [1.0, 4.0])
    right, wide = found.naive[1.0]
    # mean 2, sd sqrt 2 for the first; mean 13/6, sd of (1, 3, 2.5) for the second
    assert right == [True, False]
    assert wide == pytest.approx([2 * math.sqrt(2), 2 * 1.0408], rel=1e-4)


@pytest.mark.slow
def test_a_short_rotation_counts_the_weights_that_never_get_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation_net, "STEPS", 60)
    found = rotation_net._train(rotation_net._optimizers()["SGDM"], rotation_net._images(False), 0)
    assert list(found) == ["0.weight", "3.weight"]
    assert found["0.weight"].parts["never"][0] >= 3 * 64  # three pixels are always dark
    assert found["0.weight"].live == pytest.approx(1 - found["0.weight"].parts["never"][0] / 4096)
    assert found["3.weight"].live == 1.0
    assert found["3.weight"].norm == found["3.weight"].norm_live
    standardised = rotation_net._images(True)
    assert standardised.std(0)[standardised.std(0) > 0].tolist() == pytest.approx([1.0] * 61, rel=1e-3)

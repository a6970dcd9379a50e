"""Progress counts steps over all runs, not runs, and what an earlier command did is no measure of speed."""

import pytest
from tests.lab.test_config import CONFIG

from scaleinv.lab.train import RunEvent
from scaleinv.studies.pace import Pace
from scaleinv.studies.progress import ProgressView


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_many_runs_of_which_one_is_half_done() -> None:
    clock = Clock()
    pace = Pace(20, clock=clock)
    clock.now = 60.0
    pace.at("first", 500, 1000)
    assert pace.seconds_left() == pytest.approx(39 * 60.0)  # 19.5 runs at 2 minutes each


def test_what_was_done_before_is_no_speed() -> None:
    clock = Clock()
    pace = Pace(3, clock=clock)
    pace.end("kept")  # found ended: no step of it counts
    pace.at("half", 900, 1000, before=900)
    assert pace.seconds_left() is None
    clock.now = 10.0
    pace.at("half", 950, 1000)
    assert pace.seconds_left() == pytest.approx(10.0 / 50 * (50 + 1000))


def test_a_run_that_ends_early_has_no_more_steps() -> None:
    clock = Clock()
    pace = Pace(2, clock=clock)
    clock.now = 10.0
    pace.at("a", 100, 1000)
    pace.at("b", 100, 1000)
    pace.end("a")
    assert (pace.done, pace.total) == (200, 1100)


def test_a_log_says_how_long_the_rest_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with ProgressView(total=3) as view:
        view.pace = Pace(3, clock=clock)
        clock.now = 120.0
        view.event(CONFIG, RunEvent("epoch", 1000, 1000, 10))
        view.run_ended(CONFIG, "ended")
    assert ": ended (4 min left)" in capsys.readouterr().err

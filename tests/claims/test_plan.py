"""What checks would cost: the runs they ask for, counted once, at a pace that was measured."""

import dataclasses
import math
from pathlib import Path

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.papers.claim import Claim, Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.plan import RunPace, measure, plan
from scaleinv.papers.scales import settings
from scaleinv.studies.obtain import Request

BASE = settings("digits", model="mlp", width=16, subset=64, batch_size=16, epochs=5, evaluation="online", eval_every=2)


def two_runs_and_a_retraining(sheet: Sheet, context: Context) -> None:
    first, _ = context.folders([Request(settings=BASE, elr=1e-3), Request(settings=BASE, elr=1e-2)])
    longer = dataclasses.replace(BASE, epochs=10)
    context.folders([Request(settings=longer, elr=1e-3, seed=7, start=first)])
    sheet.true("nothing", 1, 1)


def one_of_them(sheet: Sheet, context: Context) -> None:
    context.runs([Request(settings=BASE, elr=1e-3)])
    sheet.undecided("too few periods")


def by_itself(sheet: Sheet, context: Context) -> None:
    context.seed(0)
    raise AssertionError("a plan trains nothing")


def broken(sheet: Sheet, context: Context) -> None:
    context.folders([Request(settings=BASE, elr=0.3)])
    raise ValueError("no boundary")


def claim(check: object) -> Claim:
    at = f"{__name__}:{check.__name__}"
    return Claim(check.__name__, "paper", "place", "statement", "tolerance", {"digits": 100.0}, at)


def test_every_run_is_counted_once_with_its_steps():
    checks = (two_runs_and_a_retraining, one_of_them, by_itself, broken)
    first, second, third, fourth = plan([(claim(check), "digits") for check in checks])
    assert (first.runs, first.shared, first.steps, first.why) == (3, 0, 4 * (5 + 5 + 10), "")
    assert (second.runs, second.shared, second.steps, second.seconds) == (0, 1, 0, 0)
    assert "more" in second.why
    assert (third.runs, third.shared) == (0, 0)
    assert "without run folders" in third.why
    assert (fourth.runs, fourth.steps) == (1, 20)
    assert "more" in fourth.why
    assert first.seconds > 3 * fourth.seconds > 0  # 80 steps and 20, at one pace


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan([(claim(broken), "digits")])
    assert not list(tmp_path.iterdir())


def test_a_run_takes_its_steps_and_its_evaluations():
    data = load_data(BASE)
    pace = measure(Request(settings=BASE, elr=1e-3), data)
    assert pace.step > 0
    assert pace.test_image > 0
    assert pace.train_image == 0  # online: no pass over the train set
    exact = measure(Request(settings=dataclasses.replace(BASE, evaluation="exact"), elr=1e-3), data)
    assert exact.train_image > 0
    whole = measure(Request(settings=dataclasses.replace(BASE, gradient="full"), lr=1e-3), data)
    assert math.isfinite(whole.step)


def test_data_that_is_not_there_is_told_before_anything(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SCALEINV_DATA", raising=False)
    with pytest.raises(UserError, match="cifar10"):
        plan([(claim(broken), "cifar-small")])


def test_seconds_of_a_run_grow_with_its_length():
    pace = RunPace(1.0, 0.0, 0.0)
    data = load_data(BASE)
    at = {"elr": 1e-3, "lr": None, "seed": 0, "threads": 1}
    short, long = (resolve(dataclasses.replace(BASE, epochs=n), data, **at) for n in (5, 10))
    assert pace.seconds(long, data) == 2 * pace.seconds(short, data) == 40

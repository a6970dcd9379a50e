"""How the rate changes over the horizon, and that the optimizer has it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.schedule import parse_schedule, rate_share
from scaleinv.studies.obtain import obtain

SMALL = Settings(model="mlp", subset=64, batch_size=16, steps=20, width=4, record_steps=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0.1]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, (1 + math.cos(0.9 * math.pi)) / 2]),
        ("step:0.1@0.5,0.75", [1, 1, 0.1, 0.01, 0.01]),
        ("stages:0.25=3,0.75=0", [1, 3, 3, 0, 0]),
    ],
)
def test_shapes(text: str, expected: list[float]) -> None:
    shape = parse_schedule(text)
    assert [shape(x) for x in (0.0, 0.25, 0.5, 0.75, 0.9)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cosin", "is not understood"),
        ("constant:1", "is not understood"),
        ("step:0.1", "is not understood"),
        ("step:a@0.5", "'a' is not a number"),
        ("step:0.1@0.5,0.5", "must rise between 0 and 1"),
        ("step:0.1@0.5,1", "must rise between 0 and 1"),
        ("stages:0.7=1,0.5=2", "must rise between 0 and 1"),
        ("stages:0.5=-1", r"is not a number from 0 to 1e\+30"),
        ("stages:0.5=inf", r"is not a number from 0 to 1e\+30"),
        ("stages:0.5", "is not understood"),
    ],
)
def test_what_is_not_understood(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        parse_schedule(text)


@given(st.integers(1, 50), st.integers(0, 50), st.sampled_from(["constant", "cosine", "linear", "step:0.5@0.3"]))
def test_a_share_is_between_0_and_1_and_the_warmup_rises(steps: int, warmup: int, text: str) -> None:
    shape, warmup = parse_schedule(text), min(warmup, steps)
    shares = [rate_share(shape, t, steps, warmup) for t in range(steps)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(share == shape(t / steps) for t, share in enumerate(shares) if t >= warmup)
    if text == "constant":
        assert shares[:warmup] == sorted(shares[:warmup])


@pytest.mark.parametrize("rate", [{"lr": 0.1}, {"elr": 0.01}], ids=["space", "sphere"])
def test_the_rate_that_acts_is_recorded(tmp_path: Path, rate: dict[str, float]) -> None:
    """On the sphere the recorded rate is elr rho^2, and rho is the radius."""
    folder = obtain(tmp_path, dataclasses.replace(SMALL, schedule="step:0.1@0.5", warmup=4), **rate)
    table = pq.read_table(folder / "metrics" / "steps-final.parquet")
    lr = table["lr"].to_numpy()
    rho_sq = sum(table[name].to_numpy().astype(float) for name in table.column_names if name.endswith(":rho_sq"))
    base = 0.1 if "lr" in rate else 0.01 * rho_sq
    shape = parse_schedule("step:0.1@0.5")
    np.testing.assert_allclose(lr / base, [rate_share(shape, t, 20, 4) for t in range(20)], rtol=1e-6)


def test_a_weight_with_a_scale_of_its_own_follows_the_schedule_too(tmp_path: Path) -> None:
    from scaleinv.lab.build import build
    from scaleinv.lab.resolve import load_data, resolve

    settings = dataclasses.replace(SMALL, variant="standard", schedule="linear", other_lr=0.5)
    for rate in ({"elr": 0.01, "lr": None}, {"elr": None, "lr": 0.2}):
        data = load_data(settings)
        setup = build(resolve(settings, data, seed=0, threads=1, **rate), data)
        setup.set_rates(5)
        assert setup.optimizer.param_groups[-1]["lr"] == pytest.approx(0.5 * 0.75)

"""The law: what a rate means at a norm, and how far a step turns the weights."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.theory import rates
from scaleinv.theory.optimizers import clocks_of, law_of

POSITIVE = st.floats(1e-6, 1e6)


@given(POSITIVE, POSITIVE, st.sampled_from(rates.LAWS))
def test_lr_is_the_inverse_of_elr(rate, rho, law):
    """Two divisions and two products, each rounded once: 4 eps."""
    assert rates.lr(rates.elr(rate, rho, law), rho, law) == pytest.approx(rate, rel=4 * 2.0**-52)
    assert rates.elr_of_square(rate, rho * rho, law) == pytest.approx(rates.elr(rate, rho, law), rel=4 * 2.0**-52)


@pytest.mark.parametrize(("law", "rate"), [("sgd", lambda s: s * s), ("normalised", lambda s: s)])
def test_the_elr_stays_where_norm_and_rate_are_scaled_by_the_law(law, rate):
    """``x -> c x`` turns as before under ``c^2 lr`` (SGD) or ``c lr`` (normalised)."""
    scales = np.array([0.25, 1.0, 8.0])  # powers of two: exact
    assert rates.elr(rate(scales) * 0.3, scales * 2.0, law) == pytest.approx(rates.elr(0.3, 2.0, law), rel=0)


@pytest.mark.parametrize("wd", [0.0, 0.1])
@pytest.mark.parametrize("sphere", [False, True])
def test_both_conventions_are_one_number_for_plain_sgd(sphere, wd):
    """Independent vectors: the angle of a step along a tangential gradient, on a sphere and not."""
    draw = np.random.default_rng(0)
    x, g = draw.normal(size=(2, 40))
    g -= (g @ x) / (x @ x) * x
    lr, rho = 0.7, float(np.linalg.norm(x))
    new = (1 - lr * wd) * x - lr * g
    if sphere:
        new *= rho / np.linalg.norm(new)
    angle = math.atan2(float(np.linalg.norm(new - (new @ x) / (x @ x) * x)), float(new @ x) / rho)
    by_law = rates.ess(rates.elr(lr, rho), rho * float(np.linalg.norm(g)))
    assert rates.ess(None, None, "normalised", angle) * (1 - lr * wd) == pytest.approx(by_law, rel=1e-13)


def test_ends_of_the_range():
    ends = rates.ess(None, None, "normalised", np.array([0.0, math.pi / 2, 3.0, math.nan]))
    assert ends.tolist()[:3] == [0.0, math.inf, math.inf]
    assert math.isnan(ends[3])
    for law in ("sgd", "normalised"):
        assert rates.elr(0.1, 0.0, law) == rates.elr(0.1, 0, law) == rates.elr_of_square(0.1, 0.0, law) == math.inf
        assert rates.elr(0.1, np.zeros(2), law).tolist() == [math.inf] * 2


def test_mistakes():
    with pytest.raises(UserError, match="needs the angle"):
        rates.ess(0.1, 1.0, "normalised")
    for call in (rates.elr, rates.elr_of_square, rates.lr, rates.ess):
        with pytest.raises(UserError, match="law 'measured': it gives no ELR; choose sgd"):
            call(0.1, 1.0, "measured")


@pytest.mark.parametrize(
    ("config", "law"),
    [
        ({}, "sgd"),  # of a version that had SGD only
        ({"optimizer": "sgd", "momentum": 0.9}, "sgd"),
        ({"optimizer": "adam"}, "normalised"),
        ({"optimizer": "adamw"}, "normalised"),
        ({"optimizer": "mine"}, "measured"),
        ({"optimizer": "Muon+AdamW", "optimizers": [{"law": "normalised"}, {"law": "normalised"}]}, "normalised"),
        ({"optimizer": "SGD", "optimizers": [{"class": "SGD", "law": "sgd"}]}, "sgd"),
        ({"optimizer": "SGD+Adam", "optimizers": [{"law": "sgd"}, {"law": "normalised"}]}, "measured"),
        ({"optimizer": "Prodigy", "optimizers": [{"law": "measured"}]}, "measured"),
    ],
)
def test_the_law_of_a_stored_config(config, law):
    assert law_of(config) == law


def test_the_stored_clock_of_a_param_group_decides() -> None:
    """A run folder says how its own optimizer's decay acts, though this program does not know the optimizer."""
    groups = [{"weight_decay": 0.1, "clock": 2.5}, {"weight_decay": 0.0, "clock": None}]
    assert clocks_of({"optimizers": [{"class": "Mine", "law": "sgd", "groups": groups}]}) == {2.5, None}
    assert clocks_of({"optimizers": [{"class": "AdamW", "law": "normalised", "groups": groups[:1]}]}) == {2.5}
    assert clocks_of({"optimizers": [{"class": "AdamW", "law": "normalised", "groups": groups[1:]}]}) == {None}
    older = {"class": "SGD", "law": "sgd", "groups": [{"momentum": 0.75}, {"momentum": 0.75, "clock": 1.0}]}
    assert clocks_of({"optimizers": [older]}) == {4.0, 1.0}

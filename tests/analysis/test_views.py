"""Results show themselves: a line, HTML for a notebook, a table of pandas, axes of matplotlib."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from tests.analysis.made import made_run
from tests.analysis.series import breaking, columns

import scaleinv as si
from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.regimes import Verdict, classify


@pytest.fixture(scope="module")
def found():
    return find_periods(**columns(breaking(6000, 0.1, 0.005)))


def test_periods_show_themselves(found):
    assert repr(found).startswith("<Periods: periodic, ")
    assert found.answer in repr(found)
    assert "\n" not in repr(found)
    html = found._repr_html_()
    assert html.count("<tr>") == len(found.periods) + 1
    table = found.to_pandas()
    assert table["step"].tolist() == [event.step for event in found.candidates]
    assert table["spike"].sum() == len(found.break_downs) > 2
    axes = found.plot()
    assert axes.get_yscale() == "log"
    marks = [float(line.get_xdata()[0]) for line in axes.get_lines()[1:]]
    assert marks == [event.step for event in found.break_downs]
    assert axes.get_lines()[0].get_ydata().tolist() == found.log.loss.tolist()
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named[0] == "loss"
    assert sum("norm shrinks" in name for name in named) == 1


def test_a_verdict_shows_what_it_looked_at():
    rng = np.random.default_rng(0)
    losses = 0.5 * np.exp(rng.normal(0, 0.05, 60))
    names = {"loss": losses, "error": 0.2 + 0 * losses, "cosine": 0.9 + 0 * losses, "eg": 1 + 0 * losses}
    verdict = classify(made_run({("online", "total", name): values for name, values in names.items()}))
    assert repr(verdict).startswith("<Verdict: 2 chaotic equilibrium, stationary at loss ")
    line, *levels = verdict.plot().get_lines()
    assert line.get_ydata().tolist() == losses[30:].tolist()
    assert line.get_xdata().tolist() == list(range(31, 61))
    assert [level.get_ydata()[0] for level in levels] == [verdict.evidence["threshold"]]
    table = verdict.to_pandas().set_index("quantity")["value"]
    assert table["loss"] == pytest.approx(losses[30:].mean())
    with pytest.raises(si.UserError, match="no series to draw"):
        Verdict(2, verdict.evidence).plot()


@pytest.mark.parametrize("law", ["sgd", "sgdm", "adamw", "lion", "muon"])
def test_an_equilibrium_shows_how_it_is_reached(law):
    known = {"eg": 1.0} if law in ("sgd", "sgdm") else {"update": 2.0} if law == "muon" else {"dimension": 100}
    rest = si.equilibrium(law, 1e-2, 0.1, **known)
    above, below, level = rest.plot().get_lines()
    assert level.get_ydata()[0] == 1
    for line, start in ((above, 2.0), (below, 0.5)):
        steps, values = line.get_xdata(), line.get_ydata()
        assert values[0] == pytest.approx(start)
        # after four time scales what is left of the deviation is e^-4, in the power that relaxes
        left = (values[-1] ** rest.power - 1) / (start**rest.power - 1)
        assert left == pytest.approx(math.exp(-steps[-1] / rest.time_scale)) == pytest.approx(math.exp(-4))
    assert rest.to_pandas().loc[0].to_dict() == {
        "law": law,
        "angle": rest.angle,
        "norm": rest.norm,
        "time_scale": rest.time_scale,
    }
    assert f"<td>{rest.time_scale}</td>" in rest._repr_html_()


def test_the_norm_follows_the_recursion_of_updates_of_fixed_norm():
    """rho^2 <- (1 - lr wd)^2 rho^2 + (lr U)^2, independent directions, against the formula of the averages."""
    lr, wd = 1e-3, 0.1
    rest = si.equilibrium("muon", lr, wd, beta1=0.0, update=3.0)
    square = (2.0 * rest.norm) ** 2
    for _ in range(5000):
        square = (1 - lr * wd) ** 2 * square + (lr * 3.0) ** 2
    # the time scale is that of small lr wd: off by lr wd / 2 in the exponent
    assert math.sqrt(square) / rest.norm == pytest.approx(float(rest.relative_norm(2.0, 5000)), rel=2 * lr * wd)


def test_equilibria_of_several_settings_are_a_table_and_no_picture():
    rest = si.equilibrium("sgd", np.array([0.1, 0.2]), 1e-3)
    assert rest.to_pandas()["angle"].tolist() == rest.angle.tolist()
    assert "not known without eg" in rest._repr_html_()
    with pytest.raises(si.UserError, match="one lr and weight decay"):
        rest.plot()


def test_tables_without_pandas_say_what_to_install(monkeypatch, found):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for result in (found, si.equilibrium("sgd", 0.1, 1e-3)):
        with pytest.raises(si.UserError, match="pip install pandas"):
            result.to_pandas()

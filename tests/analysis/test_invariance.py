"""From where on eps matters, on rows with a known answer and on a network driven to small norms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scaleinv.analysis.invariance import MATTERS, Invariance, invariance
from scaleinv.analysis.periods import find_periods
from scaleinv.lab.config import Settings
from scaleinv.runfolder.read import Run, Series, load_run
from scaleinv.studies.obtain import obtain

LR, WD = 0.1, 0.01


def made(cosine: np.ndarray, rho: np.ndarray, g: np.ndarray) -> Invariance:
    epochs = np.arange(1, len(cosine) + 1)
    values = {"radial": cosine, "rho": rho, "g": g, "elr": LR / rho**2}
    metrics = {("online", "total", name): Series(10 * epochs, epochs, x.astype(float)) for name, x in values.items()}
    return invariance(Run(Path("run"), {"weight_decay": WD}, "", {}, None, metrics))


def test_the_share_is_that_of_the_recursion() -> None:
    """rho'^2 with and without the radial part, from the update itself."""
    rho, g, cosine = 2.0, 0.3, 0.02
    found = made(np.full(4, cosine), np.full(4, rho), np.full(4, g))
    x = np.array([rho, 0.0])
    gradient = g * np.array([cosine, np.sqrt(1 - cosine**2)])
    change = np.sum(((1 - LR * WD) * x - LR * gradient) ** 2) - rho**2
    without = np.sum(((1 - LR * WD) * x - LR * g * np.array([0.0, 1.0])) ** 2) - rho**2
    assert found.share[0] * (LR**2 * g**2 + 2 * LR * WD * rho**2) == pytest.approx(abs(change - without), rel=2e-3)


def test_where_it_begins_and_that_noise_does_not_count() -> None:
    n = 60
    rho, g = np.full(n, 1.0), np.full(n, 0.1)
    cosine = np.full(n, 1e-6)
    assert made(cosine, rho, g).broken_from is None
    cosine[10] = 1.0  # one epoch
    quiet = made(cosine, rho, g)
    assert quiet.broken_from is None
    assert "does not matter" in quiet.sentence
    cosine[40:] = 0.5
    found = made(cosine, rho, g)
    assert found.broken_from is not None
    assert 410 <= found.broken_from <= 450
    assert f"From step {found.broken_from} on" in found.sentence
    assert found.share[-1] > MATTERS


def test_nothing_measured_nothing_said() -> None:
    assert invariance(Run(Path("run"), {}, "", {}, None, {})).sentence == ""


def test_a_network_at_a_tiny_norm(tmp_path: Path) -> None:
    """At a norm of 0.02 the eps of 1e-5 is most of the variance before the norm layers; at 5 it is nothing."""
    settings = Settings(model="mlp", width=8, subset=256, steps=160, weight_decay=1e-3, evaluation="online")
    tiny, usual = (
        invariance(load_run(obtain(tmp_path, Settings(**{**settings.__dict__, "norm": norm}), lr=1e-4 * norm**2)))
        for norm in (0.02, 5.0)
    )
    assert tiny.broken_from is not None
    assert usual.broken_from is None
    assert np.median(tiny.cosine) > 100 * np.median(usual.cosine)


def falling(n: int = 60) -> np.ndarray:
    """A norm that weight decay alone shrinks, from 1 to e^-6."""
    return np.exp(-np.linspace(0, 6, n))


def test_a_silenced_gradient_is_told_where_decay_hides_it() -> None:
    """eg falls like rho^3 below a norm of 0.1, and the cosine rises: 1e-5 of the forces on the norm."""
    rho = falling()
    eg = 1e-5 * np.minimum(1, (rho / 0.1) ** 3)
    found = made(np.where(rho < 0.1, 0.05, 1e-5), rho, eg / rho)
    assert found.share.max() < 0.01
    assert found.silenced_from is not None
    assert 0.03 < found.silenced_rho <= 0.1
    assert f"Eps of the norm layers has silenced the gradient from step {found.silenced_from}" in found.sentence
    assert "will not come back" in found.sentence
    # the same where nothing is left of the gradient at last, and its cosine is not a number
    late = eg.copy()
    late[50:] = 0
    cosine = np.where(rho < 0.1, 0.05, 1e-5)
    cosine[50:] = np.nan
    assert made(cosine, rho, late / rho).silenced_from == found.silenced_from


def test_a_fall_with_a_gradient_is_not_silence() -> None:
    """Phase B: eg stays or converges, rounding is all of the cosine; or invariance is broken and the gradient acts."""
    rho = falling()
    for eg in (np.full(60, 1e-3), 1e-3 * np.exp(-np.linspace(0, 30, 60))):
        assert made(np.full(60, 1e-4), rho, eg / rho).silenced_from is None
    assert made(np.full(60, 0.05), rho, 1e-3 / rho).silenced_from is None


def test_a_stretch_is_told_as_one() -> None:
    """Broken at first, whole later: neither "does not matter" nor "from step 0 on"."""
    n = 60
    cosine = np.where(np.arange(n) < 15, 0.5, 1e-6)
    found = made(cosine, np.where(np.arange(n) < 15, 0.1, 1.0), np.full(n, 0.1))
    assert found.broken_from is None
    assert found.stretches == ((0, 170),)  # the running median is two epochs late
    assert "matters in steps 0-170 (28% of the run), at norms up to 1" in found.sentence
    assert "does not matter" not in found.sentence


def test_the_monitors_rows_are_other_quantities() -> None:
    """Its ``radial`` is the step's, weight decay included."""
    series = Series(np.arange(9), np.arange(9), np.full(9, -1e-3))
    metrics = {("online", "total", name): series for name in ("radial", "rho", "g", "elr")}
    assert invariance(Run(Path("run"), {"source": "monitor"}, "", {}, None, metrics)).sentence == ""


def test_a_run_that_eps_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    """The norm falls at the speed of weight decay for ever, with nothing left that could end it."""
    settings = Settings(model="mlp", width=8, subset=64, steps=800, weight_decay=2.5e8, norm=1.0, evaluation="online")
    found = find_periods(obtain(tmp_path, settings, lr=1e-10))
    assert found.verdict == "undecided"
    assert "eps of the norm layers has silenced the gradient" in found.answer
    assert found.phase == ""
    assert "phase" not in found.answer
    assert not any("does not matter" in sentence for sentence in found.evidence)

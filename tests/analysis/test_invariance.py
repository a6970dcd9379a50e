"""From where on eps matters, on rows with a known answer and on a network driven to small norms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scaleinv.analysis.invariance import MATTERS, Invariance, invariance
from scaleinv.analysis.runs import Run, Series, load_run
from scaleinv.lab.runs import obtain
from scaleinv.lab.settings import Settings

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

"""Effective step sizes of the toy, whose equilibrium is known, and of made-up records."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.made import made_run

from scaleinv.analysis.ess import GroupEss, epoch_equalisation, equalisation, from_steps, profile, residuals
from scaleinv.errors import UserError

ALPHAS = np.array([1.0, 2.0, 5.0])


def toy(k: float, steps: int, seed: int = 0) -> SimpleNamespace:
    """A per-step record of SGD on sum alpha_i x_i^2/(x_i^2 + y_i^2) on the unit sphere, computed the plain way."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(len(ALPHAS), 2))
    w /= np.linalg.norm(w)
    lr = k / ALPHAS.sum()
    rho_sq, g, angle, total = [], [], [], []
    for _ in range(steps):
        x, y = w[:, 0], w[:, 1]
        r = x**2 + y**2
        gradient = (2 * ALPHAS * x * y / r**2)[:, None] * np.stack([y, -x], 1)
        new = w - lr * gradient
        new /= np.linalg.norm(new)
        rho_sq.append(r)
        g.append(np.linalg.norm(gradient, axis=1))
        cosines = np.sum(w * new, 1) / np.linalg.norm(w, axis=1) / np.linalg.norm(new, axis=1)
        angle.append(np.arccos(np.clip(cosines, -1, 1)))
        total.append(2 * math.asin(min(1.0, np.linalg.norm(w - new) / 2)))
        w = new
    rho_sq, g, angle = np.array(rho_sq), np.array(g), np.array(angle)
    names = ["a", "b", "c"]
    groups = {n: SimpleNamespace(rho_sq=rho_sq[:, i], g=g[:, i], angle=angle[:, i]) for i, n in enumerate(names)}
    whole = {"lr": np.full(steps, lr), "rho_sq": rho_sq.sum(1), "angle": np.array(total)}
    return SimpleNamespace(**whole, groups=groups, law="sgd")


def test_the_relations_hold_on_the_toy() -> None:
    record = from_steps(toy(1.4, 400))
    assert record.names == ("a", "b", "c")
    found = residuals(record)
    assert max(found.sum_rule[0], found.feedback[0]) < 1e-13
    assert found.convex[0] < 1e-9  # through an angle
    assert found.steps == 400


def test_a_wrong_record_is_told_by_its_residuals() -> None:
    record = toy(1.4, 400)
    record.groups["b"].g[200] *= 1.5
    found = residuals(from_steps(record))
    assert found.worst_step == 200
    assert found.feedback[0] > 0.01
    assert found.convex[0] > 0.01
    record = toy(1.4, 400)
    record.groups["a"].rho_sq[300:] *= 1.01
    assert residuals(from_steps(record)).sum_rule[0] > 1e-4


def test_the_toy_equalises_above_the_threshold() -> None:
    record = from_steps(toy(1.4, 3000))
    found = equalisation(record, 500)
    assert found.verdict == "equal", found.reason
    assert found.ratio.value < 1.01
    # eq. 12: elr_i* = elr sum(alpha)/alpha_i, up to the neutral centre's amplitude
    assert found.elrs == pytest.approx(1.4 / ALPHAS, rel=0.1)
    assert found.time_scale == pytest.approx(1 / np.mean(np.log1p(record.total_ess[500:] ** 2)))
    assert found.clock == pytest.approx(2500 / found.time_scale)
    assert found.window == (500, 3000)


def test_the_toy_does_not_below() -> None:
    found = equalisation(from_steps(toy(0.3, 300)))
    assert found.verdict == "unequal", found.reason
    assert found.clock < 1


def test_means_differ_by_exactly_the_change_of_the_elrs() -> None:
    record = from_steps(toy(1.5, 1001))
    found = equalisation(record, 0, 1000)
    change = np.log(record.elr[1000] / record.elr[0]) / 1000
    assert np.array([found.total.value - m.value for m in found.means]) == pytest.approx(change, abs=1e-9)


def test_too_short_to_be_equal() -> None:
    ess = np.full((50, 2), 0.01) * np.exp(0.001 * np.random.default_rng(0).normal(size=(50, 2)))
    record = GroupEss(("a", "b"), np.full((50, 2), 0.1), ess, np.full(50, 0.05), np.full(50, 0.01))
    found = equalisation(record)
    assert found.verdict == "undecided"
    assert "too short" in found.reason
    still = GroupEss(("a", "b"), np.full((50, 2), 0.1), 0 * ess, np.full(50, 0.05), np.zeros(50))
    assert equalisation(still).verdict == "undecided"
    assert equalisation(still).time_scale == math.inf
    with pytest.raises(UserError, match="hold nothing"):
        equalisation(record, 60)


def test_profile_follows_the_approach() -> None:
    rng = np.random.default_rng(0)
    steps = 4000
    decay = np.exp(-np.arange(steps) / 400)
    ess = 0.2 * np.exp(0.05 * rng.normal(size=(steps, 2))) * np.stack([1 + 2 * decay, 1 - 0.5 * decay], 1)
    record = GroupEss(("a", "b"), np.full((steps, 2), 0.1), ess, np.full(steps, 0.05), np.full(steps, 0.2))
    found = profile(record)
    ratios = [w.ratio.value for w in found.windows]
    assert ratios[0] > 2
    assert found.settled is not None
    assert all(r <= 1.05 for r in ratios[found.settled :])
    assert ratios[found.settled - 1] > 1.05
    assert found.clock[-1] == pytest.approx(steps * math.log1p(0.04))
    assert found.settled_clock == found.clock[found.settled - 1]
    assert found.windows[-1].window[1] == steps
    lengths = np.diff([0.0, *found.clock])
    assert lengths[:-1] == pytest.approx(3.0 * 2 ** np.arange(len(lengths) - 1), rel=0.02)
    assert lengths[-1] >= 3.0 * 2 ** (len(lengths) - 1)
    edges = [w.window for w in found.windows]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    never = profile(GroupEss(("a", "b"), record.elr, ess * np.array([1.0, 2.0]), record.total_elr, record.total_ess))
    assert never.settled is None
    assert math.isnan(never.settled_clock)


def test_of_epoch_rows() -> None:
    steps = 2000
    record = from_steps(toy(1.3, steps + 1))
    each = 100
    ends = np.arange(0, steps + 1, each)
    series = {("online", "total", "cosine"): np.cos(np.arctan(record.total_ess[:steps])).reshape(-1, each).mean(1)}
    run = made_run(series, per_epoch=each)
    exact = {("train", "total", "elr"): record.total_elr[ends]}
    exact |= {("train", name, "elr"): record.elr[ends, i] for i, name in enumerate(record.names)}
    run.metrics.update(made_run(exact, first=0, per_epoch=each).metrics)
    found, slow = epoch_equalisation(run, 4, 20), equalisation(record, 400, 2000)
    assert found.verdict == "equal"
    assert found.window == slow.window
    # the differences are exact, the total is what the mean cosine says
    gaps = np.subtract([m.value for m in found.means], [m.value for m in slow.means])
    assert gaps == pytest.approx(gaps[0], abs=1e-9)
    assert found.total.value == pytest.approx(slow.total.value, rel=0.2)
    with pytest.raises(UserError, match="epochs 3 and 99"):
        epoch_equalisation(run, 3, 99)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_the_scale_of_the_weights_changes_nothing(seed: int, scale: float) -> None:
    record = toy(1.3, 60, seed)
    scaled = SimpleNamespace(
        lr=scale**2 * record.lr,
        rho_sq=scale**2 * record.rho_sq,
        angle=record.angle,
        law="sgd",
        groups={n: SimpleNamespace(rho_sq=scale**2 * g.rho_sq, g=g.g / scale) for n, g in record.groups.items()},
    )
    a, b = equalisation(from_steps(record)), equalisation(from_steps(scaled))
    assert [m.value for m in a.means] == pytest.approx([m.value for m in b.means], rel=1e-9)
    assert a.verdict == b.verdict


def test_runs_of_another_law_are_refused() -> None:
    """Relations of SGD: lr / rho^2 of an Adam run would be a number, and no ELR."""
    record = toy(1.3, 60)
    record.law = "normalised"
    with pytest.raises(UserError, match="hold for SGD; train with --optimizer sgd"):
        from_steps(record)
    adam = made_run({("online", "total", "cosine"): np.ones(4)}, optimizer="adam")
    with pytest.raises(UserError, match="'normalised': the relations"):
        epoch_equalisation(adam, 1, 3)


def test_a_record_without_groups_or_steps() -> None:
    with pytest.raises(UserError, match="no groups"):
        from_steps(SimpleNamespace(lr=np.ones(3), rho_sq=np.ones(3), angle=np.ones(3), groups={}, law="sgd"))
    record = from_steps(toy(1.3, 1))
    with pytest.raises(UserError, match="too few"):
        residuals(record)
    empty = GroupEss(("a",), np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0), np.zeros(0))
    with pytest.raises(UserError, match="no steps"):
        profile(empty)

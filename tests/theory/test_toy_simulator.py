"""The toy simulator against a slow and obvious one, engines against each other, and its report."""

import numpy as np
import pytest

from scaleinv.cli.actions import toy as toy_report
from scaleinv.errors import UserError
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy
from scaleinv.theory.simulators import toy_step as step


def slow(alphas, lr, steps, seed, *, wd=None, rho0=1.0):
    """Plain loops over groups: F, cosine, ESS and squared norms at every step."""
    x, y = (v[:, 0] for v in toy.start(len(alphas), [seed]))
    if wd is not None:
        x, y = x * rho0, y * rho0
    rows = []
    for _ in range(steps):
        before = np.concatenate([x, y])
        gx, gy = np.empty_like(x), np.empty_like(y)
        loss = 0.0
        for i, a in enumerate(alphas):
            r2 = x[i] ** 2 + y[i] ** 2
            loss += a * x[i] ** 2 / r2
            gx[i], gy[i] = 2 * a * x[i] * y[i] ** 2 / r2**2, -2 * a * y[i] * x[i] ** 2 / r2**2
        rho, g = np.linalg.norm(before), np.sqrt((gx**2 + gy**2).sum())
        sizes = x**2 + y**2
        group = lr * np.sqrt(gx**2 + gy**2) / np.sqrt(sizes)
        keep = 1.0 if wd is None else 1 - lr * wd
        x, y = keep * x - lr * gx, keep * y - lr * gy
        if wd is None:
            size = np.sqrt((x**2 + y**2).sum())
            x, y = x / size, y / size
        after = np.concatenate([x, y])
        cosine = before @ after / rho / np.linalg.norm(after)
        rows.append((loss, cosine, lr * g / rho, rho**2, group, sizes))
    return rows, (x, y)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("wd", [None, 0.3])
def test_against_plain_loops(engine, wd):
    if engine == "numba":
        pytest.importorskip("numba")
    alphas, lr, steps = [1.0, 0.4, 2.5], 0.4, 30
    record = toy.simulate(alphas, [0.1, lr], steps, seeds=[5, 6], every=10, wd=wd, rho0=1.3, engine=engine)
    rows, (x, y) = slow(alphas, lr, steps, 6, wd=wd, rho0=1.3)
    for w in range(3):
        part = rows[10 * w : 10 * w + 10]
        here = (w, 1, 1)
        losses = np.array([r[0] for r in part])
        assert record.loss[here] == pytest.approx(losses.mean(), rel=1e-9)
        assert record.loss_sd[here] == pytest.approx(losses.std(), rel=1e-6)
        assert record.cosine[here] == pytest.approx(np.mean([r[1] for r in part]), rel=1e-9)
        assert record.ess[here] == pytest.approx(np.mean([r[2] for r in part]), rel=1e-9)
        assert record.rho_sq[here] == pytest.approx(np.mean([r[3] for r in part]), rel=1e-9)
        assert record.log_ess[here] == pytest.approx(np.mean([np.log1p(r[2] ** 2) for r in part]), rel=1e-9)
        assert record.group_ess[here] == pytest.approx(np.mean([r[4] for r in part], axis=0), rel=1e-9)
        logs = np.mean([np.log1p(r[4] ** 2) for r in part], axis=0)
        assert record.group_log_ess[here] == pytest.approx(logs, rel=1e-9)
        assert record.group_rho_sq[here] == pytest.approx(np.mean([r[5] for r in part], axis=0), rel=1e-9)
    assert record.loss_at_end[2, 1, 1] == pytest.approx(float(toy.loss(x, y, alphas)), rel=1e-8)
    assert record.group_elr_at_end[2, 1, 1] == pytest.approx(lr / (x**2 + y**2), rel=1e-8)
    assert record.k == pytest.approx([0.39, 1.56])


@pytest.mark.parametrize("kind", [{}, {"wd": 0.1, "rho0": 1.7}, {"wd": 0.05, "noise": 0.02}, {"noise": 0.1}])
def test_engines_and_threads_give_the_same_bits(kind):
    pytest.importorskip("numba")
    rates = np.geomspace(0.02, 3, 30)  # 30 x 5 replicas: several blocks, the last one short
    runs = [
        toy.simulate([1.0, 2.0, 3.0], rates, 200, seeds=5, every=40, engine=engine, threads=threads, **kind)
        for engine, threads in (("numba", 1), ("numba", 3), ("numpy", 1), ("auto", 2))
    ]
    for other in runs[1:]:
        for name in runs[0].__dataclass_fields__:
            assert np.array_equal(getattr(runs[0], name), getattr(other, name), equal_nan=True), name


def test_large_products_are_exact():
    """Many steps of large ESS: the running product passes 2^300 often and its logarithm stays right."""
    record = toy.simulate([1.0, 2.0], [1e4], 400, seeds=2, every=400, engine="numpy")
    assert record.log_ess[0].min() > 5
    parts = toy.simulate([1.0, 2.0], [1e4], 400, seeds=2, every=1, engine="numpy")
    assert record.log_ess[0] == pytest.approx(parts.log_ess.mean(axis=0), rel=1e-12)
    assert record.group_log_ess[0] == pytest.approx(parts.group_log_ess.mean(axis=0), rel=1e-12)
    assert step.BIG * step.SMALL == 1.0


def test_replicas_do_not_depend_on_each_other():
    all_ = toy.simulate([1.0, 2.0], [0.1, 0.6], 100, seeds=4, every=50)
    one = toy.simulate([1.0, 2.0], [0.6], 100, seeds=[2], every=50)
    assert np.array_equal(all_.loss[:, 1, 2], one.loss[:, 0, 0])


def test_decay_makes_periods_and_the_sphere_none():
    record = toy.simulate([1.0], [0.1], 6000, seeds=2, every=5, wd=0.05, noise=1e-9)
    rises = np.diff(np.log(record.rho_sq[:, 0]), axis=0) > 0.1
    assert (rises[1:] & ~rises[:-1]).sum(axis=0).min() >= 10
    assert record.loss_at_end[300:].min() < 1e-6 < 1e-2 < record.loss_at_end[300:].max()
    calm = toy.simulate([1.0], [0.9], 6000, seeds=2, noise=1e-9)
    assert calm.loss_at_end[50:].max() < 1e-12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: toy.simulate([], [1.0], 10), "alpha"),
        (lambda: toy.simulate([1.0, -1.0], [1.0], 10), "alpha"),
        (lambda: toy.simulate([1.0], [np.inf], 10), "rates"),
        (lambda: toy.simulate([1.0], [1.0], 0), "steps 0"),
        (lambda: toy.simulate([1.0], [1.0], 10, every=11), "every 11"),
        (lambda: toy.simulate([1.0], [1.0], 10, wd=1.0), "lr \\* wd"),
        (lambda: toy.simulate([1.0], [1.0], 10, engine="gpu"), "engine 'gpu'"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(UserError, match=words):
        call()


def test_report_says_what_theory_and_run_say():
    alphas = [1.0, 2.0, 3.0]
    ks = [0.6, 1.0, 1.3, 3.0, 200.0]
    lines = toy_report.summarise(toy.simulate(alphas, [k / 6 for k in ks], 4000, seeds=4))
    assert [line.regime_predicted for line in lines] == [1, None, 2, None, 3]
    assert [line.regime_observed for line in (lines[0], lines[2], lines[4])] == [1, 2, 3]
    assert lines[2].level_observed == pytest.approx(lines[2].level_predicted, rel=0.01)
    assert lines[2].level_predicted == pytest.approx(6 * (1 - 1 / 1.3) / 2)
    assert lines[2].ess_observed == pytest.approx(kodryan2022.equilibrium_ess(1.3), rel=0.01)
    assert 1 <= lines[2].log_ess_spread < 1.01
    assert np.isnan(lines[1].level_predicted)
    assert lines[0].level_predicted == 0.0
    rows = toy_report.table(lines)
    assert len(rows) == 6
    assert {len(row) for row in rows} == {13}


def test_observed_regime_is_undecided_where_the_run_does_not_decide():
    assert toy_report.observed_regime(1.0, 2.0, 0.5, 3.0) is None
    assert toy_report.observed_regime(float("nan"), 1.0, 0.5, 3.0) is None
    assert toy_report.observed_regime(1.0, 1.0, 0.5, 3.0) == 2
    assert toy_report.observed_regime(2.9, 2.9, 0.01, 3.0) == 3
    assert toy_report.observed_regime(1e-9, 1.0, 1.0, 3.0) == 1

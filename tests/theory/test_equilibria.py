"""Equilibria of optimizers: the interface, limits that have to agree, high precision, and simulation."""

import itertools

import mpmath
import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.theory import equilibrium, kosson2024, wan2020
from scaleinv.theory import lobacheva2021 as norms
from scaleinv.theory.simulators import random_gradients, recursion


def test_sgd_is_the_fixed_point_of_the_recursion():
    e = equilibrium("sgd", 0.1, 0.02, eg=3.0)
    assert e.norm**2 == pytest.approx(norms.resting_rho_sq(3.0, 0.1, 0.02), rel=1e-12)
    assert e.angle == pytest.approx((2 * 0.1 * 0.02) ** 0.5, rel=1e-12)
    assert e.time_scale == 1 / (4 * 0.1 * 0.02)
    assert kosson2024.sgd_angle(0.1, 0.02) == e.angle
    plain = equilibrium("sgd", 0.1, 0.02, eg=3.0, corrected=False)
    assert plain.norm**2 == pytest.approx(norms.kappa(0.1, 0.02) * 3.0, rel=1e-12)
    # the ELR at rest depends on the product only (the intrinsic learning rate of Li, Lyu, Arora 2020)
    assert 0.1 / plain.norm**2 == pytest.approx((2 * 0.1 * 0.02) ** 0.5 / 3.0, rel=1e-12)


@pytest.mark.parametrize(("momentum", "start"), [(0.0, 2.0), (0.5, 2.0), (0.9, 2.0), (0.9, 0.7)])
def test_momentum_sets_the_time_scale_of_the_norm(momentum, start):
    """rho^4 goes to rest like plain SGD's at lr/(1 - momentum). The buffer needs 1/(1 - momentum) steps to fill, a
    share 4 lr wd/(1 - momentum)^2 of the time scale, which may delay it (here 2 % at 0.9) and more than once.
    """
    lr, wd = 0.1, 5e-3 * (1 - momentum)
    e = equilibrium("sgdm", lr, wd, momentum=momentum, eg=1.0)
    scale = int(e.time_scale)
    run = random_gradients.simulate(
        "sgdm", lr, wd, momentum=momentum, dimension=200, rho0=start * e.norm, replicas=8, steps=2 * scale, burn_in=1,
        every=scale // 2,
    )  # fmt: skip
    off = np.mean(run.rho_sq**2 / e.norm**4 - 1, axis=1) / (start**4 - 1)
    assert off[:2] == pytest.approx(np.exp([-0.5, -1.0]), rel=0.08)


def test_the_pace_of_weight_decay():
    """``(1 - dampening)/(1 - momentum)`` is what torch's SGD does: without gradients the norm falls by lr pace wd."""
    import torch

    from scaleinv.theory.optimizers import traits_of_names

    for options in ({}, {"dampening": 0.5}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True},
                    {"momentum": 0.8, "dampening": 0.3}):  # fmt: skip
        weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = torch.optim.SGD([weight], lr=0.01, weight_decay=1e-4, **options)
        norms = []
        for _ in range(600):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
            norms.append(weight.item())
        fall = -np.log(norms[-1] / norms[299]) / 300
        # the next order is lr wd/(1 - momentum) of it: 1e-5 at most
        assert fall == pytest.approx(0.01 * 1e-4 * traits_of_names(["SGD"]).clock(optimizer.param_groups[0]), rel=1e-4)
    assert traits_of_names(["Adam"]).clock({"betas": (0.9, 0.999)}) is None
    assert traits_of_names(["Adam"]).clock({"decoupled_weight_decay": True}) == 1
    assert traits_of_names(["Mine", "AdamW", "Adam"]).clock({}) == 1


def test_published_numbers():
    """Simulated values of the papers' notes: SGDM 0.022942, norm 3.1624 from eg 1; AdamW 0.0072548, Lion 0.004701."""
    assert wan2020.angle(0.1, 0.005, 0.9) == pytest.approx(0.022942, abs=5e-7)
    exact = (0.1 / (0.1 * 0.1 * 1.994737)) ** 0.25
    assert wan2020.rho_at_equilibrium(1.0, 0.1, 0.1, 0.9) == pytest.approx(exact, rel=1e-6)
    assert kosson2024.sgd_norm(1.0, 0.1, 0.1, 0.9) == pytest.approx(5**0.25, rel=1e-12)
    assert kosson2024.adamw_angle(1e-3, 0.5, 0.9) == pytest.approx(0.0072548, abs=5e-8)
    assert kosson2024.adamw_norm(0.1, 0.5, 2000.0) == pytest.approx(200**0.5, rel=1e-12)
    assert kosson2024.lion_angle(1e-3, 0.5, 0.9, 0.99) == pytest.approx(0.004701, abs=5e-7)


def test_momentum_correction_tends_to_the_leading_order():
    for lr in (1e-3, 1e-6):
        exact = equilibrium("adamw", lr, 0.5, beta1=0.9, dimension=100.0)
        order = equilibrium("adamw", lr, 0.5, beta1=0.9, dimension=100.0, corrected=False)
        assert exact.angle == pytest.approx(order.angle, rel=lr)
        assert exact.norm == pytest.approx(order.norm, rel=20 * lr * 0.5 / 0.1)
        assert exact.time_scale == 1 / (2 * lr * 0.5)
    # without momentum an update of fixed norm: ||W||^2 = lr^2 U^2/(1 - al^2)
    assert kosson2024.averaged_update_norm(0.1, 0.2, 0.0, 3.0) == pytest.approx(0.3 / (1 - 0.98**2) ** 0.5, rel=1e-12)
    assert kosson2024.averaged_update_angle(0.1, 0.2, 0.0) == pytest.approx((1 - 0.98**2) ** 0.5, rel=1e-12)


def test_averaged_update_norm_by_its_series():
    """W = -lr sum_j al^j u_(t-j), corr(u_t, u_(t+k)) = b^k: the double sum in high precision."""
    lr, wd, b, update = 0.05, 0.4, 0.8, 2.0
    al = 1 - lr * wd
    with mpmath.workdps(30):
        total = mpmath.nsum(lambda k: (2 if k else 1) * (mpmath.mpf(al) * b) ** int(k), [0, mpmath.inf])
        expected = lr * update * mpmath.sqrt(total / (1 - mpmath.mpf(al) ** 2))
    assert kosson2024.averaged_update_norm(lr, wd, b, update) == pytest.approx(float(expected), rel=1e-12)


def test_lion_series_in_high_precision():
    lr, wd, b1, b2 = 1e-2, 0.5, 0.9, 0.99
    with mpmath.workdps(30):
        # weights of the interpolation on past gradients, correlations from them
        w = [mpmath.mpf(1 - b1)] + [mpmath.mpf(b1) * (1 - b2) * mpmath.mpf(b2) ** j for j in range(6000)]
        variance = sum(v * v for v in w)
        al = mpmath.mpf(1 - lr * wd)
        total = mpmath.mpf(1)
        first = sum(a * b for a, b in itertools.pairwise(w)) / variance
        for k in range(1, 3000):
            # beyond lag 1 the correlation falls by b2 per lag
            total += 2 * al**k * (2 / mpmath.pi) * mpmath.asin(first * mpmath.mpf(b2) ** (k - 1))
        norm = lr * mpmath.sqrt(50 * total / (1 - al**2))
    assert kosson2024.lion_norm(lr, wd, b1, b2, 50.0) == pytest.approx(float(norm), rel=1e-9)
    # geometry: the step of length lr sqrt(d) on a norm at rest
    step = lr * 50**0.5 / kosson2024.lion_norm(lr, wd, b1, b2, 50.0)
    al = 1 - lr * wd
    inside = (1 + al**2 - step**2) / (2 * al)  # law of cosines between al W and the new W
    assert kosson2024.lion_angle_exact(lr, wd, b1, b2) == pytest.approx(np.arccos(inside), rel=1e-7)
    # small lr, close correlations: the paper's linearised form from above by a few per cent at most
    assert kosson2024.lion_angle_exact(1e-5, 0.5, 0.9, 0.99) == pytest.approx(
        kosson2024.lion_angle(1e-5, 0.5, 0.9, 0.99), rel=0.03
    )


@pytest.mark.parametrize("law", ["sgd", "sgdm", "adamw", "lion"])
def test_simulation(law):
    lr, wd = (0.1, 0.02) if law.startswith("sgd") else (2e-3, 1.0)
    run = random_gradients.simulate(law, lr, wd, dimension=600, steps=3500, burn_in=1500, replicas=4, rho0=1.0, seed=4)
    size = {"eg": float(np.sqrt((run.eg**2).mean()))} if law.startswith("sgd") else {"dimension": 600.0}
    extra = {"momentum": 0.9} if law == "sgdm" else {"beta1": 0.9} if law != "sgd" else {}
    e = equilibrium(law, lr, wd, **size, **extra)
    spread = run.norm.std(ddof=1) / 2
    assert run.angle.mean() == pytest.approx(e.angle, rel=0.015)
    assert abs(run.norm.mean() - e.norm) < 3 * spread + 0.02 * e.norm


def test_simulation_is_reproducible_and_refuses():
    a, b = (random_gradients.simulate("lion", 0.01, 0.5, dimension=20, steps=60, burn_in=30, seed=1) for _ in range(2))
    assert np.array_equal(a.angle, b.angle)
    with pytest.raises(UserError, match="muon"):
        random_gradients.simulate("muon", 0.1, 0.1)
    with pytest.raises(UserError, match="burn_in"):
        random_gradients.simulate("sgd", 0.1, 0.1, steps=10, burn_in=10)


def test_missing_quantities_are_named():
    e = equilibrium("sgd", 0.1, 0.1)
    assert np.isnan(e.norm)
    assert e.missing == "eg"
    assert equilibrium("lion", 0.1, 0.1).missing == "dimension"
    assert equilibrium("muon", 0.1, 0.1).missing == "update"
    assert equilibrium("muon", 0.1, 0.1, update=3.0).missing == ""
    with pytest.raises(UserError, match="choose one of: sgd, sgdm, adamw, lion, muon"):
        equilibrium("adagrad", 0.1, 0.1)


def test_drop_of_the_learning_rate():
    lr, wd, q = 0.1, 0.01, 0.25
    path = recursion.run(norms.resting_rho_sq(1.0, lr, wd), q * lr, wd, recursion.constant(1.0), 20_000)[:, 0]
    steps = np.array([0, 500, 1000, 3000, 20_000])
    angles = norms.step_angle(path[steps], 1.0, q * lr, wd)
    assert wan2020.angle_after_drop(steps, lr, wd, q) == pytest.approx(angles, rel=2e-3)

"""Amin et al. 2026, the thermodynamics papers and Lyu et al. 2022."""

import mpmath
import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.theory import OutsideConditions, amin2026, lyu2022
from scaleinv.theory import sadrtdinov2025 as thermo
from scaleinv.theory.simulators import gas, one_sample, recursion


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_the_spiral_of_the_solvable_model(keep):
    q, phi = amin2026.tilt_fixed_point(keep)
    assert amin2026.tilt_step(q, phi, keep) == pytest.approx((q, phi), rel=1e-14)
    with mpmath.workdps(40):
        a = mpmath.mpf(keep)

        def step(u, v):
            n = mpmath.sqrt(1 + v**2 * (1 - u**2))
            return (u + v * (1 - u**2)) / n, v / (a * n) ** 2

        u, v = mpmath.sqrt((1 + a) / 2), mpmath.sqrt(2 * (1 + a)) / a
        part = lambda f, i: mpmath.diff(f, (u, v), (1 - i, i))  # noqa: E731
        first, second = lambda s, w: step(s, w)[0], lambda s, w: step(s, w)[1]
        determinant = part(first, 0) * part(second, 1) - part(first, 1) * part(second, 0)
        trace = part(first, 0) + part(second, 1)
        assert trace**2 < 4 * determinant  # a spiral
        assert amin2026.tilt_eigenvalue_modulus(keep) == pytest.approx(float(mpmath.sqrt(determinant)), rel=1e-12)
    assert amin2026.tilt_eigenvalue_modulus(keep) > 1


def test_phi_in_numbers():
    assert amin2026.phi(2.0, 0.4, 0.5) == pytest.approx(0.4 / (0.8 * 2), rel=1e-15)
    assert amin2026.schedule_factor(0.4, 0.5, 0.2, 0.25) == pytest.approx(0.5 / (0.8 * 0.95), rel=1e-15)
    # from the norm recursion, by itself
    rho_sq, lr, wd, lr2, wd2, eg = 1.7, 0.4, 0.1, 0.3, 0.2, 1.1
    new = recursion.run(rho_sq, lr, wd, recursion.constant(eg), 1)[1, 0]
    phi = lr / ((1 - lr * wd) * rho_sq)
    expected = lr2 / ((1 - lr2 * wd2) * new)
    factor = amin2026.schedule_factor(lr, wd, lr2, wd2)
    assert amin2026.next_phi(phi, eg, factor) == pytest.approx(expected, rel=1e-14)
    assert amin2026.contracts(phi, eg, factor) == float(expected <= phi)
    assert amin2026.contracts(0.1, 1.0, 1.02) == 0.0
    assert amin2026.contracts(0.2, 1.0, 1.02) == 1.0
    assert amin2026.contracts(1e-9, 1.0, 1.0) == 1.0


def test_schedule_of_constant_factor():
    lr = 0.5
    for _ in range(5):
        new = amin2026.lr_for_constant_factor(lr, 0.05, 0.9)
        assert amin2026.schedule_factor(lr, 0.05, new, 0.05) == pytest.approx(0.9, rel=1e-14)
        lr = new


def test_gas_laws_agree_with_each_other():
    elr, wd, noise, d = 0.01, 0.03, 1.7, 5.0
    temperature = thermo.temperature_fixed_elr(elr, noise)
    r = thermo.radius(temperature, wd, d)
    assert r == pytest.approx(thermo.radius_fixed_elr(elr, wd, noise, d), rel=1e-14)
    assert thermo.pressure(temperature, r, d) == pytest.approx(wd, rel=1e-14)
    # the learning rate whose ELR at that radius is elr gives the same state
    lr = elr * r**2
    assert thermo.radius_fixed_lr(lr, wd, noise, d) == pytest.approx(r, rel=1e-14)
    assert thermo.temperature_fixed_lr(lr, wd, noise, d) == pytest.approx(temperature, rel=1e-14)
    assert thermo.mean_excess_loss(temperature, d) == pytest.approx(2 * temperature, rel=1e-14)
    # a clean gradient adds to the noise
    assert thermo.radius_fixed_elr(elr, wd, 0.0, d, 4 * noise**2) == pytest.approx(r, rel=1e-14)
    assert thermo.radius_fixed_lr(lr, wd, 0.0, d, 4 * noise**2) == pytest.approx(r, rel=1e-14)


@pytest.mark.parametrize(("protocol", "wd"), [("elr", 0.03), ("lr", 0.03), ("sphere", 0.0)])
def test_gas_simulation(protocol, wd):
    run = gas.simulate(protocol, 0.02, wd=wd, replicas=256, steps=2500, burn_in=1500, rho0=0.9, seed=1)
    if protocol == "sphere":
        t = thermo.temperature_fixed_elr(0.02, 1.0)
        assert run.pressure == pytest.approx(thermo.pressure(t, 0.9, 3.0), rel=0.05)
        assert run.rho_sq == pytest.approx(0.81, rel=1e-12)
    else:
        law = thermo.radius_fixed_elr if protocol == "elr" else thermo.radius_fixed_lr
        assert np.sqrt(run.rho_sq) == pytest.approx(law(0.02, wd, 1.0, 3.0, run.gradient_sq), rel=0.03)
        t = thermo.temperature_fixed_elr(0.02, 1.0)
        if protocol == "lr":
            t = thermo.temperature_fixed_lr(0.02, wd, 1.0, 3.0)
    # mean of 1 + mu.x/|x| at T: 1 - coth(1/T) + T, which is T to 1e-40 at these
    assert abs(run.loss - thermo.mean_excess_loss(t, 3.0)) < 4 * run.loss_se + 0.04 * t
    with pytest.raises(UserError, match="protocol"):
        gas.simulate("heat", 0.1)


def test_one_sample_toy():
    over = one_sample.simulate(one_sample.OVERPARAMETERISED, [0.5, 1.3], 4000, seeds=(0, 1))
    assert over[0].max() < 1e-12
    assert over[1].min() > 1e-3
    assert [thermo.one_sample_converges(e) for e in (0.5, 1.3)] == [1.0, 0.0]
    with pytest.raises(OutsideConditions):
        thermo.one_sample_converges(1.0)
    values = np.linalg.eigvalsh(one_sample.UNDERPARAMETERISED.T @ one_sample.UNDERPARAMETERISED / 3)
    assert pytest.approx(values[0], rel=1e-12) == thermo.UNDERPARAMETERISED_MINIMUM
    under = one_sample.simulate(one_sample.UNDERPARAMETERISED, [0.01], 4000)
    assert thermo.UNDERPARAMETERISED_MINIMUM < under[0, 0] < 0.05
    with pytest.raises(UserError):
        one_sample.simulate(one_sample.UNDERPARAMETERISED, [-1.0], 10)


def test_one_sample_gradient_by_differences():
    """One step against finite differences of the sampled loss on the sphere."""
    a, x, rate = one_sample.UNDERPARAMETERISED[1], one_sample.START, 0.2
    f = lambda v: (a @ v) ** 2 / (v @ v)  # noqa: E731
    grad = np.array([(f(x + e) - f(x - e)) / 2e-6 for e in np.eye(3) * 1e-6])
    new = x - rate * grad
    new /= np.linalg.norm(new)
    vectors = np.stack([a, a])
    loss = one_sample.simulate(vectors, [rate], 2, measure_last=1.0)  # mean over steps 1 and 2
    second = new - rate * np.array([(f(new + e) - f(new - e)) / 2e-6 for e in np.eye(3) * 1e-6])
    second /= np.linalg.norm(second)
    assert loss[0, 0] == pytest.approx((f(new) + f(second)) / 2, rel=1e-7)


def test_edge_of_stability():
    x = 1e-3
    for elr, stays in ((0.49, True), (0.51, False)):
        # one literal step of descent on 2 x^2 (second derivative 4)
        new = x - elr * 4 * x
        assert new / x == pytest.approx(lyu2022.perturbation_factor(elr, 4.0), rel=1e-12)
        assert (abs(new) < x) is stays
        assert (elr < lyu2022.edge_elr(4.0)) is stays


def test_values_that_mean_nothing_are_refused():
    with pytest.raises(OutsideConditions, match="is_a_cosine"):
        amin2026.tilt_step(1.5, 0.1, 0.9)
    with pytest.raises(OutsideConditions, match="decays"):
        amin2026.tilt_fixed_point(1.0)
    with pytest.raises(UserError, match="factor is -1"):
        amin2026.next_phi(0.1, 1.0, -1.0)
    with pytest.raises(UserError, match="temperature is -1; it has to be zero or positive"):
        thermo.radius(-1.0, 0.1, 3.0)
    with pytest.raises(UserError, match="dimension is 1"):
        thermo.pressure(0.1, 1.0, 1.0)

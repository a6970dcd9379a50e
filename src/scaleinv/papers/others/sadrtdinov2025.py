"""Claims of the thermodynamics papers (2505.23489 free energy, 2511.07308 ideal gas) on their toy models."""

import numpy as np

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.theory import sadrtdinov2025 as theory
from scaleinv.theory.simulators import gas, one_sample


def one_sample_toy(sheet: Sheet, context: Context) -> None:
    """Check ``toy-one-sample``."""
    elrs = [0.1, 0.5, 0.9, 0.99, 1.01, 1.1, 1.5, 5.0]
    over = one_sample.simulate(one_sample.OVERPARAMETERISED, elrs, 20_000, seeds=range(4))
    for elr, losses in zip(elrs, over):
        converged = bool(losses.max() < 1e-12)
        sheet.true(f"converges at elr {elr:g}", converged, bool(theory.one_sample_converges(elr)))
    under = one_sample.simulate(one_sample.UNDERPARAMETERISED, [0.003, 0.1, 1.0], 20_000, seeds=range(4))
    least = theory.UNDERPARAMETERISED_MINIMUM
    sheet.close("under-parameterised, elr 0.003", float(under[0].mean()), least, rel=0.01)
    sheet.at_least("under-parameterised, least of all", float(under.min()), least)
    rng = np.random.default_rng(26)
    u = rng.standard_normal((200_000, 3))
    u /= np.sqrt((u * u).sum(axis=1, keepdims=True))
    losses = one_sample.mean_loss(u, one_sample.UNDERPARAMETERISED)
    sheet.at_least("least over random directions", float(losses.min()), least)
    for elr, row in zip((0.1, 1.0), under[1:]):
        sheet.at_least(f"under-parameterised, elr {elr:g}, over the minimum", float(row.mean() / least), 1.05)


def ideal_gas(sheet: Sheet, context: Context) -> None:
    """Check ``ideal-gas``."""
    cases: tuple[tuple[gas.Protocol, float, float, float], ...] = (
        ("elr", 0.01, 0.02, 0.71),
        ("elr", 0.005, 0.005, 1.0),
        ("lr", 0.01, 0.01, 1.0),
        ("lr", 0.02, 0.005, 1.4),
        ("sphere", 0.01, 0.0, 2.0),
    )
    for protocol, rate, wd, rho0 in cases:
        run = gas.simulate(protocol, rate, wd=wd, rho0=rho0, replicas=2048, steps=6000, burn_in=2000, seed=17)
        name = f"{protocol} {rate:g}" + (f", wd {wd:g}" if wd else "")
        if protocol == "lr":
            temperature = theory.temperature_fixed_lr(rate, wd, 1.0, 3.0)
            corrected = theory.radius_fixed_lr(rate, wd, 1.0, 3.0, run.gradient_sq)
        else:
            temperature = theory.temperature_fixed_elr(rate, 1.0)
            corrected = theory.radius_fixed_elr(rate, max(wd, 1e-9), 1.0, 3.0, run.gradient_sq)
        expected = theory.mean_excess_loss(temperature, 3.0)
        sheet.close(f"{name}: loss", run.loss, expected, rel=0.02, se=run.loss_se)
        if protocol == "sphere":
            sheet.close(f"{name}: pressure", run.pressure, theory.pressure(temperature, rho0, 3.0), rel=0.02)
        else:
            radius = float(np.sqrt(run.rho_sq))
            sheet.close(f"{name}: radius", radius, theory.radius(temperature, wd, 3.0), rel=0.02)
            sheet.close(f"{name}: radius, corrected", radius, corrected, rel=0.01)

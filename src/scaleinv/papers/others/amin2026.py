"""Claims of Amin, Chang, Khanna 2026: the dynamics of Phi and why rest is unstable."""

import numpy as np

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.theory import amin2026 as theory


def phi_dynamics(sheet: Sheet, context: Context) -> None:
    """Check ``phi-dynamics``."""
    rng = np.random.default_rng(26)
    beta = rng.standard_normal(9)
    beta /= np.linalg.norm(beta)
    x, lr, wd = rng.standard_normal(9), 0.4, 0.1
    worst_phi = worst_direction = worst_model = 0.0
    wrong = 0
    for t in range(500):
        lr_next = 0.4 * (1 + 0.3 * np.sin(t / 7))
        rho = np.linalg.norm(x)
        u = x / rho
        gbar = -(beta - (beta @ u) * u)
        new = (1 - lr * wd) * x - lr * gbar / rho
        phi = theory.phi(rho**2, lr, wd)
        phi_next = theory.phi(float(new @ new), lr_next, wd)
        eg = float(np.linalg.norm(gbar))
        factor = theory.schedule_factor(lr, wd, lr_next, wd)
        predicted = theory.next_phi(phi, eg, factor)
        worst_phi = max(worst_phi, abs(predicted / phi_next - 1))
        wrong += bool(theory.contracts(phi, eg, factor)) != (phi_next <= phi)
        v = u - phi * gbar
        worst_direction = max(worst_direction, float(np.abs(v / np.linalg.norm(v) - new / np.linalg.norm(new)).max()))
        q_next, _ = theory.tilt_step(float(beta @ u), phi, 1 - lr * wd)
        worst_model = max(worst_model, abs(float(q_next) - float(beta @ new) / float(np.linalg.norm(new))))
        x, lr = new, lr_next
    sheet.at_most("relative error of Phi'", float(worst_phi), 1e-13)
    sheet.at_most("error of the equivalent step on the sphere", worst_direction, 1e-13)
    sheet.at_most("error of the model's step", worst_model, 1e-13)
    sheet.true("steps where contraction was told wrong", wrong, 0)
    for keep in (0.5, 0.9, 0.99):
        point = np.array(theory.tilt_fixed_point(keep))
        moved = np.array(theory.tilt_step(point[0], point[1], keep))
        sheet.at_most(f"fixed point moves by, a {keep:g}", float(np.abs(moved - point).max()), 1e-14)
        columns = []
        for e in np.eye(2) * 1e-6:
            ends = [np.array(theory.tilt_step(point[0] + s * e[0], point[1] + s * e[1], keep)) for s in (1, -1)]
            columns.append((ends[0] - ends[1]) / 2e-6)
        modulus = np.abs(np.linalg.eigvals(np.stack(columns, axis=1)))
        expected = theory.tilt_eigenvalue_modulus(keep)
        for name, value in zip("12", modulus):
            sheet.close(f"eigenvalue {name}, a {keep:g}", float(value), expected, abs=1e-7)
        sheet.at_least(f"modulus, a {keep:g}", float(modulus.min()), 1.0)
    lr = 0.3
    for _ in range(20):
        nxt = theory.lr_for_constant_factor(lr, 0.1, 0.98)
        worst_phi = max(worst_phi, abs(theory.schedule_factor(lr, 0.1, nxt, 0.1) - 0.98))
        lr = nxt
    sheet.at_most("schedule of constant B off by", float(worst_phi), 1e-13)

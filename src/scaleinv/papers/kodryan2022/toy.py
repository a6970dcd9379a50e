"""Claims of Kodryan, Lobacheva et al. 2022 (three regimes) about the toy function."""

import numpy as np

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.theory import kodryan2022 as theory
from scaleinv.theory import lyu2022
from scaleinv.theory.simulators import toy


def one_group(sheet: Sheet, context: Context) -> None:
    """Check ``toy-one-group``."""
    for alpha in (0.5, 3.0):
        for a in (1.2, 2.0, 5.0):
            record = toy.simulate([alpha], [a / alpha], 4000, seeds=4)
            last = (-1, 0)
            level = theory.level(a / alpha, alpha)
            sheet.close(f"level, alpha {alpha:g}, a {a:g}", float(record.loss[last].mean()), level, rel=1e-6)
            ess = float(record.ess[last].mean())
            sheet.close(f"ESS, alpha {alpha:g}, a {a:g}", ess, theory.equilibrium_ess(a), rel=1e-6)
            cosine = float(record.cosine[last].mean())
            sheet.close(f"cosine, alpha {alpha:g}, a {a:g}", cosine, theory.equilibrium_cosine(a), rel=1e-6)
        for a in (0.2, 0.45, 0.6, 0.95):
            x, y = 1e-4, 1.0
            ratios = []
            for _ in range(3):
                size = x * x + y * y
                rate = (a / alpha) * size
                gx, gy = 2 * alpha * x * y * y / size**2, -2 * alpha * y * x * x / size**2
                before = abs(x / y)
                x, y = x - rate * gx, y - rate * gy
                ratios.append(abs(x / y) / before)
            expected = theory.contraction(a / alpha, alpha)
            sheet.close(f"contraction, alpha {alpha:g}, a {a:g}", ratios[0], expected, rel=1e-6)
    for a in (1.3, 3.0):
        # multiplier of the orbit: a small deviation of p = 1 - 2 share after one step
        p = 1 / a
        shift = 1e-6
        moved = [_share_step(q, a) for q in (p - shift, p + shift)]
        slope = (moved[1] - moved[0]) / (2 * shift)
        sheet.close(f"multiplier of the orbit, a {a:g}", slope, theory.orbit_multiplier(a, 1.0), abs=1e-6)


def _share_step(p: float, a: float) -> float:
    """Step a group in p = (y^2 - x^2)/(x^2 + y^2), from explicit x and y."""
    x, y = np.sqrt((1 - p) / 2), np.sqrt((1 + p) / 2)
    xn, yn = x - a * 2 * x * y * y, y + a * 2 * y * x * x
    return float((yn * yn - xn * xn) / (xn * xn + yn * yn))


def proposition_3(sheet: Sheet, context: Context) -> None:
    """Check ``toy-convergence``."""
    for alpha in (0.3, 1.0, 7.0):
        a = np.geomspace(0.1, 20, 40)
        a = a[np.abs(a - 1) > 0.01]
        record = toy.simulate([alpha], a / alpha, 20_000, seeds=16, every=1000)
        final = record.loss[-1] / alpha
        below, above = a < 1, a > 1
        sheet.at_most(f"largest F / alpha below the edge, alpha {alpha:g}", float(final[below].max()), 1e-12)
        expected = theory.level(a[above] / alpha, alpha)[:, None] / alpha
        off = np.abs(final[above] / expected - 1).max()
        sheet.at_most(f"relative error of the level above, alpha {alpha:g}", float(off), 1e-4)
        # linear: the logarithm of F falls by a constant per step
        short = toy.simulate([alpha], [0.8 / alpha], 60, seeds=4, every=20)
        rate = np.log(short.loss_at_end[2, 0] / short.loss_at_end[1, 0]) / 20
        slope = 2 * np.log(theory.contraction(0.8 / alpha, alpha))
        sheet.close(f"log F per step at 0.8 of the edge, alpha {alpha:g}", float(rate.mean()), slope, rel=1e-3)


def many_groups(sheet: Sheet, context: Context) -> None:
    """Check ``toy-many-groups``."""
    sets = {"n=5": np.arange(1.0, 6.0), "n=10": np.random.default_rng(10).uniform(0.5, 1.5, 10)}
    for name, alphas in sets.items():
        total = float(alphas.sum())
        low = toy.simulate(
            alphas, np.array([0.5, 0.8, 0.95]) * theory.convergence_threshold(alphas), 20_000, seeds=16, every=1000
        )
        sheet.at_most(f"{name}: largest F below the edge", float(low.loss[-1].max()), 1e-9 * total)
        ks = np.array([1.05, 1.15, 1.3, 1.45, 1.55, 1.6])
        record = toy.simulate(alphas, ks / total, 20_000, seeds=16, every=10_000)
        first, last = record.group_elr_at_end[0], record.group_elr_at_end[1]
        for j, k in enumerate(ks.tolist()):
            level = total * theory.equilibrium_level(k)
            # around the resonance k = sqrt 2 (a quarter turn per step) the neutral centre's motion shows in the level
            resonant = abs(k - np.sqrt(2)) < 0.06
            off = 0.02 if resonant else 5e-3
            sheet.close(f"{name}: level at k {k:g}", float(record.loss[1, j].mean()), level, rel=off)
            if k >= 1.15:
                ess = float(np.median(record.ess[1, j]))
                sheet.close(f"{name}: median ESS at k {k:g}", ess, theory.equilibrium_ess(k), rel=0.02)
            # the mean of rho_i^2 is the inverse of the (harmonic) mean ELR of the group
            shares = np.median(record.group_rho_sq[1, j], axis=0)
            expected = theory.equilibrium_elrs(k / total, alphas)
            worst = np.abs((k / total) / shares / expected - 1).max()
            sheet.at_most(f"{name}: error of elr_i* at k {k:g}", float(worst), 0.02)
            logs = record.group_log_ess[1, j]
            allowed = theory.window_change(first[j], last[j], record.every)
            gap = np.abs(logs - record.log_ess[1, j][:, None])
            sheet.at_most(f"{name}: log means off by more than (eq. 9), k {k:g}", float((gap - allowed).max()), 1e-11)
            ratio = float((logs.max(axis=-1) / logs.min(axis=-1)).max())
            sheet.at_most(f"{name}: log means, largest over least, k {k:g}", ratio, 1.05)
        grid = np.arange(1.55, 2.4501, 0.05)
        wide = toy.simulate(alphas, grid / total, 20_000, seeds=16, every=10_000)
        off_ess = np.abs(np.median(wide.ess[1], axis=1) / theory.equilibrium_ess(grid) - 1)
        onset = float(grid[np.argmax(off_ess > 0.02)]) if (off_ess > 0.02).any() else float("inf")
        sheet.close(f"{name}: equality lost at k", onset, 2.0, abs=0.2)
        wobble = (wide.loss_sd[1] / wide.loss[1]).mean(axis=1)
        sheet.note(f"{name}: F wobbles by 10 % from k {float(grid[np.argmax(wobble > 0.1)]):.2f}")
        high = toy.simulate(alphas, [300.0 / total], 20_000, seeds=16, every=10_000)
        sheet.close(f"{name}: F at k 300", float(high.loss[1].mean()), total / 2, rel=0.02)
        sheet.at_most(f"{name}: cosine at k 300", float(high.cosine[1].mean()), 0.01)


def neutral_centre(sheet: Sheet, context: Context) -> None:
    """Check ``neutral-centre``."""
    for k in (1.1, 1.4, 1.8):
        centre, shift, columns = np.array([1 / k, k]), 1e-6, []
        for e in np.eye(2):
            columns.append((_group_step(centre + shift * e, k) - _group_step(centre - shift * e, k)) / (2 * shift))
        jacobian = np.stack(columns, axis=1)
        off = float(np.abs(jacobian - theory.feedback_jacobian(k)).max())
        sheet.at_most(f"error of the Jacobian at k {k:g}", off, 1e-7)
        sheet.close(f"determinant at k {k:g}", float(np.linalg.det(jacobian)), 1.0, abs=1e-7)
        # count turns of a small deviation
        state, turns, steps = centre + np.array([1e-4, 0.0]), 0.0, 1000
        basis = np.linalg.inv(_rotation_basis(theory.feedback_jacobian(k)))
        before = basis @ (state - centre)
        size = np.linalg.norm(before)
        for _ in range(steps):
            state = _group_step(state, k)
            now = basis @ (state - centre)
            turns += np.arctan2(before[0] * now[1] - before[1] * now[0], before @ now)
            before = now
        phase = theory.feedback_phase(k)
        sheet.close(f"rotation per step at k {k:g}", float(abs(turns) / steps), phase, rel=1e-3)
        sheet.close(f"size after {steps} steps at k {k:g}", float(np.linalg.norm(before) / size), 1.0, abs=0.05)


def _group_step(state: np.ndarray, k: float) -> np.ndarray:
    """Return (p, a) of one group after a step, the total ESS being held at its equilibrium (the group is light)."""
    p, a = float(state[0]), float(state[1])
    ess_sq = a * a * (1 - p * p)
    return np.array([_share_step(p, a), a * k * k / (1 + ess_sq)])


def _rotation_basis(jacobian: np.ndarray) -> np.ndarray:
    """Return a real basis in which the matrix is a rotation."""
    values, vectors = np.linalg.eig(jacobian)
    vector = vectors[:, int(np.argmax(values.imag))]
    return np.stack([vector.real, vector.imag], axis=1)


def edge(sheet: Sheet, context: Context) -> None:
    """Check ``edge-of-stability-toy``."""
    alphas = np.array([1.0, 2.0, 4.0])
    shares = np.array([0.2, 0.5, 0.3])  # of the squared norm
    x, y = np.zeros(3), np.sqrt(shares)
    step, size = 1e-4, 6
    point = np.concatenate([x, y])

    def value(v: np.ndarray) -> float:
        return float(toy.loss(v[:3], v[3:], alphas))

    unit = np.eye(size) * step

    def second(a: np.ndarray, b: np.ndarray) -> float:
        plus, minus = value(point + a + b) + value(point - a - b), value(point + a - b) + value(point - a + b)
        return (plus - minus) / (4 * step**2)

    hessian = np.array([[second(a, b) for b in unit] for a in unit])
    sharpness = float(np.linalg.eigvalsh(hessian)[-1])
    sheet.close("sharpness, finite differences", sharpness, float((2 * alphas / shares).max()), rel=1e-4)
    critical = lyu2022.edge_elr(sharpness)
    for factor, grows in ((0.98, False), (1.02, True)):
        u, v = x + 1e-6, y.copy()
        for step in range(400):
            r2 = u * u + v * v
            gu, gv = 2 * alphas * u * v * v / r2**2, -2 * alphas * v * u * u / r2**2
            u, v = u - factor * critical * gu, v - factor * critical * gv
            norm = np.sqrt((u * u + v * v).sum())
            u, v = u / norm, v / norm
            if step == 19:
                early = float(np.abs(u).max() / 1e-6)
        largest = float(np.abs(u).max() / 1e-6)
        sheet.true(f"deviation grows at {factor:g} of the edge", largest > 1, grows)
        predicted = abs(lyu2022.perturbation_factor(factor * critical, sharpness)) ** 20
        sheet.close(f"deviation after 20 steps at {factor:g} of the edge", early, predicted, rel=1e-3)
    sheet.close("edge against 1/alpha of one group", lyu2022.edge_elr(2 * 3.0), theory.threshold(3.0), rel=1e-15)

"""Claims of Lobacheva, Kodryan et al. 2021 that need no data set: norms, jumps, their times, equilibrium."""

import numpy as np

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.theory import lobacheva2021 as theory
from scaleinv.theory.simulators import recursion, toy


def jumps(sheet: Sheet, context: Context) -> None:
    """Check ``jumps-of-the-recursion``."""
    lr, wd, low, high = 0.1, 2e-3, 0.5, 2.0
    delta = 0.2 * lr * wd * (low / high) ** 2  # a fifth of the condition of t_max
    rho0_sq = 40 * theory.kappa(lr, wd) * high  # well above where a jump becomes possible
    steps = int(1.2 * theory.t_max(rho0_sq, low, high, lr, wd, delta))
    possible, sure = (theory.jump_rho_sq(delta, eg, lr, wd) for eg in (high, low))
    fastest = recursion.run(rho0_sq, lr, wd, recursion.constant(low), steps)
    slowest = recursion.run(rho0_sq, lr, wd, recursion.constant(high), steps)
    t_min, t_max = theory.t_min(rho0_sq, low, high, lr, wd, delta), theory.t_max(rho0_sq, low, high, lr, wd, delta)
    sheet.close("t_min, eg = l", float(recursion.first_below(fastest, possible)[0]), t_min, rel=1e-3, abs=1.0)
    slow = float(recursion.first_below(slowest, sure)[0])
    sheet.close("t, eg = L", slow, theory.t_slowest(rho0_sq, low, high, lr, wd, delta), rel=1e-3, abs=1.0)
    sheet.at_most("t, eg = L, against t_max", slow, t_max)
    path, eg = recursion.run(np.full(32, rho0_sq), lr, wd, recursion.uniform(low, high, seed=1), steps, keep_eg=True)
    distance = theory.step_cosine_distance(path[:-1], eg, lr, wd)
    bottom, top = theory.cosine_distance_envelope(path[:-1], low, high, lr, wd)
    outside = int(np.sum((distance < bottom) | (distance > top)))
    sheet.true("steps outside the envelope", outside, 0)
    first = np.where((distance > delta).any(axis=0), (distance > delta).argmax(axis=0), np.inf)
    sheet.at_least("earliest first jump / t_min", float(first.min() / t_min), 0.999)
    sheet.at_most("latest first jump / t_max", float(first.max() / t_max), 1.001)


def proposition_1(sheet: Sheet, context: Context) -> None:
    """Check ``jump-size``."""
    rng = np.random.default_rng(11)
    lr, wd, count = 0.3, 0.05, 20_000
    x = rng.standard_normal((count, 7)) * np.exp(rng.uniform(-1, 1, (count, 1)))
    rho_sq = (x * x).sum(axis=1)
    push = rng.standard_normal((count, 7))
    push -= ((push * x).sum(axis=1) / (x * x).sum(axis=1))[:, None] * x
    eg = np.exp(rng.uniform(-2, 2, count))
    grad = push * (eg / np.sqrt((push * push).sum(axis=1) * rho_sq))[:, None]
    after = (1 - lr * wd) * x - lr * grad
    cosine = (x * after).sum(axis=1) / np.sqrt(rho_sq * (after * after).sum(axis=1))
    for delta in (1e-3, 1e-2, 0.1, 0.5):
        jumped = 1 - cosine > delta
        predicted = rho_sq < theory.jump_rho_sq(delta, eg, lr, wd)
        sheet.true(f"wrong of {count} at delta {delta:g}", int((jumped != predicted).sum()), 0)
        ratio = theory.jump_rho_sq(delta, 1.0, lr, 0.0) / theory.jump_rho_sq_small_delta(delta, 1.0, lr)
        sheet.close(f"exact over printed bound at delta {delta:g}", ratio, 1 - 0.75 * delta, abs=0.5 * delta**2)
        sheet.note(f"at delta {delta:g} {int(jumped.sum())} jumps")
    gap = np.abs(theory.step_cosine_distance(rho_sq, eg, lr, wd) - (1 - cosine)).max()
    sheet.at_most("error of 1 - cos", float(gap), 1e-14)


def proposition_2(sheet: Sheet, context: Context) -> None:
    """Check ``jump-times-of-the-recursion``."""
    low, high, lr = 1.0, 1.5, 0.2
    for product in (4e-3, 1e-3, 5e-4):
        wd = product / lr
        delta = 0.3 * product * (low / high) ** 2
        rho0_sq = 3 * theory.kappa(lr, wd) * high
        t_min, t_max = theory.t_min(rho0_sq, low, high, lr, wd, delta), theory.t_max(rho0_sq, low, high, lr, wd, delta)
        steps = int(1.05 * t_max) + 2
        times = []
        for law in (
            recursion.uniform(low, high, seed=2),
            recursion.either(low, high, seed=3),
            recursion.either(low, high, seed=4, share_high=0.05),
        ):
            path, eg = recursion.run(np.full(16, rho0_sq), lr, wd, law, steps, keep_eg=True)
            jumped = theory.step_cosine_distance(path[:-1], eg, lr, wd) > delta
            times.append(np.where(jumped.any(axis=0), jumped.argmax(axis=0), np.inf))
        # a relative lr wd is what the formulas drop
        sheet.at_least(f"earliest / t_min at lr wd {product:g}", float(np.min(times) / t_min), 1 - 2 * product)
        sheet.at_most(f"latest / t_max at lr wd {product:g}", float(np.max(times) / t_max), 1 + 2 * product)
        for name, edge, eg_, threshold in (
            ("l", product * (high / low) ** 2, low, high),
            ("L", product * (low / high) ** 2, high, low),
        ):
            beyond = 1.05 * edge
            path = recursion.run(rho0_sq, lr, wd, recursion.constant(eg_), int(12 / product))
            reached = recursion.first_below(path, theory.jump_rho_sq(beyond, threshold, lr, wd))
            came = bool(np.isfinite(reached[0]))
            sheet.true(f"jump at delta 5 % beyond, eg = {name}, lr wd {product:g}", came, False)


def corollary_1(sheet: Sheet, context: Context) -> None:
    """Check ``jump-frequency``."""
    delta, values = 0.2, {}
    for product in (2e-3, 1e-3, 5e-4, 2.5e-4):
        intervals = []
        for lr in (0.02, 0.1, 0.5):
            wd = product / lr
            trigger = theory.jump_rho_sq(delta, 1.0, lr, wd)
            path = recursion.run(2 * trigger, lr, wd, recursion.adversary(1e-6, 1.0, trigger), int(12 / product))[:, 0]
            at = np.nonzero(path[1:] > path[:-1])[0]
            intervals.append(float(np.diff(at[1:]).mean()))
        values[product] = intervals[0] * product
        sheet.close(f"interval at equal lr wd {product:g}, lr 0.02 / 0.5", intervals[0] / intervals[2], 1.0, abs=1e-3)
    spread = max(values.values()) / min(values.values())
    sheet.close("interval * lr wd, largest over least", spread, 1.0, abs=0.02)
    # half the log rise of a jump of that size, which is the book-keeping of a stationary run
    rise = -np.log1p(-delta)
    sheet.close("interval * lr wd", values[5e-4], float(rise), rel=0.02)
    sheet.note("the law of eg is given here; that a net's rises do not depend on lr wd is a claim on nets")


def toy_periods(sheet: Sheet, context: Context) -> None:
    """Check ``toy-periods``."""
    lr, noise, every = 0.1, 1e-9, 5
    products, intervals = (1.28e-2, 6.4e-3, 3.2e-3, 1.6e-3), []
    for product in products:
        steps = int(60 / product / every) * every
        record = toy.simulate([1.0], [lr], steps, seeds=4, every=every, wd=product / lr, noise=noise, rho0=1.0)
        logs = np.log(record.rho_sq[len(record.rho_sq) // 6 :, 0])
        up = np.diff(logs, axis=0) > np.log(1.05)
        starts = up[1:] & ~up[:-1]
        gaps = np.concatenate([np.diff(np.nonzero(column)[0]) for column in starts.T]) * every
        intervals.append(float(gaps.mean()))
        sheet.needs(f"events at lr wd {product:g}", int(starts.sum()), at_least=80)
        sheet.at_most(f"coefficient of variation at lr wd {product:g}", float(gaps.std() / gaps.mean()), 0.2)
        # what decay takes, jumps give back (plus the decay while they rise), to a window of sampling
        taken = -2 * np.log1p(-product) * gaps.mean()
        steps_up = np.diff(logs, axis=0)[np.diff(logs, axis=0) > 0]
        given = (steps_up.sum() - 2 * np.log1p(-product) * every * steps_up.size) / starts.sum()
        sheet.close(f"log rise per event at lr wd {product:g}", float(given), float(taken), abs=2 * product * every)
    slope = float(np.polyfit(np.log(products), np.log(intervals), 1)[0])
    sheet.close("exponent of the interval in lr wd", slope, -0.5, abs=0.05)
    sheet.note("Corollary 1's exponent -1 needs jumps of a size that does not depend on lr wd; the toy's shrink")
    calm = toy.simulate([1.0], [0.95], 20_000, seeds=4, noise=noise)
    sheet.at_most("largest F on the sphere at 0.95 of the edge", float(calm.loss_at_end[20:].max()), 1e-12)


def theorem_1(sheet: Sheet, context: Context) -> None:
    """Check ``norm-interval-of-the-recursion``."""
    for lr, wd, low, high in ((0.1, 1e-2, 1.0, 3.0), (0.5, 0.2, 1.0, 1.8), (1.0, 1e-3, 0.2, 5.0)):
        name = f"lr wd {lr * wd:g}, L/l {high / low:g}"
        sheet.true(f"exact condition, {name}", theory.decay_is_slow_for_any_sequence(low, high, lr, wd), True)
        bottom, top = theory.norm_interval_exact(low, high, lr, wd)
        printed = theory.norm_interval(low, high, lr, wd)[1]
        sheet.close(f"upper end over the printed one, {name}", top / printed, 1 / np.sqrt(1 - lr * wd / 2), rel=1e-12)
        start = np.linspace(bottom, top, 64)
        steps = min(20_000, int(20 / (lr * wd)))
        worst_low, worst_high = np.inf, 0.0
        for law in (
            recursion.uniform(low, high, seed=5),
            recursion.either(low, high, seed=6),
            recursion.adversary(low, high, bottom * (1 + 1e-6)),
        ):
            path = recursion.run(start, lr, wd, law, steps)
            worst_low, worst_high = min(worst_low, path.min() / bottom), max(worst_high, path.max() / top)
        sheet.at_least(f"lowest rho^2 / lower end, {name}", float(worst_low), 1 - 1e-12)
        sheet.at_most(f"highest rho^2 / upper end, {name}", float(worst_high), 1 + 1e-12)
        above = 10 * top
        path = recursion.run(above, lr, wd, recursion.either(low, high, seed=7), int(12 / (lr * wd)))[:, 0] - top
        outside = path[:-1] > 0
        factor = float(np.max(path[1:][outside] / path[:-1][outside]))
        sheet.at_most(f"contraction of the excess, {name}", factor, (1 - lr * wd) ** 2)
        arrival = np.argmax(path < 0.01 * top)
        sheet.at_most(
            f"steps to within 1 %, {name}", float(arrival), np.ceil(theory.time_to_interval(above, high, lr, wd, 0.01))
        )
    lr, wd, low, high = 1.0, 0.2, 1.0, 2.0
    sheet.true("printed condition of the counterexample", theory.decay_is_slow(low, high, lr, wd), True)
    sheet.true("exact condition of it", theory.decay_is_slow_for_any_sequence(low, high, lr, wd), False)
    scale = theory.kappa(lr, wd)
    bottom, top = theory.norm_interval_exact(low, high, lr, wd)
    law = recursion.either(low, high, seed=8, share_high=0.3)
    path = recursion.run(np.full(64, bottom), lr, wd, law, 20_000) / scale
    constant = recursion.run(scale, lr, wd, recursion.constant(high), 2000)[-1, 0] / scale
    printed = theory.norm_interval(low, high, lr, wd)[1] / scale
    sheet.close("constant eg = L rests at, in kappa", float(constant), high / np.sqrt(1 - lr * wd / 2), rel=1e-9)
    sheet.at_least("random laws of the counterexample reach, in kappa", float(path.max()), 1.01 * float(constant))
    sheet.at_least("which is above the printed end, in kappa", float(path.max()), printed)
    sheet.at_most("and stay below, in kappa", float(path.max()), top / scale * (1 + 1e-12))

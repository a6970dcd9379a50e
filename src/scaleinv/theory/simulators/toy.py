r"""Simulate the toy function ``F(x, y) = sum_i alpha_i x_i^2 / (x_i^2 + y_i^2)`` (Kodryan et al. 2022, eq. 10).

Many replicas (learning rates x seeds) run at once; with numba (extra ``toy``) compiled, without it in numpy: the same
bits, slower. On the unit sphere (eq. 6) it shows the three regimes, in the whole space with weight decay the periodic
behaviour.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaleinv.errors import UserError, how_to_install
from scaleinv.theory.simulators import toy_step as step

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ToyRecord:
    """Hold means over windows of ``every`` steps. E learning rates, S seeds, n groups, W windows."""

    alphas: Array  # (n,)
    rates: Array  # (E,) total ELR on the sphere, learning rate in the whole space
    every: int  # steps in a window
    loss: Array  # (W, E, S) mean of F
    loss_sd: Array  # (W, E, S) standard deviation of F within the window
    loss_at_end: Array  # (W, E, S) F after the window's last step
    cosine: Array  # (W, E, S) of consecutive iterates
    ess: Array  # (W, E, S)
    log_ess: Array  # (W, E, S) mean of log(1 + ess^2)
    rho_sq: Array  # (W, E, S) mean squared norm; 1 on the sphere
    group_ess: Array  # (W, E, S, n)
    group_log_ess: Array  # (W, E, S, n) mean of log(1 + ess_i^2)
    group_rho_sq: Array  # (W, E, S, n)
    group_elr_at_end: Array  # (W, E, S, n) lr / rho_i^2

    @property
    def k(self) -> Array:
        """``rate * sum(alpha)``, shape (E,): 1 at the threshold of convergence."""
        return np.asarray(self.rates * self.alphas.sum())


def check_alphas(alphas: ArrayLike) -> Array:
    """Give the weights as an array; UserError unless they are finite and positive."""
    a = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    if a.ndim != 1 or a.size == 0 or not np.all(np.isfinite(a) & (a > 0)):
        raise UserError(f"alpha {alphas!r}: a list of positive finite numbers is needed, for example 1,2,3,4,5")
    return a


def start(groups: int, seeds: Sequence[int]) -> tuple[Array, Array]:
    """Draw directions on the unit sphere, ``x`` and ``y`` of shape (groups, seeds), a generator for each seed."""
    points = np.stack([np.random.default_rng([seed, groups]).standard_normal((2, groups)) for seed in seeds], axis=-1)
    points /= np.sqrt((points**2).sum(axis=(0, 1)))
    return points[0], points[1]


def loss(x: Array, y: Array, alphas: ArrayLike) -> Array:
    """Compute F of states ``x, y`` of shape (groups, ...).

    >>> float(loss(np.array([1.0, 1.0]), np.array([1.0, 0.0]), [2.0, 3.0]))
    4.0
    """
    a = check_alphas(alphas).reshape((-1,) + (1,) * (np.ndim(x) - 1))
    return np.asarray((a * x**2 / (x**2 + y**2)).sum(axis=0))


def simulate(
    alphas: ArrayLike,
    rates: ArrayLike,
    steps: int,
    *,
    seeds: int | Sequence[int] = 1,
    every: int | None = None,
    wd: float | None = None,
    noise: float = 0.0,
    rho0: float = 1.0,
    threads: int | None = None,
    engine: str = "auto",
) -> ToyRecord:
    """Run all rates x seeds; all rates of a seed start at the same point.

    ``wd=None``: projected gradient descent on the unit sphere, ``rates`` are total ELRs. ``wd >= 0``: the whole space,
    ``x' = (1 - lr wd) x - lr grad F`` from norm ``rho0``, ``rates`` are learning rates. ``noise``: standard deviation
    of a Gaussian added to the tangential effective gradient of each group, of its own generator. ``every``: steps in
    a window (default: 100 windows); ``steps`` is rounded down to whole windows. ``engine``: ``numba``, ``numpy`` or
    ``auto``. Deterministic: neither engine nor threads change a bit.

    >>> record = simulate([1.0], [0.5, 2.0], 2000, seeds=2)
    >>> [round(float(v), 6) for v in record.loss[-1].mean(axis=1)]
    [0.0, 0.25]
    """
    a = check_alphas(alphas)
    rate = np.atleast_1d(np.asarray(rates, dtype=np.float64))
    if rate.ndim != 1 or not np.all(np.isfinite(rate) & (rate > 0)):
        raise UserError(f"rates {rates!r}: give positive finite numbers")
    names = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    every = max(1, steps // 100) if every is None else every
    if steps < 1 or every < 1 or every > steps or not names:
        raise UserError(f"steps {steps}, every {every}, seeds {seeds}: give at least one window and one seed")
    if wd is not None and not (wd >= 0 and np.all(rate * wd < 1)):
        raise UserError(f"wd {wd:g}: must be at least 0, and lr * wd below 1")
    kernel = _engine(engine)
    n, e, s = a.size, rate.size, len(names)
    x0, y0 = start(n, names)
    x, y = (np.tile(v * (1.0 if wd is None else rho0), (1, e)) for v in (x0, y0))  # replica = rate * S + seed
    lr = np.repeat(rate, s)
    keep = np.ones(e * s) if wd is None else 1 - lr * wd
    scale = np.ones(e * s)
    kicks = [np.random.default_rng([seed, n, 1]) for seed in names]
    windows = steps // every
    totals, groups = np.zeros((windows, 7, e * s)), np.zeros((windows, 4, n, e * s))
    totals[:, step.MANTISSA] = groups[:, step.G_MANTISSA] = 1.0
    ends, sizes = np.empty((windows, e * s)), np.empty((windows, n, e * s))
    # the loops take one keep for a block: blocks do not straddle learning rates in the whole space
    blocks = [slice(b, min(b + step.BLOCK, e * s)) for b in range(0, e * s, step.BLOCK)]
    if wd is not None:
        blocks = [slice(k * s, (k + 1) * s) for k in range(e)]
    quiet = np.zeros((0, n, 1))

    def advance(block: slice, window: int, kick: Array) -> None:
        # contiguous copies: the compiler then sees unit strides
        arrays = [np.ascontiguousarray(v[..., block]) for v in (x, y, scale, totals[window], groups[window])]
        bx, by, bs, bt, bg = arrays
        part = kick[..., block] if kick.shape[0] else quiet
        kernel(bx, by, bs, lr[block], a, float(keep[block][0]), wd is None, np.ascontiguousarray(part), every, bt, bg)
        x[:, block], y[:, block], scale[block] = bx, by, bs
        totals[window][:, block], groups[window][..., block] = bt, bg

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool, np.errstate(all="ignore"):
        for w in range(windows):
            kick = quiet
            if noise:
                drawn = np.stack([g.standard_normal((every, n)) for g in kicks], axis=-1)
                kick = np.tile(noise * drawn, (1, 1, e))
            if len(blocks) == 1:
                advance(blocks[0], w, kick)
            else:
                list(pool.map(lambda block, w=w, kick=kick: advance(block, w, kick), blocks))
            ends[w] = loss(x, y, a)
            sizes[w] = (x**2 + y**2) * scale**2
    return _record(a, rate, every, totals, groups, ends, sizes, lr, s)


def _engine(name: str) -> Any:
    if name not in ("auto", "numba", "numpy"):
        raise UserError(f"engine {name!r} is not known; choose auto, numba or numpy")
    kernel = step.compiled() if name != "numpy" else None
    if kernel is None and name == "numba":
        raise UserError(f"engine numba needs numba, which is not installed: {how_to_install('numba', 'toy')}")
    return kernel or step.chunk_arrays


def _record(
    a: Array, rate: Array, every: int, totals: Array, groups: Array, ends: Array, sizes: Array, lr: Array, s: int
) -> ToyRecord:
    def of(values: Array) -> Array:
        return values.reshape(len(values), -1, s)

    def of_groups(values: Array) -> Array:
        return np.moveaxis(values.reshape(len(values), a.size, -1, s), 1, -1)

    def log_mean(mantissa: Array, count: Array) -> Array:
        return np.asarray((np.log(mantissa) + count * (300 * np.log(2.0))) / every)

    t, g = np.moveaxis(totals, 1, 0), np.moveaxis(groups, 1, 0)
    mean = t[step.LOSS] / every
    with np.errstate(invalid="ignore"):
        spread = np.sqrt(np.maximum(t[step.LOSS_SQ] / every - mean**2, 0.0))
    sums = (t[step.COSINE] / every, t[step.ESS] / every, log_mean(t[step.MANTISSA], t[step.COUNT]))
    logs = log_mean(g[step.G_MANTISSA], g[step.G_COUNT])
    of_group = (g[step.G_ESS] / every, logs, g[step.G_SHARE] / every, lr / sizes)
    all_together = (mean, spread, ends, *sums, t[step.RHO_SQ] / every)
    # in the order of ToyRecord's fields
    return ToyRecord(a, rate, every, *map(of, all_together), *map(of_groups, of_group))

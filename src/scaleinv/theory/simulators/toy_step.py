"""A chunk of toy steps for a block of replicas, written twice: loops for a compiler, whole arrays for numpy.

Both give the same bits, because every number goes through the same operations in the same order (sums over groups run
from the first to the last) and each of them (+ - * / sqrt) is correctly rounded. So no fused multiply-add, no pairwise
sums, no logarithm: products of ``1 + ess^2`` are kept as ``mantissa * 2^(300 count)``, which is exact, and the
logarithm is taken once, outside.

Arrays: ``x, y`` (groups, replicas), the state; on the sphere they are stored unnormalised with the factor ``scale``
(replicas) still to be applied, which saves a pass. ``noise`` (steps, groups, replicas), or with no steps at all.
``totals`` (7, replicas) and ``groups`` (4, groups, replicas) are sums over the chunk, see the names below.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

A = Any  # an array; numba compiles for whatever it is given

#: rows of ``totals``
LOSS, LOSS_SQ, COSINE, ESS, MANTISSA, COUNT, RHO_SQ = range(7)
#: rows of ``groups``
G_ESS, G_MANTISSA, G_COUNT, G_SHARE = range(4)
#: replicas in a block: the state of ten groups stays in the first-level cache
BLOCK = 64
BIG, SMALL = 2.0**300, 2.0**-300


def chunk_loops(
    x: A, y: A, scale: A, lr: A, alpha: A, keep: float, sphere: bool, noise: A, steps: int, totals: A, groups: A
) -> None:
    """Step in loops. Inner loops run over replicas, so that a compiler can use vector instructions."""
    n, replicas = x.shape
    noisy = noise.shape[0] > 0
    loss, g_sq, rho_sq, new_sq = np.empty(replicas), np.empty(replicas), np.empty(replicas), np.empty(replicas)
    for t in range(steps):
        for r in range(replicas):
            loss[r] = g_sq[r] = rho_sq[r] = new_sq[r] = 0.0
        for i in range(n):
            two_alpha = 2.0 * alpha[i]
            for r in range(replicas):
                xs, ys = x[i, r] * scale[r], y[i, r] * scale[r]
                xx, yy = xs * xs, ys * ys
                size = xx + yy
                inverse = 1.0 / size
                share, other = xx * inverse, yy * inverse
                loss[r] += alpha[i] * share
                slope = two_alpha * inverse
                gx, gy = slope * xs * other, -(slope * ys * share)
                if noisy:
                    kick = noise[t, i, r] * inverse
                    gx, gy = gx - kick * ys, gy + kick * xs
                g2 = gx * gx + gy * gy
                ess_sq = lr[r] * lr[r] * g2 * inverse
                g_sq[r] += g2
                rho_sq[r] += size
                product = groups[G_MANTISSA, i, r] * (1.0 + ess_sq)
                over = product > BIG
                groups[G_MANTISSA, i, r] = product * SMALL if over else product
                groups[G_COUNT, i, r] += 1.0 if over else 0.0
                groups[G_ESS, i, r] += np.sqrt(ess_sq)
                groups[G_SHARE, i, r] += size
                xn, yn = keep * xs - lr[r] * gx, keep * ys - lr[r] * gy
                new_sq[r] += xn * xn + yn * yn
                x[i, r], y[i, r] = xn, yn
        for r in range(replicas):
            totals[LOSS, r] += loss[r]
            totals[LOSS_SQ, r] += loss[r] * loss[r]
            totals[COSINE, r] += keep * np.sqrt(rho_sq[r] / new_sq[r])
            ess_sq = (lr[r] * lr[r] * g_sq[r]) / rho_sq[r]
            totals[ESS, r] += np.sqrt(ess_sq)
            product = totals[MANTISSA, r] * (1.0 + ess_sq)
            over = product > BIG
            totals[MANTISSA, r] = product * SMALL if over else product
            totals[COUNT, r] += 1.0 if over else 0.0
            totals[RHO_SQ, r] += rho_sq[r]
            scale[r] = 1.0 / np.sqrt(new_sq[r]) if sphere else 1.0


def chunk_arrays(
    x: A, y: A, scale: A, lr: A, alpha: A, keep: float, sphere: bool, noise: A, steps: int, totals: A, groups: A
) -> None:
    """Step in numpy, an array operation for each line of the inner loops."""
    for t in range(steps):
        loss, g_sq, rho_sq, new_sq = (np.zeros(x.shape[1]) for _ in range(4))
        for i in range(x.shape[0]):
            xs, ys = x[i] * scale, y[i] * scale
            xx, yy = xs * xs, ys * ys
            size = xx + yy
            inverse = 1.0 / size
            share, other = xx * inverse, yy * inverse
            loss += alpha[i] * share
            slope = 2.0 * alpha[i] * inverse
            gx, gy = slope * xs * other, -(slope * ys * share)
            if noise.shape[0]:
                kick = noise[t, i] * inverse
                gx, gy = gx - kick * ys, gy + kick * xs
            g2 = gx * gx + gy * gy
            ess_sq = lr * lr * g2 * inverse
            g_sq += g2
            rho_sq += size
            _multiply(groups[G_MANTISSA, i], groups[G_COUNT, i], 1.0 + ess_sq)
            groups[G_ESS, i] += np.sqrt(ess_sq)
            groups[G_SHARE, i] += size
            x[i], y[i] = keep * xs - lr * gx, keep * ys - lr * gy
            new_sq += x[i] * x[i] + y[i] * y[i]
        totals[LOSS] += loss
        totals[LOSS_SQ] += loss * loss
        totals[COSINE] += keep * np.sqrt(rho_sq / new_sq)
        ess_sq = (lr * lr * g_sq) / rho_sq
        totals[ESS] += np.sqrt(ess_sq)
        _multiply(totals[MANTISSA], totals[COUNT], 1.0 + ess_sq)
        totals[RHO_SQ] += rho_sq
        scale[:] = 1.0 / np.sqrt(new_sq) if sphere else 1.0


def _multiply(mantissa: Any, count: Any, factor: Any) -> None:
    product = mantissa * factor
    over = product > BIG
    mantissa[:] = np.where(over, product * SMALL, product)
    count += np.where(over, 1.0, 0.0)


@functools.lru_cache(maxsize=1)
def compiled() -> Callable[..., None] | None:
    """Compile the loops; None where numba is not installed. Not fast-math: that would change the bits."""
    try:
        import numba
    except ImportError:
        return None
    make = functools.partial(numba.njit, nogil=True, error_model="numpy")
    try:
        kernel: Callable[..., None] = make(cache=True)(chunk_loops)
    except RuntimeError:  # nowhere to keep the compiled code: compile once a process
        kernel = make()(chunk_loops)
    return kernel

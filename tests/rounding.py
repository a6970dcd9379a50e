"""How far rounding in float32 can take a number, for any processor and any kernel: from eps, sizes and the numbers.

A test that compares what kernels of torch or BLAS compute takes its bound from here or states its own analysis; what
one processor happened to give is no bound.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

#: relative error of one rounding to float32, and to float64, at most: half of eps
U = torch.finfo(torch.float32).eps / 2
U64 = torch.finfo(torch.float64).eps / 2
#: a kernel adds in so many lanes side by side, from none to several registers of AVX512
LANES = (1, 4, 8, 16, 32, 64)
SIGMAS = 6


def of_sum(terms: npt.NDArray[np.float64], u: float = U) -> float:
    """Bound on the error of the sum of ``terms``, products that are rounded and then added in one precision.

    The model is that of Higham & Mary 2019 (SIAM J. Sci. Comput. 41): every product p_i and every partial sum s_k is
    rounded by at most u of itself, independently and evenly, so the variance of the error is u^2/3 (sum_k s_k^2 +
    sum_i p_i^2). The partial sums depend on the order: of those of :data:`LANES` the worst counts. The bound is six
    standard deviations.
    """
    worst = 0.0
    for lanes in LANES:
        padded = np.zeros(-(-terms.size // lanes) * lanes)
        padded[: terms.size] = terms
        partial = padded.reshape(-1, lanes).cumsum(axis=0)
        worst = max(worst, float((partial**2).sum() + (partial[-1].cumsum() ** 2).sum()))
    return SIGMAS * u * math.sqrt((worst + float((terms**2).sum())) / 3)


def of_positive_sum(n: int, u: float = U) -> float:
    """:func:`of_sum` relative to the sum, for n terms of one sign and size: s_k = k/n, hence 2 u sqrt(n), and some u
    more for the products. Of terms of any sign: relative to the sum of their absolute values.
    """
    return u * (2 * math.sqrt(n) + SIGMAS / math.sqrt(3))


def turn_of_rounded_weights(angle: float, n: int, roundings: int) -> float:
    """By how much an angle changes at most when all n numbers of a vector are rounded so many times.

    One rounding moves each number by at most u of itself, so the vector by e = u/sqrt(3) of its length in the root mean
    square; e across the turn makes sqrt(angle^2 + e^2) of the angle, its part along the turn, e/sqrt(n) in the mean,
    adds to it (six standard deviations). The worst case, all errors along the turn, is u a rounding.
    """
    e = U * math.sqrt(roundings / 3)
    return min(roundings * U, SIGMAS * e / math.sqrt(n) + (min(e, e**2 / (2 * angle)) if angle > 0 else e))

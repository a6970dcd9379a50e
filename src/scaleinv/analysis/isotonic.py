"""Least squares fits of a series by curves of a given shape: falling, rising, falling then rising."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _pool(y: Floats) -> tuple[list[float], list[int], Floats]:
    """Pool adjacent violators for a falling fit: means and sizes of the pools, and the squared error of the best
    falling fit of every beginning of ``y``, shape (n,).
    """
    means: list[float] = []
    sizes: list[int] = []
    costs: list[float] = []  # squared error within each pool and all before it
    errors = np.empty(len(y))
    for k, value in enumerate(y):
        mean, size, inner = float(value), 1, 0.0
        while means and means[-1] < mean:
            other, count = means.pop(), sizes.pop()
            inside = costs.pop() - (costs[-1] if costs else 0.0)
            inner += inside + (mean - other) ** 2 * size * count / (size + count)
            mean = (mean * size + other * count) / (size + count)
            size += count
        means.append(mean)
        sizes.append(size)
        costs.append((costs[-1] if costs else 0.0) + inner)
        errors[k] = costs[-1]
    return means, sizes, errors


def falling(y: Floats) -> Floats:
    """The non-increasing series closest to ``y`` in squares (pool adjacent violators).

    >>> falling(np.array([3.0, 1.0, 2.0, 0.0])).tolist()
    [3.0, 1.5, 1.5, 0.0]
    """
    means, sizes, _ = _pool(y)
    return np.repeat(np.array(means, dtype=np.float64), sizes)


def rising(y: Floats) -> Floats:
    """The non-decreasing series closest to ``y`` in squares."""
    return falling(y[::-1])[::-1]


def valley(y: Floats) -> Floats:
    """The series closest to ``y`` among those that fall and then rise; either part may be missing.

    >>> valley(np.array([2.0, 1.0, 1.0, 3.0, 2.0])).tolist()
    [2.0, 1.0, 1.0, 2.5, 2.5]
    """
    n = len(y)
    before = np.concatenate([[0.0], _pool(y)[2]])  # error of the best fall of the first k values
    after = np.concatenate([_pool(y[::-1])[2][::-1], [0.0]])  # of the best rise of those from k on
    cut = int(np.argmin(before + after)) if n else 0
    return np.concatenate([falling(y[:cut]), rising(y[cut:])])

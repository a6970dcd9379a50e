r"""Simulate the 3-D toy with one sample a step: ``loss_a(x) = (a.x)^2 / |x|^2`` on the unit sphere (arXiv 2505.23489).

Over-parameterised: two vectors, a common null direction exists; converges iff ELR < 1. Under-parameterised: three
vectors, none does; the mean loss never falls below 1/26.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.errors import UserError

Array = np.ndarray[Any, np.dtype[np.float64]]

OVERPARAMETERISED = np.array([[np.sqrt(3) / 2, 0.5, 0.0], [np.sqrt(3) / 2, -0.5, 0.0]])
UNDERPARAMETERISED = np.array([[1.0, 0.0, 0.2], [-0.5, np.sqrt(3) / 2, 0.2], [-0.5, -np.sqrt(3) / 2, 0.2]])
UNDERPARAMETERISED /= np.sqrt((UNDERPARAMETERISED**2).sum(axis=1, keepdims=True))
START = np.array([-0.8, 0.6, 0.1]) / np.sqrt(1.01)


def mean_loss(x: Array, vectors: Array) -> Array:
    """Compute the mean over the vectors of ``(a.x)^2`` for unit x, shape (..., 3).

    >>> round(float(mean_loss(np.array([0.0, 0.0, 1.0]), UNDERPARAMETERISED)) * 26, 12)
    1.0
    """
    return np.asarray(((x @ vectors.T) ** 2).mean(axis=-1))


def simulate(vectors: Array, elrs: Any, steps: int, *, seeds: Sequence[int] = (0,), measure_last: float = 0.5) -> Array:
    """Compute the mean loss over the last share ``measure_last`` of the steps, shape (ELRs, seeds).

    All runs of a seed see the same samples.
    """
    rate = np.repeat(np.atleast_1d(np.asarray(elrs, dtype=np.float64)), len(seeds))
    if steps < 2 or not np.all(rate > 0) or not seeds:
        raise UserError("one-sample toy: at least two steps, one seed and positive ELRs are needed")
    order = np.stack([np.random.default_rng([seed, 3]).integers(len(vectors), size=steps) for seed in seeds], axis=1)
    sample = np.tile(np.arange(len(seeds)), len(rate) // len(seeds))
    x = np.tile(START, (len(rate), 1))
    first, total = int(steps * (1 - measure_last)), np.zeros(len(rate))
    for t in range(steps):
        a = vectors[order[t]][sample]
        along = (a * x).sum(axis=1, keepdims=True)
        x = x - 2 * rate[:, None] * along * (a - along * x)  # gradient of the sampled loss at |x| = 1
        x /= np.sqrt((x**2).sum(axis=1, keepdims=True))
        if t >= first:
            total += mean_loss(x, vectors)
    return np.asarray((total / (steps - first)).reshape(-1, len(seeds)))

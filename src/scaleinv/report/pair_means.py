"""The minima of a run in ``landscape.json`` in one line: means over all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np


def pair_means(one: Mapping[str, Any]) -> dict[str, float]:
    """Means over pairs i < j of the (n, n) matrices, and ``error``, the mean test error of the n minima alone.

    ``gain_error`` is the mean of the pairs' standard errors: pairs share test images and minima, so all of them
    together are worth about one.

    >>> square = lambda x: [[0.0, x], [x, 0.0]]
    >>> names = ("angle", "equal", "ensemble", "gain", "gain_error")
    >>> pair_means({"error": [0.1, 0.3], **{name: square(0.5) for name in names}})["error"]
    0.2
    """
    error = np.array(one["error"], float)
    i, j = np.array(list(itertools.combinations(range(len(error)), 2))).T
    names = ("angle", "equal", "ensemble", "gain", "gain_error")
    means = {name: float(np.array(one[name], float)[i, j].mean()) for name in names}
    return {"error": float(error.mean()), **means}

"""What is to be said of walks in ``landscape.json`` (which network, from where, is it regime 3), and of minima."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.regimes import CORRELATED


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


def mean(values: Sequence[float | None]) -> float:
    """Over the walks of a kind; NaN where one broke off (null in the file).

    >>> mean([1.0, 2.0]), mean([1.0, None])
    (1.5, nan)
    """
    return math.nan if None in values or not values else sum(v for v in values if v is not None) / len(values)


def begin_words(one: Mapping[str, Any]) -> str:
    """``from a fresh initialisation (seed 0, network of run 0a1b2c3d)``; files of earlier versions hold other walks."""
    name = one["key"]["runs"][0][:8]
    if one["key"].get("begin") == "fresh":
        return f"from a fresh initialisation (seed {one['seed']}, network of run {name})"
    went_on = f", which went on from {one['start']}" if one.get("start") else ""
    return f"from the last weights of run {name} (seed {one['seed']}{went_on})"


def correlated_words(one: Mapping[str, Any]) -> str:
    """The remark that this is not regime 3; empty where consecutive weights of SGD are uncorrelated.

    >>> correlated_words({"cosine": {"sgd": [0.98, 1.0]}})
    'mean cosine of consecutive weights of SGD 0.99 > 0.3: not regime 3 at this ELR, or too few steps'
    >>> correlated_words({"cosine": {"sgd": [0.01]}})
    ''
    """
    cosine = mean(one["cosine"]["sgd"])
    if not cosine > CORRELATED:
        return ""
    return (
        f"mean cosine of consecutive weights of SGD {cosine:.3g} > {CORRELATED:g}: not regime 3 at this ELR, or too "
        "few steps"
    )

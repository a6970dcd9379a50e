"""How far one draw of a chaotic training may be off another; no claim.

Two CPUs round differently, and a chaotic training is then another draw from the same distribution, as with another
seed. A number from one run has to be judged with the scatter of such draws. It is taken from what there is:

- over seeds (:func:`scatter`), never less than what draws of that kind were seen to scatter by: two seeds that agree by
  chance say little;
- of counts and shares, binomial (:func:`share_error`);
- of a median, from its neighbours in rank (:func:`median`);
- of a value known to lie between two points of a grid, that of a uniform distribution (:func:`grid_error`).
"""

import math
from collections.abc import Sequence

import numpy as np

from scaleinv.analysis.statistics import Estimate, Floats


def scatter(values: Sequence[float], least: float = 0.0) -> float:
    """Standard deviation of single draws, from the finite ones among ``values`` (one a seed); at least ``least``, which
    is all there is with one draw.

    >>> round(scatter([1.0, 2.0, 3.0]), 3), scatter([1.0], least=0.2)
    (1.0, 0.2)
    """
    finite = [value for value in values if math.isfinite(value)]
    return max(least, float(np.std(finite, ddof=1))) if len(finite) > 1 else least


def share_error(count: float, of: int) -> float:
    """Binomial standard error of the share ``count / of``, never 0: of a share with one more of each kind.

    >>> round(share_error(3, 6), 3), round(share_error(6, 6), 3)
    (0.177, 0.117)
    """
    share = (count + 1) / (of + 2)
    return math.sqrt(share * (1 - share) / (of + 2))


def median(values: Floats) -> Estimate:
    """Median of independent values; its error from the order statistics sqrt(n)/2 ranks below and above it, whatever
    the distribution. NaN error for fewer than three.

    >>> median(np.arange(100.0))
    Estimate(value=49.5, error=5.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    if count == 0:
        return Estimate(math.nan, math.nan)
    middle, ranks = (count - 1) / 2, math.sqrt(count) / 2
    if count < 3:
        return Estimate(float(np.median(ordered)), math.nan)
    low, high = np.interp([middle - ranks, middle + ranks], np.arange(count), ordered)
    return Estimate(float(np.median(ordered)), float(high - low) / 2)


def grid_error(low: float, high: float, inside: int = 0) -> float:
    """Standard error of the logarithm of a value that lies anywhere between two points of a grid; ``inside``: points
    between them that lie about at the value, so that it is known to as many parts.

    >>> round(grid_error(1.0, 2.0), 3), round(grid_error(1.0, 4.0, 1), 3)
    (0.2, 0.2)
    """
    return math.log(high / low) / (inside + 1) / math.sqrt(12)

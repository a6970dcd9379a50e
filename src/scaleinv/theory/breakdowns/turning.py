"""Smooth a series and find its turning points; rows, not steps."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: rows whose windows are sorted at a time
_AT_ONCE = 1 << 15


def centred_mean(x: Floats, width: int) -> Floats:
    """Average over ``width`` rows around each row; the window is cut at the ends.

    >>> centred_mean(np.array([0.0, 3.0, 6.0]), 3).tolist()
    [1.5, 3.0, 4.5]
    """
    x = np.asarray(x, dtype=np.float64)
    if width <= 1 or not len(x):
        return np.array(x)
    # summed window by window: differences of one cumulated sum would lose a loss of 1e-9 behind earlier ones of 1
    ones = np.ones(width)
    shift = (width - 1) // 2
    total = np.convolve(x, ones)[shift : shift + len(x)]
    first = np.maximum(np.arange(len(x)) - width // 2, 0)
    last = np.minimum(np.arange(len(x)) - width // 2 + width, len(x))
    return np.asarray(total / (last - first))


def running_median(x: Floats, width: int) -> Floats:
    """Take the median over ``width`` rows (made odd) around each row; the end values are repeated beyond the ends.

    Unlike a mean it leaves a step of a series where it is.
    """
    half = width // 2
    if half < 1 or len(x) < 3:
        return np.array(x, dtype=np.float64)
    x = np.asarray(x, dtype=np.float64)
    padded = np.concatenate([np.full(half, x[0]), x, np.full(half, x[-1])])
    middle = np.empty(len(x))
    for first in range(0, len(x), _AT_ONCE):
        windows = sliding_window_view(padded[first : first + _AT_ONCE + 2 * half], 2 * half + 1)
        middle[first : first + _AT_ONCE] = np.partition(windows, half, axis=1)[:, half]
    return middle


class Turn(NamedTuple):
    """A turning point: at ``row`` the series is lowest (``low``) or highest before it turns by the threshold."""

    row: int
    low: bool


class Turns(NamedTuple):
    """Alternating turning points, and where the last leg stands."""

    turns: tuple[Turn, ...]
    rising: bool | None  # the leg after the last turning point; None: it never moved by the threshold
    extreme: int  # row of the last leg's extreme so far


def turning_points(y: Floats, threshold: float) -> Turns:
    """Find where ``y`` turns: a minimum counts once ``y`` has risen by ``threshold``, a maximum once it fell by it.

    >>> found = turning_points(np.array([2.0, 0.0, 0.4, 0.1, 3.0, 2.8, 1.0]), 1.0)
    >>> [(turn.row, turn.low) for turn in found.turns], found.rising
    ([(0, False), (1, True), (4, False)], False)
    """
    turns: list[Turn] = []
    if not len(y):
        return Turns((), None, 0)
    rising: bool | None = None
    low = high = 0
    for row in _extremes(y).tolist():
        value = y[row]
        if rising is None:
            low, high = (row if value < y[low] else low), (row if value > y[high] else high)
            if value - y[low] >= threshold and low < row:
                turns.append(Turn(low, True))
                rising, high = True, row
            elif y[high] - value >= threshold and high < row:
                turns.append(Turn(high, False))
                rising, low = False, row
        elif rising:
            if value > y[high]:
                high = row
            elif y[high] - value >= threshold:
                turns.append(Turn(high, False))
                rising, low = False, row
        elif value < y[low]:
            low = row
        elif value - y[low] >= threshold:
            turns.append(Turn(low, True))
            rising, high = True, row
    last = (low if rising is False else high) if rising is not None else len(y) - 1
    return Turns(tuple(turns), rising, last)


def _extremes(y: Floats) -> Ints:
    """Find the rows of local extremes, with both ends: all that turning points depend on."""
    if len(y) < 3:
        return np.arange(len(y))
    moves = np.nonzero(np.diff(y))[0]
    if not len(moves):
        return np.array([0, len(y) - 1])
    up = y[moves + 1] > y[moves]
    turned = moves[1:][up[1:] != up[:-1]]  # the row at which the next different move begins
    return np.unique(np.concatenate([[0], turned, [len(y) - 1]]))


def finite_log(x: Floats, floor: float) -> Floats:
    """Take ``log x`` with everything below ``floor`` (a loss of exactly 0) at the floor; NaN stays NaN."""
    return np.asarray(np.log(np.maximum(x, floor)))


def rows(steps: float, spacing: float) -> int:
    """Count the rows of a window of ``steps`` steps where rows are ``spacing`` steps apart; at least 1."""
    return max(1, math.floor(steps / spacing + 0.5))

"""Compute error and loss of a classifier that ignores its input: the levels that a run is compared with.

The best constant answer to classes with shares p_1 ... p_C of the labels errs in ``1 - max p`` of the cases. For
equally frequent classes that is ``1 - 1/C``, the error of every guess that ignores the input, so of a network with
random weights too. Where classes are not equally frequent, guesses err more or less often, and only an error below
``1 - max p`` shows that a network looks at its input.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

CHANCE_TOLERANCE = 0.05  # of the error of guessing, ...
CHANCE_ACCURACY = 0.5  # ... and of its accuracy: 95 % error on 100 classes is five times better than guessing


class Level(NamedTuple):
    """Loss of the best constant answer, in closed form."""

    equal: Callable[[int], float]  # of C equally frequent classes
    of_shares: Callable[[Sequence[float]], float]


#: by the name of the loss. ce: the answer is the logarithm of the shares, the loss their entropy, in nats. mse (squared
#: error on one-hot targets, mean over classes): the answer is the shares, the loss ``(1 - sum p^2) / C``.
CONSTANT_LOSS: dict[str, Level] = {
    "ce": Level(math.log, lambda shares: -math.fsum(p * math.log(p) for p in shares if p > 0)),
    "mse": Level(
        lambda classes: (classes - 1) / classes**2, lambda shares: (1 - math.fsum(p * p for p in shares)) / len(shares)
    ),
}


def chance_error(classes: int, shares: Sequence[float] | None = None) -> float:
    """Compute the error of the best constant answer.

        1 - max p;  1 - 1/C for equally frequent classes

    - ``classes``: C, >= 1.
    - ``shares``: p_1 ... p_C of the classes among the labels, shape (C,), sum 1; None: all 1/C.

    >>> chance_error(4), round(chance_error(2, (0.7, 0.3)), 12)
    (0.75, 0.3)
    """
    return 1 - 1 / classes if shares is None else 1 - max(shares)


def constant_loss(loss: str, classes: int, shares: Sequence[float] | None = None) -> float | None:
    """Compute the loss of the best constant answer; None for a loss that is not in CONSTANT_LOSS.

        -sum p ln p nats (ce),  (1 - sum p^2)/C (mse)

    - ``loss``: its name.
    - ``classes``, ``shares``: as for :func:`chance_error`.

    >>> round(constant_loss("ce", 4), 4), constant_loss("mse", 4), constant_loss("hinge", 4)
    (1.3863, 0.1875, None)
    """
    level = CONSTANT_LOSS.get(loss)
    if level is None:
        return None
    return level.equal(classes) if shares is None else level.of_shares(shares)


def guesses(error: float, chance: float) -> bool:
    """Tell whether an error counts as that of guessing: within 5 % of it, and an accuracy at most half as much again.

        error >= chance - min(0.05 chance, 0.5 (1 - chance))

    - ``error``, ``chance``: error of the classifier and of guessing, fractions in [0, 1].

    >>> guesses(0.86, 0.9), guesses(0.85, 0.9), guesses(0.95, 0.99)
    (True, False, False)
    """
    return error >= chance - min(CHANCE_TOLERANCE * chance, CHANCE_ACCURACY * (1 - chance))

"""Shares of classes among labels."""

import math

import torch
from torch import Tensor

from scaleinv.theory.guessing import chance_error, guesses

#: standard errors by which the largest class must exceed 1/C before the classes count as unequal
_UNEQUAL = 5.0


def unequal_shares(labels: Tensor, classes: int) -> tuple[float, ...] | None:
    """Compute the shares of the classes among labels 0 .. classes - 1; None where they are equal up to sampling.

    They count as unequal where the most frequent class exceeds 1/C by more than 5 standard errors of a sample of
    equally frequent classes, and answering that class alone would not count as guessing.
    """
    shares = tuple(count / len(labels) for count in torch.bincount(labels, minlength=classes).tolist())
    equal, largest = 1 / classes, max(shares)
    significant = largest - equal > _UNEQUAL * math.sqrt(equal * (1 - equal) / len(labels))
    unequal = significant and not guesses(chance_error(classes, shares), chance_error(classes))
    return shares if unequal else None

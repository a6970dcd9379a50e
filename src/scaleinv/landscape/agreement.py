"""Tell whether several minima are different functions: angles, equal predictions, the gain of averaging two of them.

The minima of different periods (Lobacheva et al. 2021) or ELRs (Kodryan et al. 2022); the measures are our choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import fresh_bn_statistics
from scaleinv.lab.evaluate import TEST_BATCH
from scaleinv.landscape.paths import angle
from scaleinv.landscape.surface import Surface, Weights

Floats = npt.NDArray[np.float64]
AVERAGES = ("softmax", "output")


@dataclass(frozen=True)
class Agreement:
    """How n points agree on N test images; matrices are (n, n) and symmetric."""

    error: Floats = field(repr=False)  # (n,) test error of each alone
    angle: Floats = field(repr=False)  # radians, between scale-invariant weights; 0 on the diagonal
    equal: Floats = field(repr=False)  # fraction of test images with the same predicted label; 1 on the diagonal
    ensemble: Floats = field(repr=False)  # test error of the pair; the diagonal is ``error``
    gain: Floats = field(repr=False)  # mean error of the two minus error of the pair
    gain_error: Floats = field(repr=False)  # standard error of the gain over test images
    images: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs i < j."""
        return list(combinations(range(len(self.error)), 2))


def agreement(
    surface: Surface, points: Sequence[Weights], *, average: str = "softmax", recompute_bn: bool = True
) -> Agreement:
    """Compare the points on the test set; BN statistics are recomputed at every point unless told otherwise.

    ``average``: an ensemble's mean is of ``softmax`` or (squared loss) ``output``. Cost: a pass over both sets a point.
    """
    if len(points) < 2:
        raise UserError("agreement needs at least two points")
    if average not in AVERAGES:
        raise UserError(f"unknown average {average!r}; choose one of: {', '.join(AVERAGES)}")
    labels = surface.test[1]
    if not len(labels):
        raise UserError("agreement is measured on test images, and there are none")
    outputs = [predictions(surface, p, recompute_bn=recompute_bn) for p in points]
    scores = [o.softmax(1) if average == "softmax" else o for o in outputs]
    votes = [o.argmax(1) for o in outputs]
    wrong = [(v != labels).double() for v in votes]
    n, count = len(points), len(labels)
    angles, gain, gain_error = np.zeros((3, n, n))
    equal = np.ones((n, n))
    error = np.array([float(w.mean()) for w in wrong])
    ensemble = np.diag(error)
    for i, j in combinations(range(n), 2):
        together = ((scores[i] + scores[j]).argmax(1) != labels).double()
        difference = (wrong[i] + wrong[j]) / 2 - together
        for matrix, number in (
            (angles, angle(surface, points[i], points[j])),
            (equal, (votes[i] == votes[j]).double().mean()),
            (ensemble, together.mean()),
            (gain, difference.mean()),
            (gain_error, difference.std() / math.sqrt(count) if count > 1 else math.nan),
        ):
            matrix[i, j] = matrix[j, i] = float(number)
    return Agreement(error, angles, equal, ensemble, gain, gain_error, count)


def predictions(surface: Surface, weights: Weights, *, recompute_bn: bool = True) -> Tensor:
    """Return the logits of all test images in eval mode, (N, C) float64, by BN statistics recomputed first."""
    images = surface.test[0]
    with surface.at(weights), torch.no_grad():
        if not recompute_bn:
            return _logits(surface, images)
        with fresh_bn_statistics(surface.model):
            for x, _, _ in surface.parts():
                surface.model(x)
            return _logits(surface, images)


def _logits(surface: Surface, images: Tensor) -> Tensor:
    surface.model.eval()  # surface.at puts the mode back
    return torch.cat([surface.model(part).double() for part in torch.split(images, TEST_BATCH)])

"""Average iterates on the sphere (stochastic weight averaging), and test whether a region of the loss is convex."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from scaleinv.errors import UserError
from scaleinv.landscape.paths import angle, blend
from scaleinv.landscape.surface import Surface, Values, Weights, values

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Average:
    """The mean of k points, pressed back to their sphere, beside the points themselves."""

    values: Values  # at the mean, BN statistics recomputed
    members: tuple[Values, ...]  # (k,) at the points, measured alike
    shrink: float  # norm of the mean of the points before it is pressed back, over rho: 1 = all equal
    rho: float
    weights: dict[str, torch.Tensor] = field(repr=False, compare=False)

    @property
    def excess(self) -> float:
        """Train loss at the mean minus mean train loss of the points; at most 0 where the loss is convex (Jensen)."""
        return self.values.train_loss - float(np.mean([m.train_loss for m in self.members]))

    @property
    def test_excess(self) -> float:
        """The same of the test loss."""
        return self.values.test_loss - float(np.mean([m.test_loss for m in self.members]))


def mean_point(
    surface: Surface, points: Sequence[Weights], radius: float | None = None
) -> tuple[dict[str, torch.Tensor], float]:
    """Take the mean of the states, scale-invariant weights brought to one norm before and after; and its norm before.

    ``radius``: default that of the first point. Counters are those of the first point.
    """
    if not points:
        raise UserError("the mean of no points is not defined; give at least one")
    rho = surface.radius(points[0]) if radius is None else radius
    states = [surface.on_sphere(p, rho) for p in points]
    mean = {
        name: torch.stack([s[name].double() for s in states]).mean(0).to(t.dtype) if t.is_floating_point() else t
        for name, t in states[0].items()
    }
    norm = surface.radius(mean)
    return surface.on_sphere(mean, rho), norm


def average(surface: Surface, points: Sequence[Weights], *, radius: float | None = None) -> Average:
    """Average the points ("SWA") and measure the mean and every point; k + 1 times the cost of :func:`values`."""
    state, norm = mean_point(surface, points, radius)
    rho = surface.radius(state)
    return Average(
        values=values(surface, state),
        members=tuple(values(surface, surface.on_sphere(p, rho)) for p in points),
        shrink=norm / rho,
        rho=rho,
        weights=state,
    )


@dataclass(frozen=True)
class Convexity:
    """Does the train loss along segments between iterates, and at their mean, stay below its value at the ends?"""

    average: Average  # of all iterates
    pairs: tuple[tuple[int, int], ...]  # (m,)
    angles: Floats = field(repr=False)  # (m,) between the ends, radians
    segments: Floats = field(repr=False)  # (m, n) train loss along each segment, ends included
    test_segments: Floats | None = field(default=None, repr=False)  # (m, n) test loss, where it was asked for

    @property
    def excess(self) -> Floats:
        """(m,) largest rise above the straight line between the ends, which it counts as 0; a convex loss has 0."""
        alpha = np.linspace(0.0, 1.0, self.segments.shape[1])
        line = (1 - alpha) * self.segments[:, :1] + alpha * self.segments[:, -1:]
        rise: Floats = np.maximum(0.0, (self.segments - line).max(axis=1))
        return rise

    @property
    def middle(self) -> Floats:
        """(m,) mean loss in the inside of the segment minus the mean of its two ends; negative in a valley."""
        ends = (self.segments[:, 0] + self.segments[:, -1]) / 2
        inside: Floats = self.segments[:, 1:-1].mean(axis=1)
        return inside - ends

    @property
    def share_above(self) -> float:
        """Share of the segments whose inside rises above the higher of its two ends anywhere."""
        return _share_above(self.segments)

    @property
    def test_share_above(self) -> float:
        """The same of the test loss; NaN where it was not measured."""
        return math.nan if self.test_segments is None else _share_above(self.test_segments)

    @property
    def convex(self) -> bool:
        """The finding as Kodryan et al. 2022 word it: mean of iterates and segments not above the ends."""
        return self.average.excess <= 0 and self.share_above == 0.0


def _share_above(segments: Floats) -> float:
    higher = np.maximum(segments[:, 0], segments[:, -1])
    return float(np.mean(segments[:, 1:-1].max(axis=1) > higher))


def convexity(
    surface: Surface,
    iterates: Sequence[Weights],
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    points: int = 5,
    radius: float | None = None,
    test: bool = False,
) -> Convexity:
    """Test the region the ``iterates`` have visited, along segments ``pairs`` (default: all) of ``points`` points each.

    Only the train loss is measured on segments: cost, one forward pass over the train set a point; with ``test`` the
    test loss as well, BN statistics recomputed, one pass over the test set a point more. Iterates should be epochs
    apart: neighbours of a noisy run are not independent samples of the region.
    """
    if len(iterates) < 2:
        raise UserError("convexity needs at least two iterates; keep the weights of more epochs")
    if points < 3:
        raise UserError(f"points must be at least 3, one inside a segment, got {points}")
    rho = surface.radius(iterates[0]) if radius is None else radius
    whole = average(surface, iterates, radius=rho)
    chosen = tuple(itertools.combinations(range(len(iterates)), 2)) if pairs is None else tuple(pairs)
    segments, on_test = np.empty((2, len(chosen), points))
    for row, test_row, (i, j) in zip(segments, on_test, chosen):
        row[0], row[-1] = whole.members[i].train_loss, whole.members[j].train_loss
        test_row[0], test_row[-1] = whole.members[i].test_loss, whole.members[j].test_loss
        for k in range(1, points - 1):
            state, _ = blend(surface, iterates[i], iterates[j], k / (points - 1), rho)
            if test:
                found = values(surface, state)
                row[k], test_row[k] = found.train_loss, found.test_loss
            else:
                row[k] = train_loss(surface, state)
    angles = np.array([angle(surface, iterates[i], iterates[j]) for i, j in chosen])
    return Convexity(whole, chosen, angles, segments, on_test if test else None)


def train_loss(surface: Surface, weights: Weights) -> float:
    """Measure the train loss alone, train mode."""
    with surface.at(weights), torch.no_grad():
        return sum(share * float(surface.loss(surface.model(x), y)) for x, y, share in surface.parts())

"""Measure the loss along the straight path between two points, pressed back to the sphere: are they in one valley?"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.landscape.surface import Surface, Values, Weights, values

Floats = npt.NDArray[np.float64]
QUANTITIES = ("train_loss", "train_error", "test_loss", "test_error")


@dataclass(frozen=True)
class Barrier:
    """How far a quantity rises above the straight line between its end values (Sadrtdinov et al. 2024)."""

    height: float  # largest excess over the line, 0 if there is none; NaN if a value is
    at: float  # the fraction of the path where
    ends: tuple[float, float]


def barrier(along: Floats) -> Barrier:
    """Find the barrier of values at equal distances along a path.

    >>> barrier(np.array([0.0, 0.75, 1.0]))
    Barrier(height=0.25, at=0.5, ends=(0.0, 1.0))
    """
    alpha = np.linspace(0.0, 1.0, len(along))
    excess = along - ((1 - alpha) * along[0] + alpha * along[-1])
    ends = (float(along[0]), float(along[-1]))
    if not np.all(np.isfinite(excess)):
        return Barrier(float("nan"), float("nan"), ends)
    k = int(np.argmax(excess))
    return Barrier(float(max(0.0, excess[k])), float(alpha[k]), ends)


@dataclass(frozen=True)
class Path:
    """Losses and errors at equal distances from point a (fraction 0) to point b (fraction 1)."""

    fractions: Floats = field(repr=False)  # (n,)
    train_loss: Floats = field(repr=False)  # (n,) train mode
    train_error: Floats = field(repr=False)
    test_loss: Floats = field(repr=False)  # (n,) eval mode, BN statistics recomputed at every point
    test_error: Floats = field(repr=False)
    chord: Floats = field(repr=False)  # (n,) norm of the straight path before it is pressed back, over rho
    angle: float  # between the scale-invariant weights of the ends, radians
    rho: float

    def barrier(self, quantity: str = "train_loss") -> Barrier:
        """Find the barrier of ``train_loss``, ``train_error``, ``test_loss`` or ``test_error``."""
        if quantity not in QUANTITIES:
            raise UserError(f"a path has no {quantity!r}; choose one of: {', '.join(QUANTITIES)}")
        return barrier(getattr(self, quantity))


def angle(surface: Surface, a: Weights, b: Weights) -> float:
    """Measure the angle between the scale-invariant weights of two points, radians, in float64."""
    return float(geometry.angle(surface.point(a), surface.point(b)))


def blend(
    surface: Surface, a: Weights, b: Weights, fraction: float, radius: float
) -> tuple[dict[str, torch.Tensor], float]:
    """Return the point at ``fraction`` of the straight path, pressed to the sphere of ``radius``; and its norm before.

    The scale-invariant weights of both ends are brought to ``radius`` first. Everything else of the state (head, norms,
    running statistics) is interpolated as it is; counters are those of ``a``.
    """
    a, b = surface.on_sphere(a, radius), surface.on_sphere(b, radius)
    mixed = {
        name: ((1 - fraction) * t.double() + fraction * b[name].double()).to(t.dtype) if t.is_floating_point() else t
        for name, t in a.items()
    }
    norm = surface.radius(mixed)
    return (surface.on_sphere(mixed, radius) if norm > 0 else mixed), norm


def linear_path(
    surface: Surface,
    a: Weights,
    b: Weights,
    *,
    points: int = 21,
    radius: float | None = None,
    recompute_bn: bool = True,
) -> Path:
    """Walk from ``a`` to ``b`` as Sadrtdinov et al. 2024 do; cost: ``points`` times :func:`values`.

    Both ends are brought to one norm (``radius``; default: that of ``a``), the whole state is interpolated linearly,
    every point is pressed back to the sphere and its BN statistics are recomputed by one pass over the train set. At
    points where the path meets the origin (opposite ends) everything is NaN.
    """
    if points < 2:
        raise UserError(f"points must be at least 2, the ends of the path, got {points}")
    rho = surface.radius(a) if radius is None else radius
    fractions = np.linspace(0.0, 1.0, points)
    measured, chord, nowhere = [], [], Values(*[float("nan")] * 4)
    for fraction in fractions:
        state, norm = blend(surface, a, b, float(fraction), rho)
        chord.append(norm / rho)
        measured.append(values(surface, state, recompute_bn=recompute_bn) if norm > 0 else nowhere)
    table = {q: np.array([getattr(v, q) for v in measured]) for q in QUANTITIES}
    return Path(fractions=fractions, chord=np.array(chord), angle=angle(surface, a, b), rho=rho, **table)

r"""Vectors on spheres, over lists of tensors.

A *vector* here is a list of tensors that are thought of as concatenated: ``x = (x_1, ..., x_n)``. Nothing is ever
concatenated or moved off its device, and no function waits for the device: numbers are returned as 0-d tensors.

Accuracy: an angle is never taken as ``acos`` of a cosine (which reads 0 below 3e-4 rad in float32), but by
``atan2(tangential, radial)`` of the exact difference; relative error about 1e-6 at 1e-6 rad in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor]

__all__ = [
    "angle",
    "dot",
    "exp_map",
    "log_map",
    "norm",
    "parallel_transport",
    "project_tangent_",
    "random_direction",
    "random_tangent",
    "retract_",
    "tangent",
]


def _check_pair(a: Vector, b: Vector) -> None:
    if len(a) != len(b) or not a:
        raise ValueError(f"two non-empty lists of the same length are needed, got {len(a)} and {len(b)} tensors")


def norm(x: Vector) -> Tensor:
    r"""Euclidean norm of the concatenation, ``sqrt(sum_i ||x_i||^2)``; a 0-d tensor.

    >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
    tensor(5.)
    """
    if not x:
        raise ValueError("the norm of an empty list of tensors is not defined")
    if len(x) == 1:
        return torch.linalg.vector_norm(x[0])
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(x))))


def dot(a: Vector, b: Vector) -> Tensor:
    r"""Inner product of the concatenations, ``sum_i <a_i, b_i>``; a 0-d tensor.

    >>> dot([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
    tensor(11.)
    """
    _check_pair(a, b)
    products = torch._foreach_mul(list(a), list(b))
    return torch.stack([product.sum() for product in products]).sum()


def tangent(v: Vector, x: Vector) -> list[Tensor]:
    r"""The part of ``v`` that is tangent to the sphere at ``x``: ``v - <v, x>/<x, x> x``; new tensors.

    >>> tangent([torch.tensor([1.0, 1.0])], [torch.tensor([2.0, 0.0])])
    [tensor([0., 1.])]
    """
    coefficient = dot(v, x) / dot(x, x)
    return [vi - coefficient * xi for vi, xi in zip(v, x)]


def project_tangent_(v: Vector, x: Vector) -> None:
    """In-place :func:`tangent`."""
    coefficient = dot(v, x) / dot(x, x)
    torch._foreach_sub_(list(v), torch._foreach_mul(list(x), coefficient))


def retract_(x: Vector, radius: Tensor | float) -> None:
    r"""Scale ``x`` in place to the norm ``radius``: the metric projection on the sphere (Kodryan et al. 2022, eq. 6).

    >>> x = [torch.tensor([3.0, 4.0])]
    >>> retract_(x, 10.0); x
    [tensor([6., 8.])]
    """
    torch._foreach_mul_(list(x), radius / norm(x))


def angle(a: Vector, b: Vector) -> Tensor:
    r"""Angle between two non-zero vectors in radians, in [0, pi]; a 0-d tensor.

    With ``d = b - a``, ``c = <d, a>/<a, a>`` and ``t = d - c a``: ``atan2(||t||, (1 + c) ||a||)``. For close vectors
    ``d`` has no rounding error (Sterbenz), so an angle of 1e-6 rad is accurate to about 1e-6 of itself even where a
    much larger radial change hides it.

    >>> angle([torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1e-6])])
    tensor(1.0000e-06)
    """
    _check_pair(a, b)
    difference = torch._foreach_sub(list(b), list(a))
    coefficient = dot(difference, a) / dot(a, a)
    torch._foreach_sub_(difference, torch._foreach_mul(list(a), coefficient))
    return torch.atan2(norm(difference), (1 + coefficient) * norm(a))


def exp_map(x: Vector, v: Vector) -> list[Tensor]:
    r"""Follow the great circle from ``x`` along the tangent vector ``v`` for the length ``||v||``; new tensors.

    ``cos(s) x + sin(s) r v/||v||`` with ``r = ||x||``, ``s = ||v||/r``. ``v`` must be tangent at ``x``.
    """
    _check_pair(x, v)
    radius, length = norm(x), norm(v)
    s = length / radius
    scale = torch.sinc(s / torch.pi)  # sin(s)/s, smooth at 0
    return [torch.cos(s) * xi + scale * vi for xi, vi in zip(x, v)]


def log_map(x: Vector, y: Vector) -> list[Tensor]:
    r"""The tangent vector at ``x`` whose :func:`exp_map` reaches ``y``; ``y`` is taken on the sphere of ``x``.

    Undefined (NaN) for opposite points; zero for equal ones.
    """
    _check_pair(x, y)
    direction = tangent([yi - xi for xi, yi in zip(x, y)], x)
    length, theta = norm(direction), angle(x, y)
    scale = torch.where(length > 0, norm(x) * theta / length, torch.zeros_like(length))
    return [scale * di for di in direction]


def parallel_transport(v: Vector, x: Vector, y: Vector) -> list[Tensor]:
    r"""Carry the tangent vector ``v`` from ``x`` to ``y`` along their great circle; keeps norms and angles exactly.

    ``v - <v, y>/(r^2 + <x, y>) (x + y)`` on the sphere of radius ``r = ||x|| = ||y||`` [standard; e.g. Absil et al.].
    """
    coefficient = dot(v, y) / (dot(x, x) + dot(x, y))
    return [vi - coefficient * (xi + yi) for vi, xi, yi in zip(v, x, y)]


def random_direction(like: Vector, generator: torch.Generator, radius: Tensor | float = 1.0) -> list[Tensor]:
    """A point drawn uniformly from the sphere of ``radius``, in the shapes and dtypes of ``like``.

    Drawn on the CPU and then moved, so that the numbers do not depend on the device.
    """
    point = [torch.randn(t.shape, generator=generator, dtype=t.dtype).to(t.device) for t in like]
    retract_(point, radius)
    return point


def random_tangent(x: Vector, generator: torch.Generator, length: Tensor | float = 1.0) -> list[Tensor]:
    """A tangent vector at ``x`` of the given length, its direction uniform in the tangent space."""
    direction = [torch.randn(t.shape, generator=generator, dtype=t.dtype).to(t.device) for t in x]
    project_tangent_(direction, x)
    retract_(direction, length)
    return direction

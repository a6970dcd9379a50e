r"""Vectors on spheres, over lists of tensors.

A *vector* here is a list of tensors that are thought of as concatenated: ``x = (x_1, ..., x_n)``. Nothing is ever
concatenated or moved off its device, and no function waits for the device: numbers are returned as 0-d tensors.

Accuracy. An angle is never taken as ``acos`` of a cosine (which reads 0 below 3e-4 rad in float32), but by
``atan2(tangential, radial)`` in float64. A norm is accurate to a few units of the last place at any size: torch's own
float32 norm on a CPU sums in order and is up to 1e-5 off at ten thousand numbers and 4e-4 at a million, enough to let a
sphere drift.
"""

import cmath
from collections.abc import Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor]


def _check_pair(a: Vector, b: Vector) -> None:
    if len(a) != len(b) or not a:
        raise ValueError(f"two non-empty lists of the same length are needed, got {len(a)} and {len(b)} tensors")
    for i, (ai, bi) in enumerate(zip(a, b)):
        if ai.shape != bi.shape:  # broadcasting would give a number that means nothing
            raise ValueError(f"tensors {i} differ in shape: {tuple(ai.shape)} and {tuple(bi.shape)}")


def summing_dtype(device: torch.device) -> torch.dtype:
    """Return what numbers are summed in on a device: float64, or float32 on mps, which has no float64.

    >>> summing_dtype(torch.device("cpu"))
    torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


def all_finite(t: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite; where their sum is, they are, and nothing else is made."""
    t = t.detach()
    return cmath.isfinite(t.sum().item()) or bool(torch.isfinite(t).all())


def norms(x: Vector) -> list[Tensor]:
    """Compute the Euclidean norm of every tensor; in float32 for tensors of half precision.

        ||x_i||

    - ``x``: tensors of any shape, at least one.

    Returns a list of 0-d tensors. Raises ValueError for an empty list.

    >>> norms([torch.tensor([3.0, 4.0]), torch.tensor([[2.0]])])
    [tensor(5.), tensor(2.)]
    """
    x = _at_least_float32(x)
    if _plain_norm_is_exact(x):
        return list(torch._foreach_norm(x))
    return list(torch._foreach_sqrt(_sums_of_squares(x)))


def norm(x: Vector) -> Tensor:
    """Compute the Euclidean norm of the concatenation, a 0-d tensor.

        sqrt(sum_i ||x_i||^2)

    - ``x``: tensors of any shape, at least one.

    Raises ValueError for an empty list.

    >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
    tensor(5.)
    """
    x = _at_least_float32(x)
    total: Tensor
    if _plain_norm_is_exact(x):
        found = torch._foreach_norm(x)
        total = found[0] if len(found) == 1 else torch.linalg.vector_norm(torch.stack(found))
    else:
        squares = _sums_of_squares(x)
        total = squares[0].sqrt() if len(squares) == 1 else torch.stack(squares).sum().sqrt()
    return total


def _at_least_float32(x: Vector) -> list[Tensor]:
    if not x:
        raise ValueError("the norm of an empty list of tensors is not defined")
    return [t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in x]


def _plain_norm_is_exact(x: Vector) -> bool:
    """Tell whether torch's own norm will do: on a CPU it adds up float32 squares in order, for a sum pairwise."""
    return not any(t.dtype == torch.float32 and t.device.type == "cpu" for t in x)


def _sums_of_squares(x: Vector) -> list[Tensor]:
    return [square.sum() for square in torch._foreach_mul(list(x), list(x))]


def row_norms(t: Tensor) -> Tensor:
    """Compute the norms along the first dimension (of output filters, of neurons).

        ||t_k||

    - ``t``: tensor of shape (rows, ...).

    Returns shape (rows, 1, ...), which broadcasts against ``t``.

    >>> row_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    tensor([[5.],
            [2.]])
    """
    dims = tuple(range(1, t.ndim))
    if _plain_norm_is_exact([t]):
        found: Tensor = torch.linalg.vector_norm(t, dim=dims, keepdim=True)
        return found
    return t.square().sum(dims, keepdim=True).sqrt()


def dot(a: Vector, b: Vector) -> Tensor:
    """Compute the inner product of the concatenations, a 0-d tensor.

        sum_i <a_i, b_i>

    - ``a``, ``b``: as many tensors of the same shapes.

    Raises ValueError where number or shapes differ, or there is none.

    >>> dot([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
    tensor(11.)
    """
    _check_pair(a, b)
    products = torch._foreach_mul(list(a), list(b))
    return torch.stack([product.sum() for product in products]).sum()


def tangent(v: Vector, x: Vector) -> list[Tensor]:
    """Compute the part of ``v`` that is tangent to the sphere at ``x``; new tensors.

        v - <v, x>/<x, x> x

    - ``v``, ``x``: as many tensors of the same shapes; x not zero.

    Raises ValueError where number or shapes differ, or there is none.

    >>> tangent([torch.tensor([1.0, 1.0])], [torch.tensor([2.0, 0.0])])
    [tensor([0., 1.])]

    Source: the projection on the orthogonal complement of x.
    """
    coefficient = dot(v, x) / dot(x, x)
    return [vi - coefficient * xi for vi, xi in zip(v, x)]


def project_tangent_(v: Vector, x: Vector) -> None:
    """Make ``v`` tangent to the sphere at ``x``, in place: :func:`tangent`, with its arguments and errors.

    >>> v = [torch.tensor([1.0, 1.0])]
    >>> project_tangent_(v, [torch.tensor([2.0, 0.0])]); v
    [tensor([0., 1.])]
    """
    coefficient = dot(v, x) / dot(x, x)
    torch._foreach_sub_(list(v), torch._foreach_mul(list(x), coefficient))


def retract_(x: Vector, radius: Tensor | float) -> None:
    """Bring ``x`` to the norm ``radius``, in place: the metric projection on the sphere.

        x <- radius x / ||x||

    - ``x``: tensors, not all zero.
    - ``radius``: > 0.

    Raises ValueError for an empty list.

    >>> x = [torch.tensor([3.0, 4.0])]
    >>> retract_(x, 10.0); x
    [tensor([6., 8.])]

    Source: Kodryan et al. 2022, eq. 6.
    """
    torch._foreach_mul_(list(x), radius / norm(x))


def angle(a: Vector, b: Vector) -> Tensor:
    """Compute the angle between two vectors in radians, in [0, pi]; a 0-d tensor, NaN if one of them is zero.

        atan2(||t||, (1 + c) ||a||),  d = b - a,  c = <d, a>/<a, a>,  t = d - c a,  with b brought to the size of a

    - ``a``, ``b``: as many tensors of the same shapes, of any norms.

    Computed in float64 where the device has it. Then the angle of two float32 vectors is exact to the last place down
    to 1e-7 rad, whatever their norms. (Where the device has no float64, 1e-6 rad is accurate to about 1e-4 of itself.)
    Raises ValueError where number or shapes differ, or there is none.

    >>> angle([torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1e-6])])
    tensor(1.0000e-06)
    """
    _check_pair(a, b)
    dtype = torch.promote_types(a[0].dtype, torch.float32)
    if a[0].device.type != "mps":
        a, b = [t.double() for t in a], [t.double() for t in b]
    # a power of two that brings the norms together: then the difference of close directions has no rounding error
    # (Sterbenz)
    power = torch.exp2(torch.round(torch.log2(norm(a) / norm(b))))
    b = torch._foreach_mul(list(b), power)
    difference = torch._foreach_sub(b, list(a))
    coefficient = dot(difference, a) / dot(a, a)
    torch._foreach_sub_(difference, torch._foreach_mul(list(a), coefficient))
    found = torch.atan2(norm(difference), (1 + coefficient) * norm(a))
    return torch.where(norm(b) > 0, found, torch.nan).to(dtype)


def parallel_transport(v: Vector, x: Vector, y: Vector) -> list[Tensor]:
    """Carry the tangent vector ``v`` from ``x`` to ``y`` along their great circle; keeps norms and angles; new tensors.

        v - <v, y>/(r^2 + <x, y>) (x + y),  r = ||x|| = ||y||

    - ``v``: tangent at x.
    - ``x``, ``y``: points of one sphere, not opposite.

    Raises ValueError where number or shapes differ, or there is none.

    >>> east, north = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    >>> parallel_transport([north], [east], [north])
    [tensor([-1.,  0.,  0.])]

    Source: parallel translation on the sphere (Absil, Mahony, Sepulchre 2008).
    """
    coefficient = dot(v, y) / (dot(x, x) + dot(x, y))
    return [vi - coefficient * (xi + yi) for vi, xi, yi in zip(v, x, y)]


def random_direction(like: Vector, generator: torch.Generator, radius: Tensor | float = 1.0) -> list[Tensor]:
    """Draw a point uniformly from the sphere of ``radius``; on the CPU and then moved, the same on every device.

        radius z / ||z||,  z standard normal

    - ``like``: tensors whose shapes, dtypes and devices the point has.
    - ``generator``: of the CPU.
    - ``radius``: > 0.

    >>> point = random_direction([torch.zeros(3), torch.zeros(2, 2)], torch.Generator().manual_seed(0), radius=2.0)
    >>> round(float(norm(point)), 5)
    2.0
    """
    point = _normal(like, generator)
    retract_(point, radius)
    return point


def random_tangent(x: Vector, generator: torch.Generator, length: Tensor | float = 1.0) -> list[Tensor]:
    """Draw a tangent vector at ``x`` of the given length, its direction uniform in the tangent space.

        length t / ||t||,  t the tangent part of z,  z standard normal

    - ``x``: point of the sphere, not zero.
    - ``generator``: of the CPU.
    - ``length``: > 0.

    >>> x = [torch.tensor([3.0, 0.0])]
    >>> random_tangent(x, torch.Generator().manual_seed(0), length=2.0)[0].abs()
    tensor([0., 2.])
    """
    direction = _normal(x, generator)
    project_tangent_(direction, x)
    retract_(direction, length)
    return direction


def _normal(like: Vector, generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(t.shape, generator=generator, dtype=t.dtype, device="cpu").to(t.device) for t in like]

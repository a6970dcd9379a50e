"""Eigenvalues and trace of a symmetric map that is known by its products alone. The one file that knows the library.

The library is SciPy (ARPACK's implicitly restarted Lanczos, ``eigsh``): it is installed beside scikit-learn anyway, and
takes any function as a matrix. Every result carries its own check: one product more for each eigenpair.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scaleinv.errors import UserError, how_to_install

Floats = npt.NDArray[np.float64]

#: relative accuracy asked of ARPACK. An eigenvalue's error is second order in the residual; products of a float32
#: network are good to 1e-6, so asking for less than 1e-5 may never end.
TOLERANCE = 1e-3
#: a pair counts as converged up to this residual relative to the largest eigenvalue: its value is then known to 1e-2
CONVERGED = 1e-2


class SymmetricMap(Protocol):
    """What is needed of a matrix."""

    size: int

    def project(self, v: Tensor) -> Tensor:
        """The part of a vector (size,) in the subspace the map lives on."""

    def __call__(self, v: Tensor) -> Tensor:
        """The product with a vector (size,), float64."""


@dataclass(frozen=True)
class Eigenpairs:
    """The k algebraically largest eigenvalues, descending; NaN where the iteration found none."""

    values: tuple[float, ...]  # (k,)
    residuals: tuple[float, ...]  # (k,) ||A v - value v||, so some eigenvalue lies within this distance of the value
    converged: bool  # all k found, residuals below CONVERGED times the largest value
    products: int
    vectors: Tensor = field(repr=False, compare=False)  # (k', P) orthonormal rows, k' found


def top_eigenpairs(
    operator: SymmetricMap,
    k: int,
    *,
    generator: torch.Generator,
    tolerance: float = TOLERANCE,
    krylov: int | None = None,
    start: Tensor | None = None,
) -> Eigenpairs:
    """Run Lanczos from a random vector of ``generator``, or from ``start`` (a neighbour's eigenvector saves products).

    ``krylov``: vectors kept at once (default max(2 k + 1, 20), as ARPACK's users do); products come in portions of it.
    The start is projected, so directions the operator projects out never enter.
    """
    try:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
    except ImportError as error:  # pragma: no cover
        raise UserError(f"eigenvalues need scipy: {how_to_install('scipy', 'landscape')}") from error

    if not 1 <= k < operator.size - 1:
        raise UserError(f"{k} eigenvalues of a matrix of {operator.size} rows cannot be asked for; choose fewer")
    products = 0

    def matvec(v: Floats) -> Floats:
        nonlocal products
        products += 1
        image: Floats = operator(torch.from_numpy(np.array(v, dtype=np.float64).reshape(-1))).numpy()
        return image

    first = (
        torch.randn(operator.size, generator=generator, dtype=torch.float64, device="cpu")
        if start is None
        else start.double()
    )
    first = operator.project(first)
    matrix = LinearOperator((operator.size, operator.size), matvec=matvec, dtype=np.float64)
    ncv = None if krylov is None else min(max(krylov, k + 2), operator.size)
    try:
        found, columns = eigsh(
            matrix, k=k, which="LA", v0=first.numpy(), tol=tolerance, ncv=ncv, rng=np.random.default_rng(0)
        )
    except ArpackNoConvergence as error:
        found, columns = error.eigenvalues, error.eigenvectors
    order = np.argsort(found)[::-1]
    vectors = torch.from_numpy(np.ascontiguousarray(columns[:, order].T))
    residuals = [float(torch.linalg.vector_norm(operator(v) - float(w) * v)) for v, w in zip(vectors, found[order])]
    values = [float(w) for w in found[order]]
    missing = [math.nan] * (k - len(values))
    scale = max(map(abs, values), default=0.0)
    return Eigenpairs(
        values=(*values, *missing),
        residuals=(*residuals, *missing),
        converged=not missing and max(residuals) <= CONVERGED * scale,
        products=products + len(residuals),
        vectors=vectors,
    )


@dataclass(frozen=True)
class TraceEstimate:
    """An unbiased estimate and its standard error."""

    value: float
    error: float  # NaN below two probes
    probes: int


def trace(
    operator: SymmetricMap, probes: int, *, generator: torch.Generator, known: Eigenpairs | None = None
) -> TraceEstimate:
    r"""Estimate the trace as Hutchinson does, with the ``known`` eigenvectors taken out and added exactly.

    ``tr A = sum_i lambda_i + tr Q A Q`` with Q the projection off the eigenvectors; ``E z^T Q A Q z = tr Q A Q`` for z
    of random signs (Hutchinson 1989; Meyer et al. 2021, "Hutch++", take out a random subspace instead). It is unbiased
    for any orthonormal vectors if lambda_i is the quadratic form of vector i, which Lanczos' values are. The variance
    comes from what is left, so a few large eigenvalues cost nothing.
    """
    if probes < 1:
        raise UserError(f"probes must be at least 1, and 2 for a standard error, got {probes}")
    vectors = torch.zeros((0, operator.size), dtype=torch.float64, device="cpu") if known is None else known.vectors
    exact = 0.0 if known is None else math.fsum(w for w in known.values if not math.isnan(w))
    samples = []
    for _ in range(probes):
        z = torch.randint(0, 2, (operator.size,), generator=generator, device="cpu").double() * 2 - 1
        z = operator.project(z)
        z = z - vectors.T @ (vectors @ z)
        samples.append(float(z @ operator(z)))
    mean = math.fsum(samples) / probes
    spread = math.fsum((s - mean) ** 2 for s in samples)
    error = math.sqrt(spread / (probes - 1) / probes) if probes > 1 else math.nan
    return TraceEstimate(exact + mean, error, probes)

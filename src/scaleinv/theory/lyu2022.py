r"""Sharpness reduction of full-batch descent with weight decay (Lyu, Li, Arora, NeurIPS 2022, 2206.07085).

Spherical sharpness is the largest eigenvalue of the Hessian at x/||x||, ``||x||^2`` times the one at x.
"""

from __future__ import annotations

from scaleinv.theory._formula import Number, formula


@formula(positive=("sharpness",))
def edge_elr(sharpness: Number) -> Number:
    """ELR at the edge of stability, ``2 / lambda_1`` of the spherical Hessian.

    >>> edge_elr(4.0)
    0.5
    """
    return 2 / sharpness


@formula()
def edge_sharpness(elr: Number) -> Number:
    """Spherical sharpness at the edge of stability, ``2 / elr``; above it descent on a quadratic oscillates and
    grows.
    """
    return 2 / elr


@formula()
def spherical_sharpness(sharpness: Number, rho_sq: Number) -> Number:
    """From the sharpness at x to that at x/||x||: ``rho^2 lambda_1`` (Hessians scale as 1/rho^2). Exact."""
    return rho_sq * sharpness


@formula()
def perturbation_factor(elr: Number, sharpness: Number) -> Number:
    """Factor per step of a small deviation along the sharpest direction of a minimum, ``1 - elr lambda_1``; below -1
    past the edge.

    >>> perturbation_factor(0.5, 4.0)
    -1.0
    """
    return 1 - elr * sharpness

r"""Sharpness reduction of full-batch descent with weight decay (Lyu, Li, Arora, NeurIPS 2022, arXiv 2206.07085).

Spherical sharpness is the largest eigenvalue of the Hessian at x/||x||, ``||x||^2`` times the one at x.
"""

from scaleinv.theory._formula import Number, formula


@formula(positive=("sharpness",))
def edge_elr(sharpness: Number) -> Number:
    """Compute the ELR at the edge of stability.

        elr = 2 / lambda_1

    - ``sharpness``: lambda_1, largest eigenvalue of the spherical Hessian, > 0.
    - Raises :class:`~scaleinv.UserError` outside this range. Source: Lyu, Li, Arora 2022, edge on the sphere.

    >>> edge_elr(4.0)
    0.5
    """
    return 2 / sharpness


@formula()
def perturbation_factor(elr: Number, sharpness: Number) -> Number:
    """Compute the factor by which a small deviation from a minimum grows per step along the sharpest direction.

        1 - elr lambda_1;  below -1 past the edge of stability

    - ``elr``: effective learning rate per step, > 0.
    - ``sharpness``: lambda_1 as for :func:`edge_elr`, >= 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: a quadratic; the edge of Lyu, Li, Arora 2022.

    >>> perturbation_factor(0.5, 4.0)
    -1.0
    """
    return 1 - elr * sharpness

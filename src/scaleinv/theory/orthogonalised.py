r"""Where optimizers that orthogonalise an average of gradients (Muon, Shampoo's limit) come to rest.

The average ``m`` of independent gradients remembers them: ``corr(m_t, m_{t+k}) = R b^k``. Its polar factor, a matrix
with all singular values 1, forgets faster, since the small singular values that it lifts change first. Of two Gaussian
matrices of correlation ``c`` the polar factors have the correlation, about::

    f(c) = h c + (1 - h) c^5,  h = (E s)^2/E s^2

with ``s`` the singular values of a Gaussian matrix (Marchenko and Pastur): ``h = (8/(3 pi))^2 = 0.72`` for a square
one, near 1 for a flat one. ``h`` is exact, that of the first Hermite polynomial; the fifth power stands for the others
(simulated: within 0.01 up to c = 0.7; up to 0.05 too large at 0.95 for a square matrix, less for others). The
length of the update cancels in the angle, so that neither the scale factor ``sqrt(max(1, rows/columns))`` nor the
singular values that Newton-Schulz leaves between 0.7 and 1.2 matter much to it.
"""

import math

import numpy as np

from scaleinv.theory._formula import Number, formula

_POINTS = 512


def kept_share(rows: int, columns: int) -> float:
    """Compute ``h``, the squared correlation of a Gaussian matrix and its polar factor.

        h = ((2/pi) int_0^pi sin(t)^2/sqrt(1 + q - 2 sqrt(q) cos t) dt)^2,  q = smaller side/larger side

    - ``rows``, ``columns``: sides of the matrix, >= 1; the limit of large ones is taken.

    >>> round(kept_share(64, 64), 4), round(kept_share(1, 1000), 3)
    (0.7205, 1.0)
    """
    q = min(rows, columns) / max(rows, columns)
    t = (np.arange(_POINTS) + 0.5) * math.pi / _POINTS
    return float((2 / _POINTS * np.sum(np.sin(t) ** 2 / np.sqrt(1 + q - 2 * math.sqrt(q) * np.cos(t)))) ** 2)


def blend(momentum: float, nesterov: bool) -> float:
    """Compute ``R``, by which the correlation of the averages one step apart is less than ``b``: 1 without Nesterov.

        R = (b (1 + b) + b^4/(1 - b^2))/((1 + b)^2 + b^4/(1 - b^2))   of   (1 - b) g + b m

    - ``momentum``: b, in [0, 1).
    - ``nesterov``: whether the present gradient is blended in again.

    >>> blend(0.9, False), round(blend(0.95, True), 4)
    (1.0, 0.8396)
    """
    b = momentum
    if not nesterov or not b:
        return 1.0
    old = b**4 / (1 - b * b)
    return (b * (1 + b) + old) / ((1 + b) ** 2 + old)


def _remembered(a: Number, momentum: float, nesterov: bool, kept: float) -> Number:
    """Sum ``corr(u_t, u_{t+k}) a^k`` over k >= 1."""
    b, r = momentum, blend(momentum, nesterov)
    return kept * r * a * b / (1 - a * b) + (1 - kept) * r**5 * a * b**5 / (1 - a * b**5)


@formula(positive=("wd",))
def angle(lr: Number, wd: Number, momentum: Number, nesterov: Number, kept: Number) -> Number:
    """Compute the angle of a step at equilibrium.

        cos(angle) = a + (1 - a^2) S/(a (1 + 2 S)),  S = sum_k f(R b^k) a^k,  a = 1 - lr wd

    - ``lr``, ``wd``: learning rate, decoupled weight decay, both > 0, lr wd < 1.
    - ``momentum``: b, in [0, 1); ``nesterov``: 1 with it, else 0.
    - ``kept``: h, :func:`kept_share` of the matrix.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours.

    >>> round(angle(0.02, 0.15, 0.0, 0, 0.72), 4)
    0.0775
    """
    a = 1 - lr * wd
    s = _remembered(a, momentum, bool(nesterov), kept)
    below = (1 - a) * (1 - (1 + a) * s / (a * (1 + 2 * s)))  # 1 - cos
    return 2 * np.arcsin(np.sqrt(below / 2))


@formula(positive=("wd",))
def norm(lr: Number, wd: Number, momentum: Number, nesterov: Number, kept: Number, update: Number) -> Number:
    """Compute the norm at equilibrium.

        rho = lr U sqrt((1 + 2 S)/(1 - a^2))

    - ``update``: U, norm of the update in units of the learning rate, > 0; the others as for :func:`angle`.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: ours.

    >>> round(norm(0.1, 0.5, 0.0, 0, 0.72, 2.0), 4)
    0.6405
    """
    a = 1 - lr * wd
    return lr * update * np.sqrt((1 + 2 * _remembered(a, momentum, bool(nesterov), kept)) / (1 - a * a))

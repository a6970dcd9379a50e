r"""Rotational equilibrium of SGD, SGDM, AdamW and Lion (Kosson, Messmer, Jaggi, ICML 2024, arXiv 2305.17212).

At equilibrium weight decay shrinks a scale-invariant weight as much as its updates lengthen it; what is left is a
rotation by a known angle per step. The formulas assume gradients without memory from step to step ("random walk"); a
net's are not quite.

The momentum-corrected forms for updates of fixed norm U are those of the "hyperball" analysis (2606.16899),
``al = 1 - lr wd``: ``||W|| = lr U sqrt((1 + al b)/((1 - al^2)(1 - al b)))``, rotation
``sqrt((1 - al^2)(1 - b^2))/(1 + al b)``.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scaleinv.errors import UserError
from scaleinv.plots.regimes import draw_relaxation
from scaleinv.plots.tables import frame
from scaleinv.text import esc
from scaleinv.theory import wan2020
from scaleinv.theory._formula import Number, formula
from scaleinv.theory.rates import sgd_pace

OptimizerLaw = Literal["sgd", "sgdm", "adamw", "lion", "muon"]
LAWS: tuple[OptimizerLaw, ...] = ("sgd", "sgdm", "adamw", "lion", "muon")


@formula(positive=("wd",))
def sgd_angle(lr: Number, wd: Number) -> Number:
    """Compute the angle of a step of SGD at equilibrium, root mean square, in radians.

        sqrt(2 lr wd)

    - ``lr``, ``wd``: learning rate, coupled weight decay, both > 0, lr wd < 1.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Kosson et al. 2024, table of equilibria.

    >>> round(sgd_angle(0.1, 0.005), 6)
    0.031623
    """
    return np.sqrt(2 * lr * wd)


@formula(positive=("wd",))
def sgd_norm(eg: Number, lr: Number, wd: Number, momentum: Number = 0.0) -> Number:
    """Compute the norm at equilibrium of SGD in the paper's form; :func:`wan2020.rho_at_equilibrium` is exact.

        (lr eg^2 / (2 wd (1 - momentum)))^(1/4)

    - ``eg``: effective gradient norm, root mean square, >= 0.
    - ``lr``, ``wd``: as for :func:`sgd_angle`.
    - ``momentum``: in [0, 1).
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: Kosson et al. 2024, table of equilibria.

    >>> sgd_norm(4.0, 0.5, 0.25)
    2.0
    """
    return (lr * eg**2 / (2 * wd * (1 - momentum))) ** 0.25


@formula(positive=("wd",))
def adamw_angle(lr: Number, wd: Number, beta1: Number) -> Number:
    """Compute the angle of a step of AdamW at equilibrium, root mean square, in radians.

        sqrt(2 lr wd (1 - beta1)/(1 + beta1))

    - ``lr``, ``wd``: learning rate, decoupled weight decay, both > 0, lr wd < 1.
    - ``beta1``: in [0, 1).

    Drops terms of relative order ``lr wd/(1 - beta1)``. Raises :class:`~scaleinv.UserError` outside these ranges.
    Source: Kosson et al. 2024, table of equilibria.

    >>> round(adamw_angle(0.001, 0.5, 0.9), 7)
    0.0072548
    """
    return np.sqrt(2 * lr * wd * (1 - beta1) / (1 + beta1))


@formula(positive=("wd",))
def adamw_norm(lr: Number, wd: Number, dimension: Number) -> Number:
    """Compute the norm at equilibrium of AdamW: RMS weight ``sqrt(lr/(2 wd))``, whatever beta1 is.

        sqrt(lr dimension / (2 wd))

    - ``lr``, ``wd``: as for :func:`adamw_angle`.
    - ``dimension``: count of the weights, >= 2.

    A widely copied note has an extra factor ``sqrt((1-beta1)/(1+beta1))``: it takes update and weight for independent,
    which momentum forbids, and is wrong by sqrt 19 at beta1 = 0.9. Raises :class:`~scaleinv.UserError` outside these
    ranges. Source: Kosson et al. 2024, table of equilibria.

    >>> adamw_norm(0.1, 0.2, 16.0)
    2.0
    """
    return np.sqrt(lr * dimension / (2 * wd))


@formula(positive=("wd",))
def lion_angle(lr: Number, wd: Number, beta1: Number, beta2: Number) -> Number:
    """Compute the angle of a step of Lion at equilibrium, root mean square, in radians, as published.

        sqrt(pi/2) sqrt(2 lr wd) sqrt((1-b1)^2 + b1^2 (1-b2)/(1+b2))

    - ``lr``, ``wd``: as for :func:`adamw_angle`.
    - ``beta1``, ``beta2``: b1, b2, in [0, 1).

    The paper linearises the correlation of signs, so it is low by one to three per cent at the usual betas and fails
    for small b1: see :func:`lion_angle_exact`. Raises :class:`~scaleinv.UserError` outside these ranges. Source: Kosson
    et al. 2024, table of equilibria.

    >>> round(lion_angle(1e-3, 0.5, 0.9, 0.99), 6)
    0.004701
    """
    return np.sqrt(np.pi / 2) * np.sqrt(2 * lr * wd) * np.sqrt((1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2))


def _lion_lengthening(lr: Number, wd: Number, beta1: Number, beta2: Number) -> Number:
    """``1 + 2 sum_k al^k R_k`` with R_k the correlation of Lion's signs k steps apart, ``R_k = (2/pi) asin(r_k)``.

    ``r_k`` is the correlation of the interpolations ``beta1 m + (1 - beta1) g`` for white Gaussian g.
    """
    lr, wd, beta1, beta2 = np.broadcast_arrays(lr, wd, beta1, beta2)
    al = 1 - lr * wd
    variance = (1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2)
    first = beta1 * (1 - beta2) * ((1 - beta1) + beta1 * beta2 / (1 + beta2)) / variance
    total, factor, lag = np.ones_like(al), al.copy(), first.copy()
    # terms fall at least like (al beta2)^k; stop when the rest is below 1e-12 of the sum
    rate = float(np.max(al * beta2)) if al.size else 0.0
    for _ in range(int(np.ceil(np.log(1e-13) / np.log(rate))) if rate > 0 else 1):
        total = total + 2 * factor * (2 / np.pi) * np.arcsin(lag)
        factor, lag = factor * al, lag * beta2
    return total


@formula(positive=("wd",))
def lion_angle_exact(lr: Number, wd: Number, beta1: Number, beta2: Number) -> Number:
    """Compute :func:`lion_angle` without linearising.

        angle = atan2(sqrt(q - o^2), al + o),  o = (1 - al^2 - q)/(2 al),  al = 1 - lr wd
        q = (lr U/||W||)^2 = (1 - al^2) / (1 + 2 sum_k al^k (2/pi) asin r_k)
        r_k = b2^(k-1) b1 (1-b2) ((1-b1) + b1 b2/(1+b2)) / ((1-b1)^2 + b1^2 (1-b2)/(1+b2))

    Arguments, ranges and errors as for :func:`lion_angle`. ``o`` is the outward part of the step in units of the norm.
    Source: ours, sharpening Kosson et al. 2024.

    >>> round(lion_angle_exact(1e-3, 0.5, 0.9, 0.99), 6)
    0.004753
    """
    al = 1 - lr * wd
    step_sq = (1 - al**2) / _lion_lengthening(lr, wd, beta1, beta2)  # (lr U / ||W||)^2
    # the norm is at rest, so decay is made up for by the step's length and by its radial part
    outward = (1 - al**2 - step_sq) / (2 * al)
    return np.arctan2(np.sqrt(step_sq - outward**2), al + outward)


@formula(positive=("wd",))
def lion_norm(lr: Number, wd: Number, beta1: Number, beta2: Number, dimension: Number) -> Number:
    """Compute the norm at equilibrium of Lion.

        lr sqrt(dimension) sqrt((1 + 2 sum_k al^k (2/pi) asin r_k)/(1 - al^2)),  al and r_k of :func:`lion_angle_exact`

    Arguments, ranges, errors as for :func:`lion_angle`; ``dimension``: count of the weights, >= 2. Source: ours.

    >>> round(lion_norm(1e-3, 0.5, 0.9, 0.99, 2000.0), 2)
    9.36
    """
    al = 1 - lr * wd
    return lr * np.sqrt(dimension) * np.sqrt(_lion_lengthening(lr, wd, beta1, beta2) / (1 - al**2))


@formula(positive=("wd",))
def averaged_update_norm(lr: Number, wd: Number, beta1: Number, update: Number) -> Number:
    """Compute the norm at equilibrium when the update is a moving average of fixed norm.

        lr U sqrt((1 + al b)/((1 - al^2)(1 - al b))),  al = 1 - lr wd

    - ``lr``, ``wd``: as for :func:`adamw_angle`.
    - ``beta1``: b, decay of the average, in [0, 1).
    - ``update``: U, norm of the averaged update in units of the learning rate, > 0.
    - Raises :class:`~scaleinv.UserError` outside these ranges. Source: the "hyperball" analysis, arXiv 2606.16899.

    >>> round(averaged_update_norm(0.1, 0.5, 0.0, 2.0), 4)
    0.6405
    """
    al = 1 - lr * wd
    return lr * update * np.sqrt((1 + al * beta1) / ((1 - al**2) * (1 - al * beta1)))


@formula(positive=("wd",))
def averaged_update_angle(lr: Number, wd: Number, beta1: Number) -> Number:
    """Compute the momentum-corrected angle of a step at equilibrium, in radians.

        sqrt((1 - al^2)(1 - b^2))/(1 + al b),  al = 1 - lr wd

    Arguments, ranges, errors as for :func:`averaged_update_norm`. Source: "hyperball" analysis, arXiv 2606.16899.

    >>> round(averaged_update_angle(0.001, 0.5, 0.9), 6)
    0.007256
    """
    al = 1 - lr * wd
    return np.sqrt((1 - al**2) * (1 - beta1**2)) / (1 + al * beta1)


@dataclass(frozen=True)
class Equilibrium:
    """Where weight decay and updates balance.

    ``angle``: RMS radians per step. ``norm``: of the weight (NaN where it needs a quantity that was not given;
    ``missing`` names it). ``time_scale``: steps in which a deviation of the norm, to the power of ``power``, falls by
    e: 4 for SGD, whose steps grow as the norm falls, 2 for updates of fixed norm.
    """

    law: str
    angle: Number
    norm: Number
    time_scale: Number
    missing: str = ""

    @property
    def power(self) -> int:
        """The power of the norm that relaxes exponentially."""
        return {"sgd": 4, "sgdm": 4, "sgdw": 4, "lars": -2, "lamb": -1}.get(self.law, 2)

    def relative_norm(self, start: float, steps: Number) -> Number:
        """Compute the norm in units of that at equilibrium, ``steps`` after it was ``start``.

        ::

            n(t) = (1 + (start^power - 1) exp(-t / time_scale))^(1/power)

        - ``start``: in units of the norm at equilibrium, > 0. ``steps``: >= 0.
        - Source: the averages of the equilibria's recursions (Wan et al. 2020; Kosson et al. 2024).

        >>> float(equilibrium("adamw", 1e-3, 0.5, dimension=2000).relative_norm(1.0, 100))
        1.0
        """
        return (1 + (start**self.power - 1) * np.exp(-np.asarray(steps) / self.time_scale)) ** (1 / self.power)

    def _numbers(self) -> dict[str, Any]:
        return {"law": self.law, "angle": self.angle, "norm": self.norm, "time_scale": self.time_scale}

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td><td>{esc(str(value))}</td></tr>" for name, value in self._numbers().items())
        missing = f"<p>norm: not known without {esc(self.missing)}</p>" if self.missing else ""
        return f"<table>{rows}</table>{missing}"

    def to_pandas(self) -> Any:
        """Give a DataFrame with law, angle, norm and time scale; arrays give a row an entry. Needs pandas."""
        several = np.broadcast(*(np.asarray(value) for value in self._numbers().values())).size
        columns = {name: np.broadcast_to(value, several).tolist() for name, value in self._numbers().items()}
        return frame([dict(zip(columns, row)) for row in zip(*columns.values())])

    def plot(self, ax: Any = None) -> Any:
        """Draw how the norm comes to rest from twice and from half its value at equilibrium; returns matplotlib axes.

        UserError where the equilibrium is that of several settings at once.
        """
        if np.ndim(self.time_scale):
            raise UserError("plot() shows one setting; compute the equilibrium of one lr and weight decay")
        steps = np.linspace(0.0, 4.0 * float(self.time_scale), 200)
        starts = {"from twice": 2.0, "from half": 0.5}
        curves = {name: np.asarray(self.relative_norm(start, steps)).tolist() for name, start in starts.items()}
        return draw_relaxation(steps.tolist(), curves, ax)


def equilibrium(
    law: OptimizerLaw,
    lr: Number,
    wd: Number,
    *,
    momentum: Number = 0.0,
    beta1: Number | None = None,
    beta2: Number | None = None,
    eg: Number | None = None,
    dimension: Number | None = None,
    update: Number | None = None,
    corrected: bool = True,
) -> Equilibrium:
    """Compute where an optimizer comes to rest on a scale-invariant weight: angle, norm and time scale.

    - ``law``: ``sgd``, ``sgdm`` (coupled decay), ``adamw``, ``lion``, ``muon`` (decoupled decay ``x (1 - lr wd)``).
    - ``lr``, ``wd``: learning rate, weight decay, both > 0, lr wd < 1.
    - ``momentum``: of ``sgdm``, in [0, 1).
    - ``beta1``, ``beta2``: in [0, 1); None: AdamW 0.9, Lion 0.9 and 0.99, Muon 0.95.
    - ``eg``: effective gradient norm, root mean square, >= 0; the norm of ``sgd`` and ``sgdm`` needs it.
    - ``dimension``: count of the weights, >= 2; the norm of ``adamw`` and ``lion`` needs it.
    - ``update``: norm of the update in units of lr, > 0; the norm of ``muon`` needs it.
    - ``corrected``: False gives the papers' leading-order forms.

    Time scale: SGD ``1/(4 lr wd)``, with momentum ``(1 - momentum)/(4 lr wd)`` (``sgd_pace`` of
    :mod:`scaleinv.theory.rates`), updates of fixed norm ``1/(2 lr wd)``. Raises :class:`~scaleinv.UserError` for
    another law and outside these ranges. Source: Kosson et al. 2024, table of equilibria; Wan et al. 2020 for SGD.

    >>> e = equilibrium("adamw", 1e-3, 0.5, dimension=2000)
    >>> round(e.angle, 5), round(e.norm, 2), e.time_scale
    (0.00726, 1.41, 1000.0)
    """
    if law not in LAWS:
        raise UserError(f"optimizer law {law!r} is not known; choose one of: {', '.join(LAWS)}")
    if law in ("sgd", "sgdm"):
        momentum = momentum if law == "sgdm" else 0.0
        norm: Number = float("nan")
        if eg is not None:
            norm = (wan2020.rho_at_equilibrium if corrected else sgd_norm)(eg=eg, lr=lr, wd=wd, momentum=momentum)
        angle = wan2020.angle(lr, wd, momentum)
        scale = _time_scale(lr, wd, 4.0 * sgd_pace(momentum))
        return Equilibrium(law, angle, norm, scale, "" if eg is not None else "eg")
    scale = _time_scale(lr, wd, 2.0)
    if law == "lion":
        b1, b2 = 0.9 if beta1 is None else beta1, 0.99 if beta2 is None else beta2
        angle = (lion_angle_exact if corrected else lion_angle)(lr, wd, b1, b2)
        if dimension is None:
            return Equilibrium(law, angle, float("nan"), scale, "dimension")
        return Equilibrium(law, angle, lion_norm(lr, wd, b1, b2, dimension), scale)
    b1 = (0.9 if law == "adamw" else 0.95) if beta1 is None else beta1
    angle = averaged_update_angle(lr, wd, b1) if corrected else adamw_angle(lr, wd, b1)
    if law == "adamw" and dimension is not None:
        if not corrected:
            return Equilibrium(law, angle, adamw_norm(lr, wd, dimension), scale)
        update = _adamw_update(b1, dimension)
    if update is None:
        return Equilibrium(law, angle, float("nan"), scale, "dimension" if law == "adamw" else "update")
    return Equilibrium(law, angle, averaged_update_norm(lr, wd, b1, update), scale)


@formula(positive=("wd",))
def _time_scale(lr: Number, wd: Number, rate: Number) -> Number:
    return 1 / (rate * lr * wd)


@formula()
def _adamw_update(beta1: Number, dimension: Number) -> Number:
    return np.sqrt((1 - beta1) / (1 + beta1) * dimension)

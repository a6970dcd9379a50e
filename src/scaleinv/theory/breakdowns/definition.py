"""Define what counts as a break-down: once, for the monitor and for ``scaleinv periods``.

The thresholds were fixed before any result was seen; every one can be changed, and its influence is part of the
evidence (:func:`scaleinv.analysis.periods.events.vary`).

- **candidate**: a local minimum of the ``window``-step mean of rho^2 that is followed by a rise of at least ``rise``;
  two minima are two candidates only if rho^2 fell by the same factor in between.
- **break-down**: a candidate at which training broke down. Within a tenth of 1/(lr wd) steps of the minimum the
  effective gradient (running median over ``window + 1`` steps) reaches ``spike`` times its median and ``excess`` times
  its maximum in the second half of the fall before, and the loss at least doubles. Where no effective gradient is
  logged, the loss has to rise ``loss_spike``-fold, and to exceed in the same way. Candidates without a spike are
  fluctuations of an equilibrium: the norm of a noisy stationary run has minima too, and a gradient that is noisy enough
  reaches five times its median at any time, hence the comparison with its maximum.
- **between rows**: where rows are several steps apart, the gradient of a logged step is one draw, and a break-down may
  lie between two. What the gradients gave to the norm from row to row shows their RMS there, and takes their place:
  over ``window + 1`` steps, as a mean of squares, which loses no short break-down as a median of few rows would
  (:func:`~scaleinv.theory.breakdowns.find.gradient_between`).
- **no loss** (a monitor that was not told one): the gradient decides alone.
- **plain**: every candidate counts, without a spike: the definition as one would first write it down.
- **fixed norm** (rho stays within 0.1 %, or none is logged): a rise of the ``loss_window``-step mean of the loss by a
  factor of ``loss_spike`` above its lowest value since it last fell by that factor, with a spike as above.
- **settled**: what comes after the burn-in of ``burn_in`` / (lr wd) steps, in which the norm forgets its initial value
  by a factor exp(-2 ``burn_in``). Mean interval and bookkeeping use settled events; the earlier ones are listed too
  (they are the paper's warm-up stage).
- **large**: rho^2 rises by a factor of ``large`` or more.
"""

import math
from dataclasses import dataclass
from typing import Literal

from scaleinv.errors import UserError

#: the stretch after a minimum in which a break-down shows itself, in units of 1/(lr wd)
BREAK_DOWN = 0.1
#: a norm that stays within this share is fixed
FIXED = 1e-3
#: the loss has to rise at least so many times where the effective gradient decides
LEAST_LOSS_RISE = 2.0


@dataclass(frozen=True)
class Definition:
    """The thresholds; see the module for what they mean.

    >>> Definition(rise=0.1).rise
    0.1
    """

    window: int = 10  # steps
    rise: float = 0.05  # of rho^2
    burn_in: float = 2.0  # in 1/(lr wd)
    spike: float = 5.0  # of the effective gradient over its median before
    excess: float = 2.0  # of the effective gradient over its maximum before
    loss_spike: float = 10.0  # of the loss
    loss_window: int = 50  # steps
    large: float = 1.5  # of rho^2
    plain: bool = False  # every candidate is a break-down, with a spike or without
    on: Literal["auto", "norm", "loss"] = "auto"  # auto: the norm, unless it is fixed or not logged

    def __post_init__(self) -> None:
        if self.on not in ("auto", "norm", "loss"):
            raise UserError(f"definition: on is {self.on!r}; choose auto, norm or loss")
        for name in ("window", "rise", "burn_in", "spike", "excess", "loss_spike", "loss_window", "large"):
            value, least = getattr(self, name), int(name not in ("rise", "burn_in"))
            strict = name not in ("burn_in", "window", "loss_window")
            if not math.isfinite(value) or value < least or (strict and value == least):
                words = "above" if strict else "at least"
                raise UserError(f"definition: {name} is {value:g}; it has to be {words} {least}")

    def is_break_down(self, eg_factor: float, loss_factor: float, excess: float) -> bool:
        """Tell whether a rise of the norm is a break-down.

        - ``eg_factor``: of the effective gradient over its median in the fall before; NaN: not known, the loss decides.
        - ``loss_factor``: of the loss; NaN: not known, the gradient decides alone.
        - ``excess``: of what decides, over its maximum there.

        >>> Definition().is_break_down(8.0, 3.0, 2.5), Definition().is_break_down(math.nan, 3.0, 2.5)
        (True, False)
        """
        if not excess >= self.excess:
            return False
        if math.isnan(eg_factor):
            return loss_factor >= self.loss_spike
        return eg_factor >= self.spike and not loss_factor < LEAST_LOSS_RISE

    def sentence(self, on: str, *, clock: bool = True) -> str:
        """Say it in words, for ``on`` = norm or loss; without a ``clock`` there is no burn-in."""
        burn_in = f"; the first {self.burn_in:g}/(lr wd) steps are burn-in" if clock else ""
        if self.plain:
            what, rise = f"{self.window}-step mean of rho^2", f"{self.rise:.3g}, with a spike or without{burn_in}"
            if on == "loss":
                what = f"{self.loss_window}-step mean of loss"
                rise = f"a factor of {self.loss_spike:g}, with a spike or without"
            return f"a break-down is any minimum of the {what} followed by a rise of at least {rise}"
        near = f", within {BREAK_DOWN:g}/(lr wd) steps," if clock else ""
        what = f"a minimum of the {self.window}-step mean of rho^2 followed by a rise of at least {self.rise:.3g}"
        if on == "loss":
            burn_in = ""
            what = f"a rise of the {self.loss_window}-step mean of the loss by a factor of at least {self.loss_spike:g}"
        return (
            f"a break-down is {what}, at which{near} the effective gradient rises at least {self.spike:g}-fold "
            f"over its median in the fall before and the loss {LEAST_LOSS_RISE:g}-fold, and the gradient "
            f"{self.excess:g}-fold over its maximum there (where it is not logged: the loss alone, "
            f"{self.loss_spike:g}-fold){burn_in}"
        )

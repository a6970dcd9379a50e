"""Check a training log: make it finite, and give it a clock.

The clock is ``time = sum of lr wd`` over the steps done: weight decay alone shrinks rho^2 by exp(-2 time), whatever the
schedule. One unit of it is 1/(lr wd) steps where the rate is constant. ``lr`` is everywhere the rate that acts: that of
SGD with momentum counts 1/(1 - momentum) times (:mod:`scaleinv.theory.optimizers`).
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from scaleinv.errors import UserError
from scaleinv.runfolder.read import Floats, Ints
from scaleinv.text import count
from scaleinv.theory import lobacheva2021, rates
from scaleinv.theory.breakdowns.find import LogRows, is_fixed

ClockSource = Literal["given", "estimated", "none"]
#: fewer rows say nothing
FEWEST_ROWS = 20
#: rows over which the fastest fall of the norm is looked for where lr wd is not known
_FALL_ROWS = 10
#: the square of a larger norm overflows, that of one below 1/this is 0
_LARGEST = 1e150
#: beyond it, and below its inverse, no product of two rates is sure to be a number
_LARGEST_RATE = 1e30
#: a float counts no further
_MOST_STEPS = 2**53
_SIGNS = {
    "rho": "norms are positive",
    "eg": "norms are not negative",
    "lr": "a rate is not negative",
    "wd": "a decay is not negative",
}


class NotJudgedError(UserError):
    """Columns that are whole, but of which nothing can be said: too few rows, or values the analysis cannot use."""


class Rated(NamedTuple):
    """The norm and the effective gradient of a log whose rates are constant and positive."""

    rho_sq: Floats
    eg: Floats
    lr: float
    wd: float


@dataclass(frozen=True)
class Log:
    """Columns of n rows, each a step before the optimizer acts; None where nothing is known."""

    step: Ints
    loss: Floats
    rho_sq: Floats | None
    eg: Floats | None
    lr: Floats | None  # that acts: ``pace`` times the optimizer's
    wd: Floats | None
    angle: Floats | None  # between the weights before and after the step, radians
    time: Floats | None  # of the row, in units of 1/(lr wd); None without rates or without weight decay
    clock: ClockSource  # where lr wd comes from
    spacing: float  # steps between rows, median
    dropped: int  # rows with a loss or norm that is not finite, in the middle
    diverged_at: int | None  # step from which on nothing is finite
    zero_at: int | None = None  # step from which on the norm is 0: weights of 0 stay where they are
    unjudged: str = ""  # why a run that ended like this is too short to be looked at; mostly empty
    law: str = "sgd"  # of the optimizer: sgd | normalised | measured (scaleinv.theory.rates)
    pace: float = 1.0  # by how much the optimizer's learning rate counts: 1/(1 - momentum) for SGD
    counted: str = ""  # what ``step`` counts where no steps are logged: "an epoch", "a row"

    def __len__(self) -> int:
        return len(self.step)

    @property
    def bare(self) -> LogRows:
        """What the definition of a break-down looks at."""
        return LogRows(self.step, self.rho_sq, self.loss, self.eg, self.time, self.clock == "given")

    @cached_property
    def fixed_norm(self) -> bool:
        """The norm stays where it is: nothing makes the ELR grow."""
        return self.rho_sq is not None and is_fixed(self.rho_sq)

    @property
    def unit(self) -> float:
        """Steps of one unit of time, 1/(lr wd), averaged over a schedule; NaN where unknown."""
        if self.time is None or not self.time[-1] > self.time[0]:
            return math.nan
        return float((self.step[-1] - self.step[0]) / (self.time[-1] - self.time[0]))

    @property
    def unit_by_hand(self) -> float:
        """``unit`` as one computes it where the rates are constant: 1/(lr wd) (the clock is exact: -ln(1 - lr wd))."""
        if self.constant and self.lr is not None and self.wd is not None and self.lr[0] * self.wd[0] > 0:
            return float(1 / (self.lr[0] * self.wd[0]))
        return self.unit

    @property
    def no_decay(self) -> bool:
        """Weight decay is known to be 0 (or nothing moves): the norm only grows, there is no clock."""
        return any(x is not None and not np.any(x > 0) for x in (self.lr, self.wd))

    @property
    def gap(self) -> float:
        """Time between rows, ``spacing`` in units of 1/(lr wd); NaN without a clock.

        A clock that is estimated from rows far apart runs slow, since break-downs lie within its stretches: the fastest
        fall between two rows counts as well.
        """
        gap = self.spacing / self.unit_by_hand
        if self.clock == "estimated" and self.rho_sq is not None:
            fastest = float(np.min(np.diff(np.log(self.rho_sq)) / np.diff(self.step)))
            gap = max(gap, -fastest * self.spacing / 2)
        return gap

    @cached_property
    def elr(self) -> Floats | None:
        """Effective learning rate by the optimizer's law; None where rates, norms or the law are not known."""
        if self.lr is None or self.rho_sq is None or self.law not in rates.LAWS:
            return None
        return np.asarray(rates.elr_of_square(self.lr, self.rho_sq, self.law))

    @cached_property
    def cosine_distance(self) -> Floats | None:
        """1 - cos of consecutive weights in every row: by the angle where it is logged, else by SGD's step."""
        if self.angle is not None:
            return np.asarray(2 * np.sin(self.angle / 2) ** 2)
        if self.rho_sq is None or self.eg is None or self.lr is None or self.wd is None:
            return None
        rate = np.maximum(self.lr, np.finfo(np.float64).tiny)
        return np.asarray(lobacheva2021.step_cosine_distance(self.rho_sq, self.eg, rate, self.wd))

    @cached_property
    def constant(self) -> bool:
        """lr and wd do not change."""
        return len(self) > 0 and all(x is not None and bool(np.ptp(x) <= 1e-6 * np.max(x)) for x in (self.lr, self.wd))

    @cached_property
    def rated(self) -> Rated | None:
        """What the formulas of the theory need; None where a column is missing or the rates change or are 0."""
        if self.rho_sq is None or self.eg is None or self.lr is None or self.wd is None or not self.constant:
            return None
        lr, wd = float(self.lr[0]), float(self.wd[0])
        return Rated(self.rho_sq, self.eg, lr, wd) if lr > 0 and wd > 0 else None

    def rows(self, first: int, last: int) -> slice:
        """Find the rows of the steps [first, last)."""
        return slice(int(np.searchsorted(self.step, first)), int(np.searchsorted(self.step, last)))


def make_log(
    *,
    loss: Any,
    rho: Any = None,
    eg: Any = None,
    lr: Any = None,
    wd: Any = None,
    step: Any = None,
    angle: Any = None,
    pace: float = 1.0,
    diverged: bool | None = None,
) -> Log:
    """Check columns (lr and wd may be numbers; lr counts ``pace`` times) and cut the log where it is no longer finite,
    or (in a run folder) where the norm is 0 for good.

    ``diverged``: None for a log of one's own; for a run folder, whether its result says that the run diverged. How a
    run ended is a result then, however few rows there are before.

    Errors: UserError for columns of unequal length, steps that do not grow, norms that are not positive, negative
    rates; NotJudgedError for a norm of 0, lr wd of 1 and more, or fewer than 20 finite rows.
    """
    columns = {"loss": loss, "rho": rho, "eg": eg, "lr": lr, "wd": wd, "angle": angle}
    arrays = {name: _column(name, value) for name, value in columns.items() if value is not None}
    if "lr" in arrays:
        arrays["lr"] = arrays["lr"] * pace
    n = len(arrays["loss"])
    steps = np.arange(n) if step is None else _column("step", step)
    if len(steps) == 1 and n > 1:
        raise UserError("step is one number; a column of step numbers is needed")
    for name, column in (*arrays.items(), ("step", steps)):
        if name in ("lr", "wd") and len(column) == 1:
            arrays[name] = np.full(n, column[0])
        elif len(column) != n:
            raise UserError(f"{name} has {len(column)} rows, loss has {n}; all columns need the same rows")
    if not np.all(np.isfinite(steps)) or np.any(steps != np.round(steps)):
        raise UserError("step holds a number that is not whole; steps are counted")
    if n and float(np.max(np.abs(steps))) > _MOST_STEPS:
        raise UserError(f"step {float(np.max(np.abs(steps))):g} is beyond 2^53; steps are counted: is it a time?")
    unsorted = np.nonzero(np.diff(steps) <= 0)[0]
    if len(unsorted):
        row = int(unsorted[0])
        raise UserError(
            f"step {steps[row + 1]:g} follows step {steps[row]:g} (row {row + 2}); steps have to grow: sort the log, "
            "and keep one row a step"
        )
    return replace(_cut(steps.astype(np.int64), arrays, diverged), pace=pace)


def _column(name: str, value: Any) -> Floats:
    try:
        column = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise UserError(f"{name} holds something that is not a number") from None
    if column.ndim != 1:
        raise UserError(f"{name} has {column.ndim} dimensions; one column of numbers is needed")
    return column


def _cut(step: Ints, arrays: dict[str, Floats], diverged: bool | None) -> Log:
    """Drop rows that are not finite; where none is finite to the end, the run has diverged there."""
    good = np.isfinite(arrays["loss"]) & np.isfinite(arrays.get("rho", 0.0))
    last = int(np.nonzero(good)[0][-1]) + 1 if good.any() else 0
    diverged_at = int(step[last]) if last < len(step) else None
    zero_at = None
    if diverged is not None and last and "rho" in arrays and arrays["rho"][last - 1] == 0:
        moving = np.nonzero(good & (arrays["rho"] != 0))[0]
        last = int(moving[-1]) + 1 if len(moving) else 0
        zero_at = int(step[last])
        good[last:] = False
    dropped = int((~good[:last]).sum())
    step = step[good]
    arrays = {name: column[good] for name, column in arrays.items()}
    if diverged and len(step) < FEWEST_ROWS and diverged_at is None:
        diverged_at = int(step[-1]) + 1 if len(step) else 0  # in its last step: no row is left that shows it
    ended = diverged is not None and (diverged_at is not None or zero_at is not None)
    unjudged = ""
    if len(step) < FEWEST_ROWS:
        cause = "" if diverged_at is None else f" (not finite from step {diverged_at} on)"
        few = f"{'is' if len(step) == 1 else 'are'} too few to judge"
        if not ended:
            raise NotJudgedError(f"{count(len(step), 'finite row')}{cause} {few}; at least {FEWEST_ROWS} are needed")
        unjudged = f"{count(len(step), 'step')} {few}"
    for name, words in _SIGNS.items():
        if name in arrays:
            wrong = arrays[name] <= 0 if name == "rho" else arrays[name] < 0
            if wrong.any():
                raise NotJudgedError(f"{name} is {arrays[name][wrong][0]:g} at step {step[wrong][0]}; {words}")
    if "rho" in arrays:
        beyond = (arrays["rho"] > _LARGEST) | (arrays["rho"] < 1 / _LARGEST)
        if beyond.any():
            at = int(np.argmax(beyond))
            least, most = 1 / _LARGEST, _LARGEST
            raise NotJudgedError(
                f"rho is {arrays['rho'][at]:g} at step {step[at]}; norms from {least:g} to {most:g} can be judged"
            )
    for name in ("lr", "wd"):
        unknown = step[~np.isfinite(arrays.get(name, step))]
        if len(unknown):
            raise UserError(f"{name} is not finite at step {unknown[0]}; give every row a value")
        if name in arrays:
            rate = arrays[name]
            odd = (rate > _LARGEST_RATE) | ((rate > 0) & (rate < 1 / _LARGEST_RATE))
            if odd.any():
                raise UserError(
                    f"{name} is {rate[odd][0]:g} at step {step[odd][0]}; 0 and numbers from {1 / _LARGEST_RATE:g} to "
                    f"{_LARGEST_RATE:g} can be judged"
                )
    lr, wd, angle = (arrays.get(name) for name in ("lr", "wd", "angle"))
    rho_sq = arrays["rho"] ** 2 if "rho" in arrays else None
    time: Floats | None = None
    clock: ClockSource = "none"
    try:
        if not unjudged:
            time, clock = _clock(step, rho_sq, lr, wd)
    except NotJudgedError as error:
        if not ended:
            raise
        unjudged = str(error)
    return Log(
        step=step,
        loss=arrays["loss"],
        rho_sq=rho_sq,
        eg=_filled(arrays["eg"]) if "eg" in arrays else None,
        lr=lr,
        wd=wd,
        angle=angle,
        time=time,
        clock=clock,
        spacing=float(np.median(np.diff(step))) if len(step) > 1 else 1.0,
        dropped=dropped,
        diverged_at=diverged_at,
        zero_at=zero_at,
        unjudged=unjudged,
    )


def _filled(x: Floats) -> Floats | None:
    """Give values not measured the last one measured; None where none was."""
    known = np.isfinite(x)
    if not known.any():
        return None
    at = np.maximum.accumulate(np.where(known, np.arange(len(x)), 0))
    filled = x[at]
    return np.where(np.isfinite(filled), filled, x[known][0])


def _clock(
    step: Ints, rho_sq: Floats | None, lr: Floats | None, wd: Floats | None
) -> tuple[Floats | None, ClockSource]:
    gaps = np.diff(step).astype(np.float64)
    if any(x is not None and not np.any(x > 0) for x in (lr, wd)):
        return None, "none"
    if lr is not None and wd is not None:
        product = lr * wd
        if np.any(product >= 1):
            at = int(np.argmax(product >= 1))
            raise NotJudgedError(f"lr * wd is {product[at]:g} at step {step[at]}, and has to be below 1")
        # -log(1 - lr wd), not lr wd: what decay takes from log rho in a step
        return np.concatenate([[0.0], np.cumsum(-np.log1p(-product[:-1]) * gaps)]), "given"
    if rho_sq is None:
        return None, "none"
    # gradients only ever add to the norm, so the fastest fall of log rho^2 is 2 lr wd
    k = min(_FALL_ROWS, len(step) - 1)
    log = np.log(rho_sq)
    fastest = float(np.min((log[k:] - log[:-k]) / (step[k:] - step[:-k])))
    if not fastest < -1e-9:
        return None, "none"
    return (step - step[0]) * (-fastest / 2), "estimated"

r"""Find where eps of the norm layers, at small norms, ends the scale invariance of a run.

The gradient of a scale-invariant loss has no part along the weights (Lobacheva et al. 2021, eq. 2a), so the norm of
plain SGD moves by ``rho'^2 - rho^2 = lr^2 g^2 - 2 lr wd rho^2`` and nothing else; eps in a norm layer adds ``-2 lr
<g, x>``. It matters where this is no longer small against what the theory knows:

    share = 2 lr |<g, x>| / (lr^2 g^2 + 2 lr wd rho^2)

taken from the means of an epoch; the cosine of gradient and weights is measured once in 64 steps. Where decay outweighs
every gradient the share is small whatever the gradient does, so the cosine itself counts as well.

Deep below the scale of eps the layers no longer normalise: the network computes a constant, and its gradient dies with
the norm. That is told by what the gradient does to the norm beside decay,

    pull = (lr^2 g^2 + 2 lr |<g, x>|) / (2 lr wd rho^2)

For a scale-invariant network it grows like rho^-4 as the norm shrinks, which ends the fall; else nothing does.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.statistics import Floats
from scaleinv.runfolder.read import Run
from scaleinv.theory import rates

#: a tenth of the forces on the norm: below it the periods are what the theory says within its other errors
MATTERS = 0.1
#: cosine of gradient and weights above which it is no rounding: float32 leaves 1e-7 to 2e-4 in running medians
ROUNDING = 1e-2
#: the pull has died where it is so much smaller than it was, and than decay
_DEAD = 0.1
#: and the norm has fallen by so much meanwhile: one that breaks down and recovers has not
_FALL = 3.0
_WINDOW = 5  # epochs of the running median: a single measurement is noise


@dataclass(frozen=True)
class Invariance:
    """How much the gradient's part along the weights adds to the forces on the norm, epoch by epoch."""

    epochs: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]  # at the end of the epoch
    cosine: Floats  # |cos| of gradient and weights; 0 for exact invariance
    share: Floats
    stretches: tuple[tuple[int, int], ...]  # steps (first, last) in which share or cosine stay too large
    broken_from: int | None  # step from which on they are too large in most epochs; None: never
    rho: float  # norm there; NaN where it never happens
    widest: float  # largest norm within the stretches; NaN without one
    silenced_from: int | None  # step from which on the gradient dies with the norm; None: never
    silenced_rho: float  # norm there; NaN where it never happens

    @property
    def silenced(self) -> str:
        """``eps of the norm layers has silenced the gradient from step 840 on, ...``; empty where it has not."""
        if self.silenced_from is None:
            return ""
        return (
            f"eps of the norm layers has silenced the gradient from step {self.silenced_from} on, at norms below "
            f"{self.silenced_rho:.2g}: only weight decay acts, and the norm will not come back"
        )

    @property
    def sentence(self) -> str:
        """What there is to say; empty where nothing was measured."""
        known = np.isfinite(self.share)
        if not known.any():
            return ""
        if self.silenced_from is not None:
            late = known & (self.steps >= self.silenced_from)
            return (
                f"{self.silenced[0].upper()}{self.silenced[1:]}. The cosine of gradient and weights is "
                f"{np.median(self.cosine[late]):.2g} there (0 for a scale-invariant network, up to rounding), and what "
                "the gradient does to the norm shrinks with the norm instead of growing like rho^-4."
            )
        if not self.stretches:
            return (
                "The eps of the norm layers does not matter: the gradient's part along the weights adds "
                f"{np.median(self.share[known]):.2g} of the forces on the norm in the median, "
                f"{_smooth(self.share)[known].max():.2g} at most (running median of {_WINDOW} epochs)."
            )
        within = known & _inside(self.steps, self.stretches)
        part = (
            f"the gradient's part along the weights adds {np.median(self.share[within]):.2g} of the forces on the norm "
            f"there and is {np.median(self.cosine[within]):.2g} of the gradient (medians)"
        )
        if self.broken_from is not None and self.broken_from <= self.stretches[0][1]:  # nothing before it
            return (
                f"From step {self.broken_from} on, where the norm is {self.rho:.3g}, the network is no longer "
                f"scale-invariant: eps of the norm layers matters; {part}."
            )
        first, last = self.stretches[0][0], self.stretches[-1][1]
        count = len(self.stretches)
        where = f"in steps {first}-{last}" if count == 1 else f"in {count} stretches of steps {first}-{last}"
        length = sum(end - begin for begin, end in self.stretches) / int(self.steps[-1])
        return (
            f"The eps of the norm layers matters {where} ({length:.0%} of the run), at norms up to {self.widest:.3g}: "
            f"{part}."
        )


def invariance(run: Run) -> Invariance:
    """Judge a run in the whole space by its rows; empty where the cosine was not measured."""
    # a monitor's rows call the radial part of the step so, not the gradient's
    name = "" if run.config.get("source") == "monitor" else "radial"
    epochs, cosine = run.series("online", "total", name)
    steps = run.table("online", "total", name).steps

    def at(quantity: str) -> Floats:
        values = run.series("online", "total", quantity)[1]
        return values if len(values) == len(epochs) else np.full(len(epochs), np.nan)

    rho, g, elr = at("rho"), at("g"), at("elr")
    decay = float(run.config.get("weight_decay") or 0.0)
    with np.errstate(all="ignore"):
        lr = rates.lr(elr, rho)
        radial, push, taken = 2 * lr * cosine * g * rho, lr**2 * g**2, 2 * lr * decay * rho**2
        share, pull = radial / (push + taken), (radial + push) / taken
    broken = (_smooth(share) > MATTERS) | (_smooth(cosine) > ROUNDING)
    first = next((int(i) for i in np.flatnonzero(broken) if np.mean(broken[i:]) > 0.5), None)
    dead = _silenced(first, _smooth(pull), rho)

    def place(epoch: int | None) -> tuple[int | None, float]:
        return (None, float("nan")) if epoch is None else (int(steps[epoch]), float(rho[epoch]))

    widest = float(rho[broken].max()) if broken.any() else float("nan")
    found = (_stretches(broken, steps), *place(first), widest, *place(dead))
    return Invariance(epochs, steps, cosine, share, *found)


def _smooth(x: Floats) -> Floats:
    """Take the running median over the last epochs; NaN (a gradient of exactly 0) takes the value before."""
    known = np.isfinite(x)
    if not known.any():
        return x
    filled = x[np.maximum.accumulate(np.where(known, np.arange(len(x)), 0))]
    return np.array([np.median(filled[max(0, i - _WINDOW + 1) : i + 1]) for i in range(len(x))])


def _silenced(begin: int | None, pull: Floats, rho: Floats) -> int | None:
    """Find the epoch of the largest pull from ``begin`` on, if it has died since while the norm fell."""
    if begin is None:
        return None
    top = begin + int(np.argmax(pull[begin:]))
    died = pull[-1] < _DEAD * min(1.0, float(pull[top]))
    return top if died and rho[-1] * _FALL < rho[top] else None


def _stretches(broken: npt.NDArray[np.bool_], steps: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Find the runs of broken epochs, from the end of the epoch before to the end of the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], broken, [False]]).astype(np.int8)))
    ends = np.concatenate([[0], steps])
    return tuple((int(ends[first]), int(ends[after])) for first, after in zip(edges[::2], edges[1::2]))


def _inside(steps: npt.NDArray[np.int64], stretches: tuple[tuple[int, int], ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.any([(steps > first) & (steps <= last) for first, last in stretches], axis=0))

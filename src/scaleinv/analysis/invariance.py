r"""From where on a run is no longer that of a scale-invariant network: eps of the norm layers at small norms.

The gradient of a scale-invariant loss has no part along the weights (Lobacheva et al. 2021, eq. 2a), so the norm of
plain SGD moves by ``rho'^2 - rho^2 = lr^2 g^2 - 2 lr wd rho^2`` and nothing else; eps in a norm layer adds ``-2 lr
<g, x>``. It matters where this is no longer small against what the theory knows:

    share = 2 lr |<g, x>| / (lr^2 g^2 + 2 lr wd rho^2)

taken from the means of an epoch; the cosine of gradient and weights is measured once in 64 steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.runs import Run

#: a tenth of the forces on the norm: below it the periods are what the theory says within its other errors
MATTERS = 0.1
_WINDOW = 5  # epochs of the running median: a single measurement is noise


@dataclass(frozen=True)
class Invariance:
    """How much the gradient's part along the weights adds to the forces on the norm, epoch by epoch."""

    epochs: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]  # at the end of the epoch
    cosine: npt.NDArray[np.float64]  # |cos| of gradient and weights; 0 for exact invariance
    share: npt.NDArray[np.float64]
    broken_from: int | None  # step from which on the share stays above MATTERS in most epochs; None: never
    rho: float  # norm there; NaN where it never happens

    @property
    def sentence(self) -> str:
        """What there is to say, in one sentence; empty where nothing was measured."""
        known = self.share[np.isfinite(self.share)]
        if not known.size:
            return ""
        if self.broken_from is None:
            return (
                "The eps of the norm layers does not matter: the gradient's part along the weights adds "
                f"{np.median(known):.2g} of the forces on the norm in the median, {known.max():.2g} at most."
            )
        return (
            f"From step {self.broken_from} on the network is no longer scale-invariant where it matters: at a norm of "
            f"{self.rho:.3g} the eps of the norm layers adds more than {MATTERS:g} of the forces on the norm."
        )


def invariance(run: Run) -> Invariance:
    """From the rows of a run in the whole space; empty where the cosine was not measured."""
    epochs, cosine = run.series("online", "total", "radial")
    steps = run.table("online", "total", "radial").steps

    def at(quantity: str) -> npt.NDArray[np.float64]:
        values = run.series("online", "total", quantity)[1]
        return values if len(values) == len(epochs) else np.full(len(epochs), np.nan)

    rho, g, elr = at("rho"), at("g"), at("elr")
    decay = float(run.config.get("weight_decay") or 0.0)
    with np.errstate(all="ignore"):
        lr = elr * rho**2
        share = 2 * lr * cosine * g * rho / (lr**2 * g**2 + 2 * lr * decay * rho**2)
    smooth = np.array([np.median(share[max(0, i - _WINDOW + 1) : i + 1]) for i in range(len(share))])
    above = np.flatnonzero(smooth > MATTERS)
    first = next((int(i) for i in above if np.mean(smooth[i:] > MATTERS) > 0.5), None)
    return Invariance(
        epochs=epochs,
        steps=steps,
        cosine=cosine,
        share=share,
        broken_from=None if first is None else int(steps[first]),
        rho=float("nan") if first is None else float(rho[first]),
    )

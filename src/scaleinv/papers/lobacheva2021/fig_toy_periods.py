"""The periodic behaviour on the toy function in the whole space with weight decay (Lobacheva et al. 2021, as Figs. 1
and 4).
"""

from __future__ import annotations

from typing import Any

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.plots.style import INK, log_axis, new_figure, regime_colours, style
from scaleinv.theory import rates
from scaleinv.theory.simulators import toy

LR, WD, NOISE, STEPS = 0.1, 0.02, 1e-9, 1000


def numbers(context: Context) -> dict[str, Any]:
    """One group, alpha = 1."""
    record = toy.simulate([1.0], [LR], STEPS, seeds=[3], every=1, wd=WD, noise=NOISE, rho0=0.5)
    rho_sq = record.rho_sq[:, 0, 0]
    return {
        "lr": LR,
        "wd": WD,
        "noise": NOISE,
        "loss": record.loss[:, 0, 0],
        "rho_sq": rho_sq,
        "elr": rates.elr_of_square(LR, rho_sq),
        "cosine_distance": 1 - record.cosine[:, 0, 0],
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Three panels over the same steps."""
    fig, axes = new_figure(7.0, 5.6, nrows=3, sharex=True)
    axes[0].plot(numbers["loss"], color=regime_colours[3], lw=1)
    log_axis(axes[0], "y")
    axes[0].set(ylabel="F", title="Toy function with weight decay: it converges and is thrown out again")
    axes[1].plot(numbers["rho_sq"], color=regime_colours[1], lw=1)
    axes[1].set_ylabel("ρ²")
    axes[2].plot(numbers["elr"], color=regime_colours[2], lw=1)
    axes[2].axhline(1.0, color=INK, ls="--", lw=0.9, label="1/α: above it the minimum repels")
    axes[2].set(ylabel="ELR = lr / ρ²", xlabel="step")
    axes[2].legend(loc="lower right")
    return fig

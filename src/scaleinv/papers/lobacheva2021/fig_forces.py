"""The two forces on the norm (Lobacheva et al. 2021, Fig. 2, as a graph): gradients lengthen, weight decay shortens."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, style
from scaleinv.theory import lobacheva2021 as theory

LR, WD, LOW, HIGH = 0.1, 0.01, 1.0, 3.0


def numbers(context: Context) -> dict[str, Any]:
    """Relative change of rho^2 per step by either force, for two effective norms of the gradient; where they rest."""
    kappa = theory.kappa(LR, WD)
    square = kappa * np.geomspace(0.3, 12, 200)
    decay = 1 - (1 - LR * WD) ** 2
    grow = {eg: theory.next_rho_sq(square, eg, LR, WD) / square - (1 - decay) for eg in (LOW, HIGH)}
    rest = {eg: theory.resting_rho_sq(eg, LR, WD) for eg in grow}
    return {"lr": LR, "wd": WD, "kappa": kappa, "rho_sq": square, "decay": decay, "rest": rest, "growth": grow}


@style()
def draw(numbers: Numbers) -> Figure:
    """Both forces against rho^2; a dot where they balance."""
    kappa, decay, rest = numbers["kappa"], numbers["decay"], numbers["rest"]
    square = array(numbers["rho_sq"]) / kappa
    fig, ax = new_figure(6.2, 3.6)
    ax.plot(square, np.full_like(square, decay), color=INK, label="weight decay, inwards")
    for (eg, grow), colour in zip(numbers["growth"].items(), elr_colours([1.0, 10.0])):
        ax.plot(square, grow, color=colour, label=f"gradients, outwards, effective norm {float(eg):g}")
        ax.plot([rest[eg] / kappa], [decay], "o", color=colour)
    ax.axvspan(*(at / kappa for at in rest.values()), color=INK, alpha=0.07, lw=0)
    log_axis(ax, "xy")
    ax.set(xlabel="ρ² / κ", ylabel="relative change of ρ² in a step")
    ax.set_title("Forces on the norm: in the band between the dots they balance")
    fig.legend(loc="outside lower center", ncols=2)
    return fig

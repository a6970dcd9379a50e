"""The two forces on the norm (Lobacheva et al. 2021, Fig. 2, as a graph): gradients lengthen, weight decay shortens."""

from __future__ import annotations

import numpy as np

from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, style
from scaleinv.theory import lobacheva2021 as theory

LR, WD, LOW, HIGH = 0.1, 0.01, 1.0, 3.0


def draw(context: Context) -> Drawn:
    """Relative change of rho^2 per step by either force, for two sizes of the gradient."""

    kappa = theory.kappa(LR, WD)
    square = kappa * np.geomspace(0.3, 12, 200)
    decay = 1 - (1 - LR * WD) ** 2
    grow = {eg: theory.next_rho_sq(square, eg, LR, WD) / square - (1 - decay) for eg in (LOW, HIGH)}
    rest = {eg: theory.resting_rho_sq(eg, LR, WD) for eg in grow}
    fig, ax = new_figure(6.2, 3.6)
    with style():
        ax.plot(square / kappa, np.full_like(square, decay), color=INK, label="weight decay, inwards")
        for eg, colour in zip(grow, elr_colours([1.0, 10.0])):
            ax.plot(square / kappa, grow[eg], color=colour, label=f"gradients, outwards, effective norm {eg:g}")
            ax.plot([rest[eg] / kappa], [decay], "o", color=colour)
        ax.axvspan(rest[LOW] / kappa, rest[HIGH] / kappa, color=INK, alpha=0.07, lw=0)
        log_axis(ax, "xy")
        ax.set_xlabel("ρ² / κ")
        ax.set_ylabel("relative change of ρ² in a step")
        ax.set_title("Forces on the norm: in the band between the dots they balance")
        fig.legend(loc="outside lower center", ncols=2)
    numbers = {"lr": LR, "wd": WD, "rho_sq": square, "decay": decay, "rest": rest, "growth": grow}
    return finish(fig, context, numbers)

"""Fig. 2 (Lobacheva et al. 2021): the two forces on the norm, as a sketch. ``forces`` is the same as a graph."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.plots.style import INK, new_figure, regime_colours, style

#: a step as large as this is for the eye only
LR_TIMES_G, DECAY, ANGLE = 0.75, 0.22, math.radians(68)


def numbers(context: Context) -> dict[str, Any]:
    """Norms before and after a gradient step, which is tangent, and the share that weight decay takes."""
    after = math.sqrt(1 + LR_TIMES_G**2)
    return {"lr_times_gradient": LR_TIMES_G, "decay": DECAY, "rho": 1.0, "rho_after_gradient": after}


@style()
def draw(numbers: Numbers) -> Figure:
    """The weights on a circle; the gradient is tangent to it, weight decay points to the centre."""
    step, decay, longer = (numbers[name] for name in ("lr_times_gradient", "decay", "rho_after_gradient"))
    x = np.array([math.cos(ANGLE), math.sin(ANGLE)])
    tangent = np.array([x[1], -x[0]])
    after_gradient = x + step * tangent
    after_decay = (1 - decay) * x
    out, into = regime_colours[3], regime_colours[1]
    fig, ax = new_figure(5.0, 4.0)
    turn = np.linspace(math.radians(8), math.radians(118), 200)
    ax.plot(np.cos(turn), np.sin(turn), color=INK, lw=0.9)
    ax.plot(longer * np.cos(turn), longer * np.sin(turn), color=INK, lw=0.7, ls=":")
    ax.plot([0, x[0]], [0, x[1]], color=INK, lw=0.9, ls="--")
    ax.plot([0, after_gradient[0]], [0, after_gradient[1]], color=INK, lw=0.9, ls="--")
    for end, colour in ((after_gradient, out), (after_decay, into)):
        ax.annotate("", xy=end, xytext=x, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8})
    ax.plot(*x, "o", color=INK, ms=5, zorder=3)
    ax.plot(0, 0, "o", color=INK, ms=3)
    ax.text(x[0] - 0.02, x[1] + 0.05, "xₜ", ha="right", fontsize=11)
    ax.text(x[0] * 0.42 - 0.05, x[1] * 0.42, "ρ", ha="right", fontsize=11)
    middle = x + 0.5 * step * tangent
    ax.text(*(middle + 0.34 * x), "− lr · gradient: outwards", color=out, ha="left", va="bottom")
    place = x * (1 - 0.62 * decay) - np.array([0.05, 0])
    ax.text(*place, "− lr · wd · xₜ:\ninwards", color=into, ha="right", va="top")
    ax.text(*(after_gradient * 1.03), "√(ρ² + lr² g²)", ha="left", va="center")
    ax.set_aspect("equal")
    ax.set(xlim=(-0.55, 1.62), ylim=(-0.08, 1.42))
    ax.set_axis_off()
    ax.set_title("Two forces on the norm of scale-invariant weights")
    return fig

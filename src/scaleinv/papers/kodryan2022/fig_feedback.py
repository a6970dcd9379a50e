"""The feedback (Kodryan et al. 2022, eqs. 9 and 12) on the toy function: ELRs of the groups against their predicted
places.
"""

from __future__ import annotations

from typing import Any

from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, style
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy

ALPHAS = (1.0, 2.0, 3.0, 4.0, 5.0)
KS = (1.3, 2.5)
STEPS = 80


def draw(context: Context) -> Drawn:
    """elr_i / elr_i* of five groups at k = 1.3 and 2.5."""

    total = sum(ALPHAS)
    record = toy.simulate(ALPHAS, [k / total for k in KS], STEPS, seeds=[1], every=1)
    fig, axes = new_figure(7.4, 3.6, ncols=2, sharey=True)
    numbers: dict[str, Any] = {"alphas": ALPHAS, "k": KS, "ratio": []}
    with style():
        for j, (ax, k) in enumerate(zip(axes, KS)):
            ratio = record.group_elr_at_end[:, j, 0] / kodryan2022.equilibrium_elrs(k / total, list(ALPHAS))
            numbers["ratio"].append(ratio)
            for i, colour in enumerate(elr_colours(ALPHAS)):
                ax.plot(ratio[:, i], color=colour, lw=1, label=f"α = {ALPHAS[i]:g}" if j == 0 else None)
            ax.axhline(1.0, color=INK, ls="--", lw=0.9)
            ax.set_xlabel("step")
            ax.set_title(f"k = ELR · Σα = {k:g}")
        log_axis(axes[0], "y")
        axes[0].set_ylabel("ELRᵢ / predicted")
        fig.legend(loc="outside lower center", ncols=5)
    return finish(fig, context, numbers)

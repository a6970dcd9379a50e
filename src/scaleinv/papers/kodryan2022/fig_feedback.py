"""The feedback (Kodryan et al. 2022, eqs. 9 and 12) on the toy function: ELRs of the groups against their predicted
places.
"""

from __future__ import annotations

from typing import Any

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, style
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy

ALPHAS = (1.0, 2.0, 3.0, 4.0, 5.0)
KS = (1.3, 2.5)
STEPS = 80


def numbers(context: Context) -> dict[str, Any]:
    """elr_i / elr_i* of five groups at k = 1.3 and 2.5."""
    total = sum(ALPHAS)
    elrs = [k / total for k in KS]
    record = toy.simulate(ALPHAS, elrs, STEPS, seeds=[1], every=1)
    ratios = [
        record.group_elr_at_end[:, j, 0] / kodryan2022.equilibrium_elrs(elr, list(ALPHAS)) for j, elr in enumerate(elrs)
    ]
    return {"alphas": ALPHAS, "k": KS, "ratio": ratios}


@style()
def draw(numbers: Numbers) -> Figure:
    """A panel for each k, a line for each group."""
    alphas = numbers["alphas"]
    fig, axes = new_figure(7.4, 3.6, ncols=2, sharey=True)
    for ax, k, ratio in zip(axes, numbers["k"], numbers["ratio"]):
        for alpha, colour, line in zip(alphas, elr_colours(alphas), array(ratio).T):
            ax.plot(line, color=colour, lw=1, label=f"α = {alpha:g}" if ax is axes[0] else None)
        ax.axhline(1.0, color=INK, ls="--", lw=0.9)
        ax.set(xlabel="step", title=f"k = ELR · Σα = {k:g}")
    log_axis(axes[0], "y")
    axes[0].set_ylabel("ELRᵢ / predicted")
    fig.legend(loc="outside lower center", ncols=5)
    return fig

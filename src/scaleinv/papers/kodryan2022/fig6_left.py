"""Fig. 6, left (Kodryan et al. 2022): the toy function at three ELRs, one per regime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.plots.style import INK, new_figure, regime_colours, regime_names, style
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy

#: the paper's alphas and ELRs are not known to us: five groups and one k = ELR * sum(alpha) inside each regime
ALPHAS = (1.0, 2.0, 3.0, 4.0, 5.0)
KS = (0.6, 1.5, 30.0)
STEPS = 200


def numbers(context: Context) -> dict[str, Any]:
    """With the default alphas."""
    return curves(ALPHAS)


def curves(alphas: Sequence[float], ks: Sequence[float] = KS, steps: int = STEPS, seed: int = 0) -> dict[str, Any]:
    """F at every step of one run for each ``k``, with the predicted level."""
    total = float(np.sum(alphas))
    record = toy.simulate(alphas, np.asarray(ks) / total, steps, seeds=[seed], every=1)
    x, y = toy.start(len(alphas), [seed])
    first = float(toy.loss(x, y, alphas)[0])
    return {
        "alphas": list(alphas),
        "elr": [k / total for k in ks],
        "k": list(ks),
        "regime": [kodryan2022.toy_regime(k) for k in ks],
        "predicted": [0.0 if k < 1 else total * kodryan2022.equilibrium_level(k) for k in ks],
        "loss": [[first, *record.loss_at_end[:, j, 0].tolist()] for j in range(len(ks))],
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """One panel: F against the step, level of theory dashed."""
    fig, ax = new_figure(6.2, 3.6)
    for elr, regime, level, values in zip(numbers["elr"], numbers["regime"], numbers["predicted"], numbers["loss"]):
        name = "regime " + (f"{regime}, {regime_names[regime]}" if regime else "not decided by theory")
        ax.plot(values, color=regime_colours[regime], lw=1.1, label=f"ELR {elr:.3g}: {name}")
        if regime != 1:
            ax.axhline(level, color=INK, ls="--", lw=0.9)
    ax.axhline(sum(numbers["alphas"]) / 2, color=INK, ls=":", lw=0.9)
    ax.plot([], [], color=INK, ls="--", lw=0.9, label="predicted level")
    ax.plot([], [], color=INK, ls=":", lw=0.9, label="mean of random directions")
    ax.set(ylim=(-0.02 * sum(numbers["alphas"]), None), xlabel="step")
    ax.set(ylabel="F", title="The toy function on the sphere: three regimes")
    fig.legend(loc="outside lower center", ncols=2)
    return fig

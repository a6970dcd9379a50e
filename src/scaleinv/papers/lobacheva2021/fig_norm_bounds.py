"""Theorem 1 (Lobacheva et al. 2021): the squared norm enters [kappa l, kappa L] and stays, whatever the gradients do
in [l, L].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, style
from scaleinv.theory import lobacheva2021 as theory
from scaleinv.theory.simulators import recursion

LR, WD, LOW, HIGH = 0.1, 0.02, 1.0, 4.0


def numbers(context: Context) -> dict[str, Any]:
    """Paths under constant l and L, random, and the adversary that waits at the lower end to kick; times in
    1/(lr wd), ``arrival``: the bound of the time to within 10 %.
    """
    kappa = theory.kappa(LR, WD)
    bottom, top = theory.norm_interval_exact(LOW, HIGH, LR, WD)
    steps = int(3 / (LR * WD))
    laws = {
        "constant l": recursion.constant(LOW),
        "constant L": recursion.constant(HIGH),
        "random in [l, L]": recursion.uniform(LOW, HIGH, seed=1),
        "adversary: l, then a kick of L": recursion.adversary(LOW, HIGH, bottom * 1.05),
    }
    return {
        "lr": LR,
        "wd": WD,
        "kappa": kappa,
        "interval": [bottom, top],
        "arrival": theory.time_to_interval(30 * kappa, HIGH, LR, WD, 0.1) * LR * WD,
        "time": np.arange(steps + 1) * LR * WD,
        "rho_sq": {name: recursion.run(30 * kappa, LR, WD, law, steps)[:, 0] for name, law in laws.items()},
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """The paths, and the interval of the theorem as a band."""
    kappa, (bottom, top) = numbers["kappa"], numbers["interval"]
    fig, ax = new_figure(6.6, 3.9)
    ax.axhspan(bottom / kappa, top / kappa, color=INK, alpha=0.08, lw=0, label="[κl, κL], Theorem 1")
    for (name, path), colour in zip(numbers["rho_sq"].items(), elr_colours([1, 3, 10, 30])):
        ax.plot(numbers["time"], array(path) / kappa, color=colour, label=name, lw=1.1)
    ax.axvline(numbers["arrival"], color=INK, ls=":", lw=0.9, label="within 10 % at the latest (bound)")
    log_axis(ax, "y")
    ax.set(xlabel="steps · lr · wd", ylabel="ρ² / κ", title="Generalised equilibrium")
    fig.legend(loc="outside lower center", ncols=2)
    return fig

"""Theorem 1 (Lobacheva et al. 2021): the squared norm enters [kappa l, kappa L] and stays, whatever the gradients do
in [l, L].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, style
from scaleinv.theory import lobacheva2021 as theory
from scaleinv.theory.simulators import recursion

LR, WD, LOW, HIGH = 0.1, 0.02, 1.0, 4.0


def draw(context: Context) -> Drawn:
    """Constant l and L, random, and the adversary that waits at the lower end to kick."""

    kappa = theory.kappa(LR, WD)
    bottom, top = theory.norm_interval_exact(LOW, HIGH, LR, WD)
    steps = int(3 / (LR * WD))
    laws = {
        "constant l": recursion.constant(LOW),
        "constant L": recursion.constant(HIGH),
        "random in [l, L]": recursion.uniform(LOW, HIGH, seed=1),
        "adversary: l, then a kick of L": recursion.adversary(LOW, HIGH, bottom * 1.05),
    }
    paths: dict[str, Any] = {name: recursion.run(30 * kappa, LR, WD, law, steps)[:, 0] for name, law in laws.items()}
    fig, ax = new_figure(6.6, 3.9)
    time = np.arange(steps + 1) * LR * WD
    with style():
        ax.axhspan(bottom / kappa, top / kappa, color=INK, alpha=0.08, lw=0, label="[κl, κL], Theorem 1")
        for (name, path), colour in zip(paths.items(), elr_colours([1, 3, 10, 30])):
            ax.plot(time, path / kappa, color=colour, label=name, lw=1.1)
        limit = theory.time_to_interval(30 * kappa, HIGH, LR, WD, 0.1) * LR * WD
        ax.axvline(limit, color=INK, ls=":", lw=0.9, label="within 10 % at the latest (bound)")
        log_axis(ax, "y")
        ax.set_xlabel("steps · lr · wd")
        ax.set_ylabel("ρ² / κ")
        ax.set_title("Generalised equilibrium")
        fig.legend(loc="outside lower center", ncols=2)
    numbers = {"lr": LR, "wd": WD, "interval": [bottom, top], "time": time, "rho_sq": paths}
    return finish(fig, context, numbers)

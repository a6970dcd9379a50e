"""The bifurcation picture of the toy function: F against k = ELR * sum(alpha), theory over simulation. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.plots.style import INK, log_axis, new_figure, regime_colours, style
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy

ALPHAS = (1.0, 2.0, 3.0, 4.0, 5.0)


def numbers(context: Context) -> dict[str, Any]:
    """With the default alphas, 90 ELRs, 8 seeds."""
    ks = np.unique(np.concatenate([np.geomspace(0.3, 30, 60), np.linspace(0.9, 2.6, 30)]))
    return points(ALPHAS, ks / sum(ALPHAS), 20_000, 8)


def points(alphas: Sequence[float], elrs: Any, steps: int, seeds: int, shown: int = 40) -> dict[str, Any]:
    """``shown`` values of F per ELR and seed from the last tenth of the run, and their means."""
    # an odd stride: on a period-2 orbit an even one would show one branch only
    every = max(1, steps // (10 * shown)) | 1
    record = toy.simulate(alphas, elrs, steps, seeds=seeds, every=every)
    last = record.loss_at_end[-shown:]
    return {
        "alphas": list(alphas),
        "elr": record.rates,
        "k": record.k,
        "loss": np.moveaxis(last, 1, 0).reshape(len(record.rates), -1),
        "mean": record.loss[len(record.loss) // 2 :].mean(axis=(0, 2)),
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Values of F as dots, their means as circles, Proposition 3 with alpha = sum(alpha) as a line."""
    total = float(np.sum(numbers["alphas"]))
    k = np.asarray(numbers["k"])
    fig, ax = new_figure(7.0, 4.0)
    for x, values in zip(k, numbers["loss"]):
        colour = regime_colours[kodryan2022.toy_regime(float(x))]
        ax.plot(np.full(len(values), x), values, ".", ms=2.4, alpha=0.45, color=colour, mew=0, rasterized=True)
    fine = np.geomspace(k.min(), k.max(), 400)
    above = np.maximum(fine, 1 + 1e-12)
    level = np.where(fine > 1, total * kodryan2022.equilibrium_level(above), 0.0)
    ax.plot(fine, level, color=INK, lw=1.2, label="theory: 0, then (A − 1/ELR)/2, A = Σα")
    ax.axhline(total / 2, color=INK, lw=0.9, ls=":", label="A/2, mean of random directions")
    ax.plot(k, numbers["mean"], "o", ms=3.2, mfc="none", color=INK, mew=0.8, label="mean of the second half")
    for regime, name in ((1, "regime 1"), (2, "regime 2"), (None, "passage"), (3, "regime 3")):
        if any(kodryan2022.toy_regime(float(x)) == regime for x in k):
            ax.plot([], [], "o", ms=5, mew=0, color=regime_colours[regime], label=f"F, {name} expected")
    log_axis(ax, "x")
    ax.set(ylim=(-0.02 * total, total), xlabel="k = ELR · Σα")
    ax.set(ylabel="F", title="Toy function: where F goes, against the rate")
    fig.legend(loc="outside lower center", ncols=3)
    return fig

"""Figures of the toy function (Kodryan et al. 2022): Fig. 6, left; the bifurcation picture, ours; the feedback."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, regime_colours, regime_names, style
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy

#: the paper's alphas and ELRs are not known to us: five groups and one k = ELR * sum(alpha) inside each regime
ALPHAS = (1.0, 2.0, 3.0, 4.0, 5.0)
REGIME_KS = (0.6, 1.5, 30.0)
REGIME_STEPS = 200


def numbers_regimes(context: Context) -> dict[str, Any]:
    """Simulate the default alphas, one ELR per regime."""
    return curves(ALPHAS)


def curves(alphas: Sequence[float]) -> dict[str, Any]:
    """Simulate F at every step of one run for each k, with the predicted level."""
    total, ks = float(np.sum(alphas)), REGIME_KS
    record = toy.simulate(alphas, np.asarray(ks) / total, REGIME_STEPS, seeds=[0], every=1)
    x, y = toy.start(len(alphas), [0])
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
def draw_regimes(numbers: Numbers) -> Figure:
    """Draw F against the step, the level of theory dashed."""
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


def numbers_bifurcation(context: Context) -> dict[str, Any]:
    """Simulate the default alphas at 90 ELRs with 8 seeds."""
    ks = np.unique(np.concatenate([np.geomspace(0.3, 30, 60), np.linspace(0.9, 2.6, 30)]))
    return points(ALPHAS, ks / sum(ALPHAS), 20_000, 8)


def points(alphas: Sequence[float], elrs: Any, steps: int, seeds: int, shown: int = 40) -> dict[str, Any]:
    """Return ``shown`` values of F per ELR and seed from the last tenth of the run, and their means."""
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
def draw_bifurcation(numbers: Numbers) -> Figure:
    """Draw values of F as dots, their means as circles, Proposition 3 with alpha = sum(alpha) as a line."""
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


FEEDBACK_KS = (1.3, 2.5)
FEEDBACK_STEPS = 80


def numbers_feedback(context: Context) -> dict[str, Any]:
    """Simulate elr_i / elr_i* of five groups at k = 1.3 and 2.5."""
    total = sum(ALPHAS)
    elrs = [k / total for k in FEEDBACK_KS]
    record = toy.simulate(ALPHAS, elrs, FEEDBACK_STEPS, seeds=[1], every=1)
    ratios = [
        record.group_elr_at_end[:, j, 0] / kodryan2022.equilibrium_elrs(elr, list(ALPHAS)) for j, elr in enumerate(elrs)
    ]
    return {"alphas": ALPHAS, "k": FEEDBACK_KS, "ratio": ratios}


@style()
def draw_feedback(numbers: Numbers) -> Figure:
    """Draw a panel for each k, a line for each group."""
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

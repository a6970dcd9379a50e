"""Regime 3 (after Kodryan et al. 2022): SGD, a random walk and gradient ascent on one sphere with one ELR."""

from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022.regimes import WALK_ELR, compare_heads
from scaleinv.plots.style import INK, log_axis, new_figure, regime_colours, style

STEPS = 240
#: networks, each with a head of its own: the order of the losses is one of means
SEEDS = (0, 1, 2, 3)
#: steps of a running mean: the loss of a batch of 16 scatters
SMOOTH = 15


#: name, label
KINDS = {"walk": "random walk", "sgd": "SGD", "ascent": "gradient ascent"}


def numbers(context: Context) -> dict[str, Any]:
    """Compute loss in units of that of random directions and the cosine of neighbours, by step; means over networks."""
    found, levels, _ = compare_heads(context.scale, WALK_ELR, SEEDS, STEPS)
    walks = {kind: [w for c in found for w in c.walks if w.kind == kind] for kind in KINDS}
    late = {kind: np.array([c.loss[kind].mean() for c in found]) / levels for kind in KINDS}
    return {
        "elr": WALK_ELR,
        "random_directions": levels,
        "walks": {
            kind: {
                "loss": np.mean([w.loss / level for w, level in zip(of, levels)], axis=0),
                "cosine": np.mean([np.abs(w.cosine) for w in of], axis=0),
            }
            for kind, of in walks.items()
        },
        "late": {
            kind: {"loss": float(values.mean()), "se": float(values.std(ddof=1) / np.sqrt(len(values)))}
            for kind, values in late.items()
        },
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw losses and cosines by step."""
    colours = {"walk": regime_colours[1], "sgd": INK, "ascent": regime_colours[3]}
    fig, (left, right) = new_figure(8.8, 3.7, ncols=2)
    for kind, label in KINDS.items():
        loss = array(numbers["walks"][kind]["loss"])
        late = numbers["late"][kind]
        smooth = np.convolve(loss, np.ones(SMOOTH) / SMOOTH, "valid")
        at = np.arange(len(smooth)) + (SMOOTH - 1) / 2
        left.plot(at, smooth, color=colours[kind], lw=1.3, label=f"{label}: {late['loss']:.2f} ± {late['se']:.2f}")
        cosine = np.abs(array(numbers["walks"][kind]["cosine"]))
        right.plot(np.maximum(cosine, 1e-7), ".", ms=3, color=colours[kind])
    left.axhline(1.0, color=INK, ls="--", lw=1, label="random directions: 1")
    left.set(xlabel="step", ylabel="train loss / that of random directions")
    left.set_title(f"Loss in regime 3, ELR {numbers['elr']:g}")
    log_axis(right, "y")
    right.set(xlabel="step", ylabel="|cosine| of consecutive weights", title="Consecutive weights are uncorrelated")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig

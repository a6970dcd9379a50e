"""Fig. 7 (Kodryan et al. 2022): regime 1 at several ELRs, a spectrum of minima; started from them with another ELR."""

from typing import Any

import numpy as np

from scaleinv.analysis.trajectories import compare, spectrum, trajectory
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, new_figure, power_of_ten, style

LEVELS = (5e-2, 3e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3)


def numbers_left(context: Context) -> dict[str, Any]:
    """Read the minima of the first seed."""
    net = regimes.find(context.scale)
    runs = context.runs(regimes.minima(net, net.seeds[0]))
    found = spectrum([trajectory(run) for run in runs], LEVELS)
    return {
        "scale": context.scale,
        "levels": LEVELS,
        "eg_over_loss": [[at.ratio for at in row] for row in found.table],
        "inversions": found.inversions,
        "extremes": [found.extremes.value, found.extremes.error],
        "runs": [sphere.read_curve(run) for run in runs],
    }


@style()
def draw_left(numbers: Numbers) -> Figure:
    """Draw effective gradient and test error against train loss."""
    shown = sphere.coloured(numbers["runs"])
    fig, (gradient, error) = new_figure(9.2, 4.0, ncols=2)
    for curve in shown:
        sphere.draw_path(gradient, curve)
        sphere.draw_path(error, curve, "test_error_percent")
    gradient.set_title("Regime 1: effective gradient against train loss")
    error.set_title("Test error against train loss")
    sphere.finish_diagram(gradient)
    sphere.finish_diagram(error, "test_error_percent")
    sphere.zoom((gradient, error), shown)
    highest = max(float(array(c["eg"])[array(c["loss"]) < 0.1].max(initial=0.0)) for c in shown)
    if highest > 0:
        gradient.set_ylim(top=1.5 * highest)
    top = max(float(np.max(curve["test_error_percent"][3:])) for curve in shown)
    error.set_ylim(0, top * 1.1)
    sphere.elr_legend(fig, shown)
    return fig


def numbers_right(context: Context) -> dict[str, Any]:
    """Read runs from scratch, one that starts from a high ELR with a low one, and the other way round."""
    net = regimes.find(context.scale)
    seed = net.seeds[0]
    ways = [of[0] for of in regimes.retrainings(context.scale).values()]
    # all at once: several runs at a time have something to share
    elrs = list(dict.fromkeys(elr for start, new, _ in ways for elr in (start, new)))
    scratch = dict(zip(elrs, context.runs(regimes.minima(net, seed, elrs))))
    wanted = [
        request
        for start, elr, epoch in ways
        for request in regimes.retrained(net, scratch[start].folder, [elr], seed=seed + 100, epoch=epoch)
    ]
    found = []
    for (start, elr, epoch), after in zip(ways, context.runs(wanted)):
        mine = trajectory(after)
        found.append(
            {
                "start": start,
                "elr": elr,
                "epoch": epoch,
                "log_offset_from_start": compare(mine, trajectory(scratch[start])).offset.value,
                "log_offset_from_new": compare(mine, trajectory(scratch[elr])).offset.value,
                "curves": [sphere.read_curve(run) for run in (scratch[start], scratch[elr], after)],
            }
        )
    return {"scale": context.scale, "runs": found}


@style()
def draw_right(numbers: Numbers) -> Figure:
    """Draw dots for runs from scratch, lines for those that start from another run with another ELR."""
    fig, axes = new_figure(9.2, 4.2, ncols=2)
    for ax, title, way in zip(axes, ("Lower ELR", "Higher ELR"), numbers["runs"]):
        *scratch, after = way["curves"]
        scratch, after = sphere.coloured(scratch), {**after, "colour": INK}
        start, elr = power_of_ten(way["start"]), power_of_ten(way["elr"])
        for curve in scratch:
            sphere.draw_path(ax, curve)
            ax.plot([], [], ".", color=curve["colour"], label=f"ELR {power_of_ten(curve['elr'])} from scratch")
        sphere.draw_path(ax, after, marker="x")
        ax.plot([], [], "x-", color=INK, ms=4, lw=0.8, label=f"from {start} on with {elr}")
        sphere.finish_diagram(ax)
        sphere.zoom([ax], [*scratch, after])
        ax.set_title(f"{title}: {start} to {elr}")
        ax.legend(loc="upper left")
    return fig

"""Fig. 7, left (Kodryan et al. 2022): regime 1 at several ELRs, a spectrum of minima."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaleinv.analysis.trajectories import spectrum, trajectory
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import new_figure, style

LEVELS = (5e-2, 3e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3)


def numbers(context: Context) -> dict[str, Any]:
    """The minima of the first seed."""
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
def draw(numbers: Numbers) -> Figure:
    """Effective gradient and test error against train loss."""
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

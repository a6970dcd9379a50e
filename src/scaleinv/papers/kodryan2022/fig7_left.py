"""Fig. 7, left (Kodryan et al. 2022): regime 1 at several ELRs, a spectrum of minima."""

from __future__ import annotations

from scaleinv.analysis.trajectories import spectrum, trajectory
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import new_figure, style


def draw(context: Context) -> Drawn:
    """Effective gradient and test error against train loss; the first seed."""

    net = regimes.find(context.scale)
    folders = context.folders(regimes.minima(net, net.seeds[0]))
    shown = sphere.curves(folders, net.convergence)
    fig, (gradient, error) = new_figure(9.2, 4.0, ncols=2)
    with style():
        for curve in shown:
            sphere.draw_path(gradient, curve)
            sphere.draw_path(error, curve, "test_error")
        gradient.set_title("Regime 1: effective gradient against train loss")
        error.set_title("Test error against train loss")
        sphere.finish_diagram(gradient)
        sphere.finish_diagram(error, "test_error")
        sphere.zoom((gradient, error), shown)
        highest = max(float(c.series("eg")[1][c.series("loss")[1] < 0.1].max(initial=0.0)) for c in shown)
        if highest > 0:
            gradient.set_ylim(top=1.5 * highest)
        top = max(float(curve.series("test_error")[1][3:].max()) for curve in shown)
        error.set_ylim(0, top * 1.1)
        sphere.elr_legend(fig, shown)
    levels = (5e-2, 3e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3)
    found = spectrum([trajectory(curve.run) for curve in shown], levels)
    numbers = {
        "scale": context.scale,
        "levels": levels,
        "eg_over_loss": [[at.ratio for at in row] for row in found.table],
        "inversions": found.inversions,
        "extremes": [found.extremes.value, found.extremes.error],
        "runs": [curve.numbers() for curve in shown],
    }
    return finish(fig, context, numbers)

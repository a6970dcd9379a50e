"""Fig. 8, right (Kodryan et al. 2022): from regime 2 to regime 1, from a low and from a high ELR."""

from __future__ import annotations

import itertools
from typing import Any

from scaleinv.lab.weights import read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import surface_of
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, new_figure, power_of_ten, style


def draw(context: Context) -> Drawn:
    """A column for each start: the start's iterates and the runs of new ELRs in the diagram, test error below."""

    net = regimes.find(context.scale)
    seed, new = net.seeds[0], regimes.new_elrs(net)
    fig, axes = new_figure(9.2, 6.4, ncols=2, nrows=2, sharex=True, sharey="row")
    starts: dict[str, Any] = {}
    elrs = (net.equilibrium[0], net.equilibrium[-1])
    firsts = context.folders(regimes.sweep(net, [seed], elrs))
    # all at once, so that several are trained at a time
    every = context.folders([r for first in firsts for r in regimes.retrained(net, first, new, seed=seed + 100)])
    with style():
        for column, (start, first) in enumerate(zip(elrs, firsts)):
            ended = every[column * len(new) : (column + 1) * len(new)]
            before = sphere.Curve(first, INK, f"start: ELR {power_of_ten(start)}")
            shown = sphere.curves(ended, new)
            for row, quantity in enumerate(("eg", "test_error")):
                ax = axes[row, column]
                x, y = before.against_loss(quantity, since=before.run.last_epoch / 2)
                ax.plot(x, y, "D", color=INK, ms=3.5, mew=0, alpha=0.6)
                for curve in shown:
                    sphere.draw_path(ax, curve, quantity)
                sphere.finish_diagram(ax, quantity)
            axes[0, column].set_title(f"From ELR {power_of_ten(start)} (regime 2)")
            surface, ends = surface_of(ended[0]), [read_weights(folder) for folder in ended]
            pairs = itertools.combinations(range(len(new)), 2)
            paths = {(new[i], new[j]): linear_path(surface, ends[i], ends[j]) for i, j in pairs}
            rise = max(path.barrier().height for path in paths.values())
            angle = max(path.angle for path in paths.values())
            words = f"between the ends: angle up to {angle:.2f} rad,\nbarrier of the train loss up to {rise:.1g}"
            place = axes[0, column].transAxes
            axes[0, column].text(0.03, 0.95, words, transform=place, va="top", fontsize=8.5)
            axes[0, column].set_xlabel("")
            barriers = {f"{a:g} {b:g}": path.barrier().height for (a, b), path in paths.items()}
            errors = {f"{a:g} {b:g}": path.barrier("train_error").height for (a, b), path in paths.items()}
            starts[f"{start:g}"] = {
                "train_loss_barriers": barriers,
                "train_error_barriers": errors,
                "largest_angle": angle,
                "runs": [c.numbers() for c in shown],
            }
        axes[0, 0].plot([], [], "D", color=INK, ms=4, mew=0, label="iterates of the start")
        sphere.elr_legend(fig, shown, "then ELR", extra=axes[0, 0])
    return finish(fig, context, {"scale": context.scale, "starts": starts})

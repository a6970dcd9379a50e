"""Fig. 7, right (Kodryan et al. 2022): regime 1, going on with a lower and with a higher ELR."""

from __future__ import annotations

from typing import Any

from scaleinv.analysis.trajectories import compare, trajectory
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, new_figure, power_of_ten, style


def draw(context: Context) -> Drawn:
    """Dots: runs from scratch. Lines: from a run of a high ELR on with a low one, and the other way round."""

    net = regimes.find(context.scale)
    seed = net.seeds[0]
    fig, axes = new_figure(9.2, 4.2, ncols=2)
    found: list[dict[str, Any]] = []
    ways = [of[0] for of in regimes.retrainings(context.scale).values()]
    # all at once: several runs at a time have something to share
    elrs = list(dict.fromkeys(elr for start, new, _ in ways for elr in (start, new)))
    scratch = dict(zip(elrs, context.folders(regimes.minima(net, seed, elrs))))
    wanted = [
        request
        for start, elr, epoch in ways
        for request in regimes.retrained(net, scratch[start], [elr], seed=seed + 100, epoch=epoch)
    ]
    again = context.folders(wanted)
    with style():
        for ax, title, (start, elr, epoch), folder in zip(axes, ("Lower ELR", "Higher ELR"), ways, again):
            one, other = sphere.curves([scratch[start], scratch[elr]], [start, elr])
            after = sphere.Curve(folder, INK, f"from {power_of_ten(start)} on with {power_of_ten(elr)}")
            for curve in (one, other):
                sphere.draw_path(ax, curve)
                ax.plot([], [], ".", color=curve.colour, label=f"ELR {power_of_ten(curve.elr)} from scratch")
            sphere.draw_path(ax, after, marker="x")
            ax.plot([], [], "x-", color=INK, ms=4, lw=0.8, label=after.label)
            sphere.finish_diagram(ax)
            sphere.zoom([ax], [one, other, after])
            ax.set_title(f"{title}: {power_of_ten(start)} to {power_of_ten(elr)}")
            ax.legend(loc="upper left")
            paths = {curve.elr: trajectory(curve.run) for curve in (one, other)}
            mine = trajectory(after.run)
            found.append(
                {
                    "start": start,
                    "elr": elr,
                    "epoch": epoch,
                    "log_offset_from_start": compare(mine, paths[start]).offset.value,
                    "log_offset_from_new": compare(mine, paths[elr]).offset.value,
                    "curves": [curve.numbers() for curve in (one, other, after)],
                }
            )
    return finish(fig, context, {"scale": context.scale, "runs": found})

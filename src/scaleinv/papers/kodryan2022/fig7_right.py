"""Fig. 7, right (Kodryan et al. 2022): regime 1, going on with a lower and with a higher ELR."""

from __future__ import annotations

from typing import Any

from scaleinv.analysis.trajectories import compare, trajectory
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, new_figure, power_of_ten, style


def numbers(context: Context) -> dict[str, Any]:
    """Runs from scratch, and from a run of a high ELR on with a low one, and the other way round."""
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
def draw(numbers: Numbers) -> Figure:
    """Dots: runs from scratch. Lines: those that go on with another ELR."""
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

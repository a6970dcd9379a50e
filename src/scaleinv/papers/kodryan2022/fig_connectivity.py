"""Barriers between the minima that different ELRs of regime 1 reach (Kodryan et al. 2022)."""

import itertools
from typing import Any

import numpy as np

from scaleinv.lab.weights import read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import surface_of
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, power_of_ten, style


def numbers(context: Context) -> dict[str, Any]:
    """Measure straight paths between the minima of all pairs of ELRs; ``from_lowest``: train losses from the lowest."""
    net = regimes.for_paths(context.scale)
    elrs = net.convergence
    folders = context.folders(regimes.minima(net, net.seeds[0]))
    surface, ends = surface_of(folders[0]), [read_weights(folder) for folder in folders]
    paths = {(i, j): linear_path(surface, ends[i], ends[j]) for i, j in itertools.combinations(range(len(elrs)), 2)}
    barriers, angles = np.zeros((2, len(elrs), len(elrs)))
    for (i, j), path in paths.items():
        barriers[i, j] = barriers[j, i] = 100 * path.barrier("train_error").height
        angles[i, j] = angles[j, i] = path.angle
    from_lowest = [paths[0, j] for j in range(1, len(elrs))]
    return {
        "scale": context.scale,
        "elrs": elrs,
        "train_error_barrier_points": barriers,
        "angle": angles,
        "from_lowest": [{"fraction": path.fractions, "train_loss": path.train_loss} for path in from_lowest],
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw train loss along straight paths from the lowest ELR's minimum (left), and barriers of all pairs (right)."""
    elrs, barriers = numbers["elrs"], array(numbers["train_error_barrier_points"])
    labels = [power_of_ten(elr) for elr in elrs]
    fig, (along, matrix) = new_figure(9.2, 4.1, ncols=2)
    ends = zip(labels[1:], elr_colours(elrs)[1:], numbers["angle"][0][1:], numbers["from_lowest"])
    for label, colour, angle, path in ends:
        name = f"to ELR {label} ({angle:.2f} rad)"
        along.plot(path["fraction"], array(path["train_loss"]), color=colour, marker=".", ms=4, label=name)
    log_axis(along, "y")
    along.set(xlabel=f"part of the path from the minimum of ELR {labels[0]}", ylabel="train loss")
    along.set_title("Train loss along straight paths")
    along.legend(loc="lower left")
    matrix.imshow(barriers, cmap="Blues", vmin=0, vmax=max(1.0, 1.6 * barriers.max()))
    for (i, j), barrier in np.ndenumerate(barriers):
        matrix.text(j, i, f"{barrier:.0f}" if i != j else "-", ha="center", va="center", color=INK, fontsize=9)
    matrix.set_xticks(range(len(elrs)), labels)
    matrix.set_yticks(range(len(elrs)), labels)
    matrix.grid(False)
    matrix.set(xlabel="ELR", ylabel="ELR", title="Barrier of train error, points")
    return fig

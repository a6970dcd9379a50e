"""Barriers between the minima that different ELRs of regime 1 reach (Kodryan et al. 2022)."""

from __future__ import annotations

import itertools

import numpy as np

from scaleinv.lab.weights import read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import surface_of
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, style


def draw(context: Context) -> Drawn:
    """Left: train loss along straight paths from the lowest ELR's minimum. Right: barriers of all pairs."""

    net = regimes.for_paths(context.scale)
    elrs = net.convergence
    folders = context.folders(regimes.minima(net, net.seeds[0]))
    shown = sphere.curves(folders, elrs)
    surface, ends = surface_of(folders[0]), [read_weights(folder) for folder in folders]
    paths = {(i, j): linear_path(surface, ends[i], ends[j]) for i, j in itertools.combinations(range(len(elrs)), 2)}
    barriers, angles = np.zeros((2, len(elrs), len(elrs)))
    for (i, j), path in paths.items():
        barriers[i, j] = barriers[j, i] = 100 * path.barrier("train_error").height
        angles[i, j] = angles[j, i] = path.angle
    fig, (along, matrix) = new_figure(9.2, 4.1, ncols=2)
    with style():
        for j in range(1, len(elrs)):
            path = paths[0, j]
            name = f"to ELR {power_of_ten(elrs[j])} ({path.angle:.2f} rad)"
            along.plot(path.fractions, path.train_loss, color=shown[j].colour, marker=".", ms=4, label=name)
        log_axis(along, "y")
        along.set_xlabel(f"part of the path from the minimum of ELR {power_of_ten(elrs[0])}")
        along.set_ylabel("train loss")
        along.set_title("Train loss along straight paths")
        along.legend(loc="lower left")
        matrix.imshow(barriers, cmap="Blues", vmin=0, vmax=max(1.0, 1.6 * barriers.max()))
        for i in range(len(elrs)):
            for j in range(len(elrs)):
                words = f"{barriers[i, j]:.0f}" if i != j else "-"
                matrix.text(j, i, words, ha="center", va="center", color=INK, fontsize=9)
        labels = [power_of_ten(elr) for elr in elrs]
        matrix.set_xticks(range(len(elrs)), labels)
        matrix.set_yticks(range(len(elrs)), labels)
        matrix.grid(False)
        matrix.set_xlabel("ELR")
        matrix.set_ylabel("ELR")
        matrix.set_title("Barrier of train error, points")
    numbers = {"scale": context.scale, "elrs": elrs, "train_error_barrier_points": barriers, "angle": angles}
    return finish(fig, context, numbers)

"""Fig. 6, right (after Kodryan et al. 2022): the groups' ELR against their effective gradient, in regimes 1 and 2."""

from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.ess import equalisation, from_steps
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.kodryan2022 import equal_ess
from scaleinv.plots.style import INK, elr_colour, log_axis, new_figure, power_of_ten, style
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps

#: a dot is a mean over this share of the run
DOTS = 30


def numbers(context: Context) -> dict[str, Any]:
    """Read a run in regime 1 and one in regime 2."""
    wanted = equal_ess.runs(context.scale, "convnet", equal_ess.elrs(context.scale, "convnet"))
    return {"regimes": [1, 2], "runs": [read(folder) for folder in context.folders(wanted)]}


def read(folder: Path) -> dict[str, Any]:
    """Average the logarithms of ELR and of log(1 + ESS^2) of every group over parts of a run, and of all together;
    ``start``: ELR and effective gradient of every group at the first step.
    """
    groups = from_steps(load_steps(folder))
    size = len(groups.ess) // DOTS
    part = slice(0, size * DOTS)
    elr = np.exp(np.log(groups.elr[part]).reshape(DOTS, size, -1).mean(1))
    ess = np.sqrt(np.expm1(np.log1p(groups.ess[part] ** 2).reshape(DOTS, size, -1).mean(1)))
    late = equalisation(groups, len(groups.ess) // 4)
    return {
        "elr": load_run(folder).elr,
        "groups": groups.names,
        "group_elr": elr.T,
        "group_eg": (ess / elr).T,
        "start": np.stack([groups.elr[0], groups.ess[0] / groups.elr[0]], axis=1),
        "common_ess": float(np.sqrt(np.expm1(late.total.value))),
        "ratio": late.ratio.value,
        "clock": late.clock,
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw a panel for each regime: dots by group, the hyperbola of the common effective step size dashed."""
    runs = numbers["runs"]
    fig, axes = new_figure(4.7 * len(runs), 4.0, ncols=len(runs))
    handles: dict[str, Any] = {}
    for ax, regime, run in zip(axes, numbers["regimes"], runs):
        names = run["groups"]
        for k, name in enumerate(names):
            x, y = run["group_elr"][k], run["group_eg"][k]
            colour = elr_colour(k / max(1, len(names) - 1))
            dots = ax.plot(x, y, "o", color=colour, ms=4, alpha=0.6, mew=0)
            handles[name] = dots[0]
            ax.plot(*run["start"][k], "*", color=colour, ms=10, mec=INK, mew=0.6)
        low, high = np.min(run["group_elr"]), np.max(run["group_elr"])
        line = np.geomspace(low / 1.3, high * 1.3, 50)
        ess = float("{:.2g}".format(run["common_ess"]))
        label = f"common step size, ELR x gradient = {power_of_ten(ess)}"
        ax.plot(line, run["common_ess"] / line, color=INK, ls="--", lw=1)
        spread = f"squared step sizes within a factor {run['ratio']:.4g}"
        ax.text(0.98, 0.97, f"{label}\n{spread}", transform=ax.transAxes, ha="right", va="top")
        log_axis(ax, "xy")
        ax.set(xlabel="ELR of the group", ylabel="effective gradient norm of the group")
        ax.set_title(f"Regime {regime}, ELR {power_of_ten(run['elr'])}")
    handles["start"] = axes[0].plot([], [], "*", color="none", ms=9, mec=INK, mew=0.8)[0]
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return fig

"""Cosines between epochs under the squared loss (after Nakhodnov et al. 2022): regime 1 seen without convergence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.similarity import cosine_gap, cosine_level, cosines
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.nakhodnov2022 import runs as cosine
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, power_of_ten, regime_colours, style
from scaleinv.runfolder.read import Run


def numbers(context: Context) -> dict[str, Any]:
    """Read the cosines of all ELRs of the scale."""
    return collect(context.runs(cosine.runs(context.scale)))


def collect(runs: Sequence[Run]) -> dict[str, Any]:
    """Compute 1 - cosine of successive epochs, and its level by ELR with the gap."""
    runs = sorted(runs, key=lambda run: run.elr)
    gap = cosine_gap([cosine_level(run) for run in runs])
    series = []
    for run in runs:
        found = cosines(run)
        loss = run.series("online", "total", "loss")[1]
        late = float(loss[-max(1, len(loss) // 10) :].mean())
        series.append({"elr": run.elr, "epochs": found.epochs, "distance": 1 - found.previous, "loss": late})
    return {
        "verdict": gap.verdict,
        "reason": gap.reason,
        "between": [gap.between.low, gap.between.high],
        "factor": gap.factor,
        "interval": [gap.interval.low, gap.interval.high],
        "slope": gap.slope,
        "elrs": gap.elrs,
        "levels": [[float(np.exp(level.value)), level.error] for level in gap.levels],
        "series": series,
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw 1 - cosine of successive epochs against time, and its level against the ELR with the gap."""
    fig, (time, level) = new_figure(8.6, 3.7, ncols=2)
    elrs = np.array(numbers["elrs"])
    for s, colour in zip(numbers["series"], elr_colours([s["elr"] for s in numbers["series"]])):
        label = f"ELR {power_of_ten(s['elr'])}, final loss {s['loss']:.2g}"
        time.plot(s["epochs"], array(s["distance"]), color=colour, label=label)
    values, errors = array(numbers["levels"]).T
    bars = [values - values * np.exp(-2 * errors), values * np.exp(2 * errors) - values]
    look = {"fmt": "o", "color": regime_colours[1], "ms": 6, "capsize": 2}
    level.errorbar(elrs, values, yerr=bars, label="mean over the last half, 2 s.e.", **look)
    if numbers["verdict"] == "gap":
        low, high = numbers["between"]
        start = values[list(elrs).index(low)]
        line = np.array([elrs[0], elrs[-1]])
        label = f"steepest slope below: {numbers['slope']:.2f}"
        level.plot(line, start * (line / low) ** numbers["slope"], color=INK, ls="--", lw=1, label=label)
        level.axvspan(low, high, color=regime_colours[2], alpha=0.15, lw=0)
        a, b = numbers["interval"]
        label = f"gap: x{numbers['factor']:.2g} ({a:.2g} to {b:.2g})"
        level.plot([], [], color=regime_colours[2], alpha=0.3, lw=6, label=label)
    log_axis(time, "y")
    log_axis(level, "xy")
    time.set(xlabel="epoch", ylabel="1 - cosine to the epoch before", title="How far one epoch turns the weights")
    level.set(xlabel="effective learning rate", ylabel="1 - cosine to the epoch before")
    level.set_title("No ELR converges, the cosines differ")
    level.legend(loc="upper left")
    fig.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig

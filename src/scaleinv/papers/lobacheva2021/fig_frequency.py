"""The interval between break-downs against 1/(lr wd) (Lobacheva et al. 2021, Corollary 1): a line of slope 1."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scaleinv.analysis.statistics import t_quantile
from scaleinv.errors import needs
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.lobacheva2021 import runs_figures
from scaleinv.papers.lobacheva2021.traces import Trace, rate_colours, rate_text, read_traces
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, style

with needs("lab"):
    from scipy.stats import linregress


class Line(NamedTuple):
    """A line ``log10 interval = slope log10(1/(lr wd)) + offset`` by least squares; slope with 95 % interval."""

    slope: float
    low: float
    high: float
    offset: float


def fit(units: Sequence[float], intervals: Sequence[float]) -> Line | None:
    """Fit a line to runs with periods, each one point, by Student's t; None for fewer than 3, or one unit only.

    >>> fit([100.0, 1000.0, 10000.0], [50.0, 500.0, 5000.0])
    Line(slope=1.0, low=1.0, high=1.0, offset=-0.30103)
    """
    x, y = np.log10(np.asarray(units, dtype=float)), np.log10(np.asarray(intervals, dtype=float))
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return None
    found = linregress(x, y)
    slope, half = found.slope, t_quantile(0.95, len(x) - 2) * found.stderr
    return Line(*(round(float(value), 6) for value in (slope, slope - half, slope + half, found.intercept)))


def numbers(context: Context) -> dict[str, Any]:
    """Return one point a run, with the 95 % interval of its mean, and the line through those with periods."""
    return {"scale": context.scale, **collect(read_traces(context, runs_figures.frequency(context.scale)))}


def collect(traces: Sequence[Trace]) -> dict[str, Any]:
    """Collect the points of any runs, and fit their line."""
    points = [
        {
            "run": trace["run"],
            "lr": trace["lr"],
            "wd": trace["wd"],
            "unit": 1 / (trace["lr"] * trace["wd"]),
            "verdict": trace["verdict"],
            "events": len(trace["break_downs"]),
            "interval": trace["mean_interval"],
            "low": trace["interval"][0],
            "high": trace["interval"][1],
        }
        for trace in traces
    ]
    known = _periodic(points)
    line = fit([p["unit"] for p in known], [p["interval"] for p in known])
    return {"points": points, "fit": None if line is None else line._asdict()}


def _periodic(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for point in points if point["verdict"] == "periodic"]


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw the points and the line; colour and shape tell the learning rates apart."""
    points, line = numbers["points"], numbers["fit"]
    fig, ax = new_figure(6.2, 4.6)
    colours = rate_colours(point["lr"] for point in points)
    decays = sorted({p["wd"] for p in points}, key=lambda wd: [p["wd"] for p in points].count(wd), reverse=True)
    markers = dict(zip(decays, "os^Dv"))
    known = _periodic(points)
    named = set()
    # runs at one place are drawn side by side
    places: dict[float, int] = {}
    for point in known:
        same = round(math.log10(point["unit"]), 6)
        x = point["unit"] * 1.035 ** places.setdefault(same, 0)
        places[same] += 1
        label = f"{rate_text(point['lr'])}, wd {power_of_ten(point['wd'])}"
        mean, low, high = point["interval"], point["low"], point["high"]
        bars, colour = None if high is None else [[mean - low], [high - mean]], colours[point["lr"]]
        look = {"fmt": markers.get(point["wd"], "o"), "color": colour, "ms": 6, "lw": 1.1, "capsize": 2}
        look["mfc"] = "none" if point["wd"] != decays[0] else colour
        ax.errorbar(x, mean, yerr=bars, label=None if label in named else label, **look)
        named.add(label)
    if line is not None:
        ends = np.array([min(p["unit"] for p in known) / 1.3, max(p["unit"] for p in known) * 1.3])
        words = f"fit: slope {line['slope']:.2f} (95 % {line['low']:.2f} to {line['high']:.2f})"
        ax.plot(ends, 10 ** line["offset"] * ends ** line["slope"], color=INK, lw=1.1, label=words)
        middle = 10 ** float(np.mean([math.log10(p["interval"] / p["unit"]) for p in known]))
        words = f"slope 1: interval = {middle:.2g}/(lr wd)"
        ax.plot(ends, middle * ends, color=INK, lw=1.0, ls=":", label=words)
    log_axis(ax, "xy")
    ax.set(xlabel="1/(lr · wd), steps", ylabel="mean interval between break-downs, steps")
    ax.set_title("Period against learning rate times weight decay")
    if not known:
        ax.text(0.5, 0.5, "no run has periods", ha="center", transform=ax.transAxes)
    if ax.get_legend_handles_labels()[0]:
        fig.legend(loc="outside lower center", ncols=2)
    return fig

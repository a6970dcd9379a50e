"""The interval between break-downs against 1/(lr wd) (Lobacheva et al. 2021, Corollary 1): a line of slope 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaleinv.analysis.statistics import t_quantile
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.lobacheva2021 import fig3
from scaleinv.papers.lobacheva2021 import runs as periods
from scaleinv.papers.lobacheva2021.traces import Trace, traces
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, style
from scaleinv.studies.obtain import Request

#: at cifar-small: rates at fig3's weight decay (two of them fig3's), and another lr with the lr wd of one
_CIFAR_SMALL = (0.01, 0.02, 0.03, 0.06)
_CIFAR_OTHER = (0.01, 0.03)  # lr, wd: the lr wd of 0.03


@dataclass(frozen=True)
class Line:
    """``log10 interval = slope log10(1/(lr wd)) + offset`` by least squares, with the 95 % interval of the slope."""

    slope: float
    low: float
    high: float
    offset: float


def fit(units: Sequence[float], intervals: Sequence[float]) -> Line | None:
    """Of runs with periods, each one point; Student's t over their scatter. None for fewer than 3, or one unit only.

    >>> fit([100.0, 1000.0, 10000.0], [50.0, 500.0, 5000.0])
    Line(slope=1.0, low=1.0, high=1.0, offset=-0.30103)
    """

    x, y = np.log10(np.asarray(units, dtype=float)), np.log10(np.asarray(intervals, dtype=float))
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return None
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    offset = float(y.mean() - slope * x.mean())
    rest = y - slope * x - offset
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float(centred @ centred))
    half = t_quantile(0.95, len(x) - 2) * error
    return Line(*(round(value, 6) for value in (slope, slope - half, slope + half, offset)))


def requests(scale: str) -> list[Request]:
    """The runs: several lr at one weight decay, and another lr at a weight decay that gives one of the products."""

    if scale == "cifar-small":
        base = fig3.settings(scale)
        lr, wd = _CIFAR_OTHER
        wanted = [Request(settings=base, lr=rate) for rate in _CIFAR_SMALL]
        return [*wanted, Request(settings=replace(base, weight_decay=wd), lr=lr)]
    return [*periods.rates(scale), *periods.same_product(scale)[1]]


def draw(context: Context) -> Drawn:
    """One point a run, with the 95 % interval of its mean; colour and shape tell the learning rates apart."""
    wanted = requests(context.scale)
    return draw_points(traces(context.folders(wanted), wanted), context)


def draw_points(shown: list[Trace], context: Context) -> Drawn:
    """The figure of any runs."""

    fig, ax = new_figure(6.2, 4.6)
    decays = sorted({trace.wd for trace in shown}, key=lambda wd: [t.wd for t in shown].count(wd), reverse=True)
    markers = dict(zip(decays, "os^Dv"))
    points: list[dict[str, Any]] = []
    named = set()
    # runs at one place are drawn side by side
    places: dict[float, int] = {}
    with style():
        for trace in shown:
            found = trace.periods
            unit = 1 / (trace.lr * trace.wd)
            point = {
                "run": trace.folder.name,
                "lr": trace.lr,
                "wd": trace.wd,
                "unit": unit,
                "verdict": found.verdict,
                "events": len(found.destabilisations),
                "interval": found.mean_interval,
                "low": found.confidence[0],
                "high": found.confidence[1],
            }
            points.append(point)
            if found.verdict != "periodic":
                continue
            same = round(math.log10(unit), 6)
            x = unit * 1.035 ** places.setdefault(same, 0)
            places[same] += 1
            label = f"LR {power_of_ten(trace.lr)}, wd {power_of_ten(trace.wd)}"
            mean, low, high = found.mean_interval, *found.confidence
            ax.errorbar(
                x,
                mean,
                yerr=[[mean - low], [high - mean]] if math.isfinite(high) else None,
                fmt=markers.get(trace.wd, "o"),
                color=trace.colour,
                ms=6,
                lw=1.1,
                capsize=2,
                mfc="none" if trace.wd != decays[0] else trace.colour,
                label=None if label in named else label,
            )
            named.add(label)
        known = [p for p in points if p["verdict"] == "periodic"]
        line = fit([p["unit"] for p in known], [p["interval"] for p in known])
        if line is not None:
            ends = np.array([min(p["unit"] for p in known) / 1.3, max(p["unit"] for p in known) * 1.3])
            words = f"fit: slope {line.slope:.2f} (95 % {line.low:.2f} to {line.high:.2f})"
            ax.plot(ends, 10**line.offset * ends**line.slope, color=INK, lw=1.1, label=words)
            middle = 10 ** float(np.mean([math.log10(p["interval"] / p["unit"]) for p in known]))
            words = f"slope 1: interval = {middle:.2g}/(lr wd)"
            ax.plot(ends, middle * ends, color=INK, lw=1.0, ls=":", label=words)
        log_axis(ax, "xy")
        ax.set_xlabel("1/(lr · wd), steps")
        ax.set_ylabel("mean interval between break-downs, steps")
        ax.set_title("Period against learning rate times weight decay")
        if not known:
            ax.text(0.5, 0.5, "no run has periods", ha="center", transform=ax.transAxes)
        if ax.get_legend_handles_labels()[0]:
            fig.legend(loc="outside lower center", ncols=2)
    numbers = {"scale": context.scale, "points": points, "fit": None if line is None else line.__dict__}
    return finish(fig, context, numbers)

"""Fig. 4 (Lobacheva et al. 2021): one period step by step: its phases A, B, C, and the theory around the rotation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleinv.analysis.periods import Period, Periods, find_periods
from scaleinv.analysis.periods.bounds import bounds_of, cosine_distance, envelope
from scaleinv.analysis.statistics import Floats
from scaleinv.errors import UserError
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Numbers, array
from scaleinv.papers.lobacheva2021 import runs_figures
from scaleinv.papers.lobacheva2021.traces import rate_text
from scaleinv.plots.drawing import thin
from scaleinv.plots.periods import PHASE_COLOURS
from scaleinv.plots.style import INK, elr_colour, log_axis, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: points drawn of a curve
_MOST = 4000


def numbers(context: Context) -> dict[str, Any]:
    """Read one period of the run of fig3 that shows it best."""
    request = runs_figures.period(context.scale)
    (folder,) = context.folders([request])
    return {"scale": context.scale, **read_period(folder, request.lr or 0.0, request.settings.weight_decay)}


def choose(found: Periods) -> Period | None:
    """Choose the period with all phases between the largest break-downs, by the smaller one of its two."""
    rises = {event.step: event.log_rise for event in found.break_downs}
    whole = [p for p in found.periods if p.a[1] > p.a[0] and p.b[1] > p.b[0] and p.c[1] > p.c[0]]
    return max(whole, key=lambda p: min(rises[p.start], p.log_rise), default=None)


def read_period(folder: Path, lr: float, wd: float) -> dict[str, Any]:
    """Read a period of a run; UserError where it has no whole one. Curves are pairs of steps and values."""
    found = find_periods(folder)
    log, period = found.log, choose(found)
    if period is None:
        raise UserError(f"{folder} has no whole period to draw ({found.answer}); train longer")
    end = period.c[1] + max(period.c[1] - period.c[0], period.length // 8)
    begin = period.start - period.length // 12
    first, last = np.searchsorted(log.step, [begin, min(end, int(log.step[-1]))])
    rows = slice(int(first), int(last) + 1)
    step, distance = log.step[rows], cosine_distance(log)
    assert log.rho_sq is not None
    assert distance is not None
    bands = []
    for span in (period.a, period.b):
        bounds = bounds_of(log, *(int(row) for row in np.searchsorted(log.step, span)))
        band = envelope(log, *span, bounds)
        if band is not None and len(band.step):
            bands.append(band)
    close = _close_up(found, period)
    return {
        "run": folder.name,
        "lr": lr,
        "wd": wd,
        "period": {"start": period.start, "end": period.end, "length": period.length, "lr_wd_length": period.time},
        "phases": {"A": period.a, "B": period.b, "C": period.c},
        "lead_of_the_loss": period.lead,
        "rho": [math.sqrt(value) for value in period.rho_sq],
        "elr_at_break_down": period.elr,
        "lowest_loss": period.min_loss,
        "envelope": [
            {
                "steps": [b.bounds.first, b.bounds.last],
                "l": b.bounds.low,
                "L": b.bounds.high,
                "inside": b.inside,
                "edges": [thin(b.step, b.low, _MOST), thin(b.step, b.high, _MOST)],
            }
            for b in bands
        ],
        "zoom": [close["step"][0], close["step"][-1]],
        "answer": found.answer,
        "steps": [step[0], step[-1]],
        "curves": {
            "loss": _spiky(step, log.loss[rows]),
            "rho": thin(step, np.sqrt(log.rho_sq[rows]), _MOST),
            "cosine_distance": _spiky(step, distance[rows]),
        },
        "close_up": close,
    }


def _close_up(found: Periods, period: Period) -> dict[str, Any]:
    """Return loss, effective gradient and norm of phase C as multiples of their values before; the loss rises first."""
    log = found.log
    assert log.rho_sq is not None
    assert log.eg is not None
    width = max(period.c[1] - period.c[0], 40)
    first, last = np.searchsorted(log.step, [period.c[0] - width, period.c[1] + 2 * width])
    rows = slice(int(max(first, 0)), int(last))
    before = slice(rows.start, int(np.searchsorted(log.step, period.c[0])))
    curves = {"loss": log.loss, "eg": log.eg, "rho": np.sqrt(log.rho_sq)}
    multiples = {name: _rolling(x[rows], 5) / float(np.median(x[before])) for name, x in curves.items()}
    return {"step": log.step[rows], **multiples}


def _spiky(step: Any, values: Floats) -> dict[str, Any]:
    """Thin a noisy series: every step, and the rolling median."""
    middle = _rolling(values, max(5, len(step) // 150) | 1)
    return {"every": thin(step, values, _MOST), "median": thin(step, middle, _MOST)}


def _rolling(x: Floats, width: int) -> Floats:
    """Return the rolling median over an odd number of steps, of the logarithms."""
    padded = np.pad(np.log(np.maximum(x, 1e-300)), width // 2, mode="edge")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    return np.asarray(np.exp(middle))


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw four panels over the steps of one period."""
    curves, period, violet = numbers["curves"], numbers["period"], elr_colour(0.0)
    fig, axes = new_figure(8.6, 6.2, ncols=2, nrows=2)
    loss, norm, close, turn = axes.flat
    for ax, name in ((loss, "loss"), (turn, "cosine_distance")):
        ax.plot(*_pair(curves[name]["every"]), color=violet, lw=0.5, alpha=0.35)
        ax.plot(*_pair(curves[name]["median"]), color=violet, lw=1.3)
    log_axis(loss, "y")
    loss.set(title="Train loss", ylabel="loss of the batch")
    norm.plot(*_pair(curves["rho"]), color=violet, lw=1.3)
    norm.set(title="Norm of the scale-invariant weights", ylabel="ρ")
    for edge in (edge for band in numbers["envelope"] for edge in band["edges"]):
        turn.plot(*_pair(edge), color=INK, lw=1.1, ls="--")
    turn.plot([], [], color=INK, lw=1.1, ls="--", label="Proposition 1, l and L of the phase")
    turn.set_yscale("log")
    turn.set_ylim(turn.get_ylim()[0] / 10, None)  # room for the legend
    log_axis(turn, "y")
    turn.set(title="Rotation of a step", ylabel="1 − cos(xₜ, xₜ₊₁)")
    turn.legend(loc="lower center")
    _draw_close_up(close, numbers)
    for ax in (loss, norm, turn):
        _shade(ax, numbers, *numbers["steps"])
        ax.set_xlabel("step")
    words = f"a period of {period['length']} steps = {period['lr_wd_length']:.2g}/(lr wd)"
    title = f"{rate_text(numbers['lr'])}, weight decay {numbers['wd']:g}: {words}"
    fig.suptitle(title, x=0.01, ha="left", fontsize=9)
    return fig


def _pair(curve: Any) -> tuple[Floats, Floats]:
    step, values = curve
    return array(step), array(values)


def _draw_close_up(ax: Axes, numbers: Numbers) -> None:
    names = {"loss": "loss", "eg": "effective gradient norm", "rho": "norm ρ"}
    for (name, label), colour in zip(names.items(), (elr_colour(0.0), "#c27803", "#c8365f")):
        ax.plot(*_pair((numbers["close_up"]["step"], numbers["close_up"][name])), color=colour, lw=1.3, label=label)
    ax.set_yscale("log")
    ax.set_ylim(ax.get_ylim()[0] / 20, None)  # room for the legend
    log_axis(ax, "y")
    ax.set(title="Phase C in close-up", ylabel="multiple of the value before", xlabel="step")
    ax.legend(loc="lower right")
    _shade(ax, numbers, *numbers["zoom"])


def _shade(ax: Axes, numbers: Numbers, low: int, high: int) -> None:
    """Shade the phases as bands with their letters at the top, over the steps from ``low`` to ``high``."""
    a, b, c = (numbers["phases"][phase] for phase in "ABC")
    for phase, span in (("C", (numbers["period"]["start"], a[0])), ("A", a), ("B", b), ("C", c), ("A", (c[1], high))):
        begin, end = max(span[0], low), min(span[1], high)
        if end <= begin:
            continue
        colour = PHASE_COLOURS[phase]
        # a break-down of a few steps is seen in a period of thousands all the same
        ax.axvspan(begin, end, facecolor=colour, edgecolor=colour, alpha=0.14, lw=1.5 if phase == "C" else 0)
        place = ax.get_xaxis_transform()
        centre = (begin + end) / 2
        ax.text(centre, 0.985, phase, transform=place, ha="center", va="top", fontsize=9, weight="bold", color=colour)
    ax.set_xlim(low, high)

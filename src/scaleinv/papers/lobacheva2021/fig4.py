"""Fig. 4 (Lobacheva et al. 2021): one period step by step: its phases A, B, C, and the theory around the rotation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleinv.analysis.periods import Period, Periods
from scaleinv.analysis.periods.bounds import bounds_of, cosine_distance, envelope
from scaleinv.errors import UserError
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.lobacheva2021 import fig3
from scaleinv.papers.lobacheva2021.traces import Floats, Trace, obtain_traces
from scaleinv.plots.style import INK, elr_colour, log_axis, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: the rate of fig3 whose period is shown
RATES = {"digits": 0.075, "cifar-tiny": 0.1, "cifar-small": 0.03, "paper": 0.03}
#: as on the pages of scaleinv: C is what everybody looks for
PHASE_COLOURS = {"A": "#2d7dc4", "B": "#7d8590", "C": "#c8365f"}
_MOST = 4000


def draw(context: Context) -> Drawn:
    """Four panels over the steps of one period."""
    (trace,) = obtain_traces(context, [fig3.settings(context.scale)], [RATES[context.scale]])
    return draw_period(trace, context)


def choose(found: Periods) -> Period | None:
    """Of the periods with all phases the one between the largest break-downs: by the smaller one of its two."""
    rises = {event.step: event.log_rise for event in found.destabilisations}
    whole = [p for p in found.periods if p.a[1] > p.a[0] and p.b[1] > p.b[0] and p.c[1] > p.c[0]]
    return max(whole, key=lambda p: min(rises[p.start], p.log_rise), default=None)


def draw_period(trace: Trace, context: Context) -> Drawn:
    """The figure of a run; UserError where it has no whole period."""

    found, log = trace.periods, trace.periods.log
    period = choose(found)
    if period is None:
        raise UserError(f"{trace.folder} has no whole period to draw ({found.answer}); train longer")
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
    blue = elr_colour(0.0)
    fig, axes = new_figure(8.6, 6.2, ncols=2, nrows=2)
    loss, norm, zoom, turn = axes.flat
    with style():
        _spiky(loss, step, log.loss[rows], blue)
        log_axis(loss, "y")
        loss.set_title("Train loss")
        loss.set_ylabel("loss of the batch")
        norm.plot(*_thin(step, np.sqrt(log.rho_sq[rows])), color=blue, lw=1.3)
        norm.set_title("Norm of the scale-invariant weights")
        norm.set_ylabel("ρ")
        _spiky(turn, step, distance[rows], blue)
        for band in bands:
            for edge in (band.low, band.high):
                turn.plot(*_thin(band.step, edge), color=INK, lw=1.1, ls="--")
        turn.plot([], [], color=INK, lw=1.1, ls="--", label="Proposition 1, l and L of the phase")
        turn.set_yscale("log")
        turn.set_ylim(turn.get_ylim()[0] / 10, None)  # room for the legend
        log_axis(turn, "y")
        turn.set_title("Rotation of a step")
        turn.set_ylabel("1 − cos(xₜ, xₜ₊₁)")
        turn.legend(loc="lower center")
        close = _zoom(zoom, trace, period)
        for ax in (loss, norm, turn):
            ax.set_xlim(step[0], step[-1])
            _shade(ax, period, int(step[-1]))
            ax.set_xlabel("step")
        fig.suptitle(
            f"{trace.rate_text}, weight decay {trace.wd:g}: a period of {period.length} steps = "
            f"{period.time:.2g}/(lr wd)",
            x=0.01,
            ha="left",
            fontsize=9,
        )
    numbers = {
        "scale": context.scale,
        "run": trace.folder.name,
        "lr": trace.lr,
        "wd": trace.wd,
        "period": {"start": period.start, "end": period.end, "length": period.length, "lr_wd_length": period.time},
        "phases": {"A": period.a, "B": period.b, "C": period.c},
        "lead_of_the_loss": period.lead,
        "rho": [math.sqrt(value) for value in period.rho_sq],
        "elr_at_break_down": period.elr,
        "lowest_loss": period.min_loss,
        "envelope": [
            {"steps": [b.bounds.first, b.bounds.last], "l": b.bounds.low, "L": b.bounds.high, "inside": b.inside}
            for b in bands
        ],
        "zoom": close,
        "answer": found.answer,
    }
    return finish(fig, context, numbers)


def _zoom(ax: Axes, trace: Trace, period: Period) -> list[int]:
    """Phase C: loss, effective gradient and norm, each as a multiple of its value before; the loss rises first."""

    log = trace.periods.log
    assert log.rho_sq is not None
    assert log.eg is not None
    width = max(period.c[1] - period.c[0], 40)
    first, last = np.searchsorted(log.step, [period.c[0] - width, period.c[1] + 2 * width])
    rows = slice(int(max(first, 0)), int(last))
    before = slice(rows.start, int(np.searchsorted(log.step, period.c[0])))
    curves = (
        ("loss", log.loss, elr_colour(0.0)),
        ("effective gradient norm", log.eg, "#c27803"),
        ("norm ρ", np.sqrt(log.rho_sq), "#c8365f"),
    )
    for name, values, colour in curves:
        unit = float(np.median(values[before]))
        ax.plot(log.step[rows], _rolling(values[rows], 5) / unit, color=colour, lw=1.3, label=name)
    ax.set_yscale("log")
    ax.set_ylim(ax.get_ylim()[0] / 20, None)  # room for the legend
    log_axis(ax, "y")
    ax.set_title("Phase C in close-up")
    ax.set_ylabel("multiple of the value before")
    ax.set_xlabel("step")
    ax.set_xlim(log.step[rows][0], log.step[rows][-1])
    ax.legend(loc="lower right")
    _shade(ax, period, int(log.step[rows][-1]))
    return [int(log.step[rows][0]), int(log.step[rows][-1])]


def _shade(ax: Axes, period: Period, last: int) -> None:
    """The phases as bands with their letters at the top."""
    low, high = ax.get_xlim()
    spans = (("C", (period.start, period.a[0])), ("A", period.a), ("B", period.b), ("C", period.c))
    for phase, span in (*spans, ("A", (period.c[1], last))):
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


def _spiky(ax: Axes, step: Any, values: Floats, colour: str) -> None:
    """A noisy series: every step faint, the rolling median on it."""
    width = max(5, len(step) // 150) | 1
    ax.plot(*_thin(step, values), color=colour, lw=0.5, alpha=0.35)
    middle = np.exp(_rolling_median(np.log(np.maximum(values, 1e-300)), width))
    ax.plot(*_thin(step, middle), color=colour, lw=1.3)


def _rolling_median(x: Floats, width: int) -> Floats:
    padded = np.pad(x, width // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1))


def _rolling(x: Floats, width: int) -> Floats:
    return np.exp(_rolling_median(np.log(np.maximum(x, 1e-300)), width | 1))


def _thin(step: Any, values: Floats) -> tuple[Any, Floats]:
    """At most some thousand points, lowest and highest of each stretch."""
    if len(step) <= _MOST:
        return step, values
    edges = np.array_split(np.arange(len(step)), _MOST // 2)
    keep = sorted({i for part in edges for i in (int(part[values[part].argmin()]), int(part[values[part].argmax()]))})
    return step[keep], values[keep]

"""The figures of a sweep with a line for each run: quantities against the epoch, and the diagram of the papers."""

from statistics import median_low
from typing import Any

import numpy as np

from scaleinv.errors import needs
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, drawable, end_labels, limits, new_drawing, thin
from scaleinv.plots.style import INK, regime_markers
from scaleinv.report.facts import SweepFacts, SweptRun
from scaleinv.report.sweep_map import mark_look
from scaleinv.report.words import numbers_line
from scaleinv.runfolder.read import Floats, Ints, Run
from scaleinv.text import count

with needs("lab"):
    from matplotlib.axes import Axes


SOURCE = {
    "train": "exact pass over the train set at fixed weights",
    "online": "accumulated over the training steps of each epoch",
}
PANEL = (5.3, 3.9)  # inches; two beside each other on a page
GRADIENT = "mean effective gradient norm"
AXES_HEIGHT = 3.15  # what the layout leaves of a panel's height for the axes


def curves(facts: SweepFacts, split: str, quantity: str, title: str, label: str, *, log: bool) -> Drawing:
    """Draw a quantity by epoch, a line for each run, coloured and labelled by ELR, its regime's mark at the end."""
    source = "eval mode with the running normalisation statistics" if split == "test" else SOURCE[split]
    runs = facts.drawn
    recomputed = [_recomputed(fact) if (split, quantity) == ("test", "error") else None for fact in runs]
    if any(recomputed):
        source += "; hollow: with statistics recomputed over the train set, the error of the weights themselves"
    broken = any(fact.broken_at is not None for fact in runs)
    shown = count(len({fact.rate for fact in runs}), facts.rate_name)
    drawing, axes = new_drawing(
        PANEL,
        f"curve-{quantity}-{'test' if split == 'test' else 'train'}",
        title,
        f"{title} against epoch; {source}." + (" A cross: not a finite number from there on." if broken else ""),
        f"{title} against epoch for {shown}, from violet (low) to green (high)",
        "epoch",
        label,
    )
    colours = style.elr_colours([fact.rate for fact in runs])
    lines = [_curve(fact, split, quantity) for fact in runs]
    with style.style():
        around = limits([*(v for _, v in lines), np.array([at[1] for at in recomputed if at])], log)
        if around is not None and not log and around[0] < 10:
            around = (min(0.0, around[0]), around[1])
        end = max((int(epochs[-1]) for epochs, _ in lines if epochs.size), default=1)
        if not drawing.frame(axes, (0, max(1, end)), around, "y" if log else ""):
            return drawing
        alpha = 0.95 if len(facts.seeds) < 2 else 0.7
        ends: dict[float, list[float]] = {}  # of each rate, where its lines end: the values of the marks
        for fact, colour, (epochs, values), ring in zip(runs, colours, lines, recomputed):
            if ring is not None:
                hollow: dict[str, Any] = {"markeredgecolor": colour, "markerfacecolor": "none", "clip_on": False}
                axes.plot(*ring, regime_markers[fact.regime], markersize=6.5, markeredgewidth=1.3, zorder=5, **hollow)
            look: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidth": 1.2}
            final = drawing.line(axes, epochs, values, log, fact.key, numbers_line(fact), **look)
            if final is None:
                continue
            crossed = fact.broken_at is not None and quantity != "error"
            mark, size, edge = ("X", 6, INK) if crossed else (regime_markers[fact.regime], 4, colour)
            look = {"color": colour, "markeredgecolor": edge, "markeredgewidth": 0.6, "clip_on": False}
            axes.plot(epochs[final], values[final], mark, markersize=size, zorder=4, **look)
            ends.setdefault(fact.rate, []).append(float(values[final]))
        labels = {fact.rate: (fact.rate_label, colour) for fact, colour in zip(runs, colours)}
        # of several seeds the middle mark, not a mean at which no line ends
        end_labels(axes, [(median_low(of), *labels[rate]) for rate, of in sorted(ends.items())], AXES_HEIGHT)
    drawing.complete = lambda: style.elr_colour_bar(drawing.fig, axes, facts.rates, facts.axis)
    return drawing


def _recomputed(fact: SweptRun) -> tuple[int, float] | None:
    """Return epoch and test error in per cent of the last evaluation with recomputed statistics; None without one."""
    epochs, values = fact.series("test", "error_recomputed_bn")
    known = np.flatnonzero(np.isfinite(values))
    return (int(epochs[known[-1]]), float(100 * values[known[-1]])) if known.size else None


def _curve(facts: SweptRun, split: str, quantity: str) -> tuple[Ints, Floats]:
    epochs, values = facts.series(split, quantity)
    return thin(epochs, 100 * values if quantity == "error" else values)


def diagram(facts: SweepFacts, split: str) -> Drawing:
    """Draw effective gradient against train loss, a dot for each epoch, a star where training began for each seed and
    start, none where no exact pass was made there.
    """
    runs = facts.drawn
    starts = {(f.seed, f.start): at for f in runs if f.run is not None and (at := f.run.at_epoch(0)) is not None}
    star = "a star at the weights training began with, " if starts else ""
    drawing, axes = new_drawing(
        PANEL,
        "diagram",
        "Effective gradient against train loss",
        f"A dot for each epoch ({SOURCE[split]}), {star}the mark of the regime at the end. "
        "Converging runs fall along lines of slope 1; a lower line is a flatter minimum.",
        "Diagram of effective gradient norm against train loss on log axes, one trajectory for each run",
        "train loss",
        "effective gradient",
    )
    colours = style.elr_colours([fact.rate for fact in runs])
    tracks = [track(fact.run, split) for fact in runs]
    with style.style():
        losses, gradients = (limits([one[k] for one in tracks], log=True) for k in (0, 1))
        if not drawing.frame(axes, losses, gradients, "xy", GRADIENT):
            return drawing
        placed: list[tuple[float, float]] = []
        for fact, colour in zip(runs, colours):
            draw_track(drawing, axes, fact, split, colour, 0.65, placed)
        for at in starts.values():
            axes.plot(*at, marker="*", linestyle="none", markersize=10, color=INK, markeredgewidth=0, zorder=4)
    drawing.complete = lambda: style.elr_colour_bar(drawing.fig, axes, facts.rates, facts.axis)
    return drawing


def colour_scale(facts: SweepFacts) -> dict[str, Any] | None:
    """Return the colour scale of the rates, for a page to show once, and the colour ``of`` each run that is drawn; None
    where no rate is known.
    """
    if not facts.rates:
        return None
    labels = {fact.rate: fact.rate_label for fact in facts.runs}
    stops = ", ".join(style.elr_colour(i / 12) for i in range(13))
    return {
        "low": labels[facts.rates[0]],
        "high": labels[facts.rates[-1]],
        "stops": stops,
        "of": style.elr_colours([fact.rate for fact in facts.drawn]),
    }


def end_look(fact: SweptRun, colour: str) -> dict[str, Any]:
    """Style the mark of the regime in the colour of the rate."""
    look = {"markersize": 5, "markerfacecolor": colour, "markeredgecolor": INK, "markeredgewidth": 0.5}
    return {**mark_look(fact.regime), **look}


def track(run: Run | None, split: str) -> tuple[Floats, Floats]:
    """Return train loss and effective gradient at the epochs where both have a place on log axes, from the start on."""
    if run is None:
        return np.zeros(0), np.zeros(0)
    (at, loss), (also_at, eg) = (run.series(split, "total", quantity) for quantity in ("loss", "eg"))
    _, i, j = np.intersect1d(at, also_at, return_indices=True)
    start, loss, eg = run.at_epoch(0), loss[i], eg[j]
    if split == "online" and start is not None:  # before training only the exact pass has measured
        loss, eg = np.concatenate([start[:1], loss]), np.concatenate([start[1:], eg])
    shown = drawable(loss, True) & drawable(eg, True)
    return loss[shown], eg[shown]


def few(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Thin the dots of one run, which would lie on each other, to about 400; the last one is kept."""
    chosen = np.arange(x.size - 1, -1, -(x.size // 400 + 1))[::-1]
    return x[chosen], y[chosen]


def draw_track(
    drawing: Drawing,
    axes: Axes,
    fact: SweptRun,
    split: str,
    colour: str,
    alpha: float,
    placed: list[tuple[float, float]],
) -> None:
    """Draw a run's trajectory in a diagram: its dots, the mark of its regime at the end, and its ELR beside the mark
    unless a label is already there; ``placed`` has those.
    """
    x, y = few(*track(fact.run, split))
    if not x.size:
        return
    (line,) = axes.plot(x, y, ".-", color=colour, linewidth=0.7, alpha=alpha, markersize=3.2, markeredgewidth=0)
    drawing.point_at(line, axes, fact.key, numbers_line(fact))
    end = (float(x[-1]), float(y[-1]))
    axes.plot(*end, linestyle="none", zorder=5, **end_look(fact, colour))
    place = axes.transAxes.inverted().transform(axes.transData.transform(end))
    at = (float(place[0]), float(place[1]))
    if at[0] > 0.9 or any(abs(at[0] - other[0]) < 0.11 and abs(at[1] - other[1]) < 0.045 for other in placed):
        return
    placed.append(at)
    look: dict[str, Any] = {"fontsize": 7.5, "color": INK, "va": "center", "zorder": 6}
    below = -7 if at[1] > 0.08 else 8  # not over the axis
    axes.annotate(fact.rate_label, end, xytext=(5, below), textcoords="offset points", **look)

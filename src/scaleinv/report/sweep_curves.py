"""The figures of a sweep with a line for each run: quantities against the epoch, and the diagram of the papers."""

from __future__ import annotations

from statistics import median_low

import numpy as np
from matplotlib.axes import Axes

from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, drawable, end_labels, gradient_against_loss, limits, nothing, thin
from scaleinv.plots.style import INK, regime_markers
from scaleinv.report.facts import SweepFacts, SweptRun
from scaleinv.report.sweep_map import mark_look
from scaleinv.report.words import numbers_line
from scaleinv.runfolder.read import Floats, Ints, Run
from scaleinv.text import count

SOURCE = {
    "train": "exact pass over the train set at fixed weights",
    "online": "accumulated over the training steps of each epoch",
}
PANEL = (5.3, 3.9)  # inches; two beside each other on a page
AXES_HEIGHT = 3.15  # what the layout leaves of a panel's height for the axes


def curves(facts: SweepFacts, split: str, quantity: str, title: str, label: str, *, log: bool) -> Drawing:
    """A quantity against the epoch, a line for each run, coloured and labelled by ELR, ending in the mark of its
    regime.
    """
    fig, axes = style.new_figure(*PANEL)
    source = "eval mode with the running normalisation statistics" if split == "test" else SOURCE[split]
    broken = any(fact.broken_at is not None for fact in facts.runs)
    drawing = Drawing(
        f"curve-{quantity}-{'test' if split == 'test' else 'train'}",
        title,
        f"{title} against epoch; {source}." + (" A cross: not a finite number from there on." if broken else ""),
        f"{title} against epoch for {count(len(facts.rates), facts.rate_name)}, from blue (low) to gold (high)",
        fig,
    )
    drawing.name(axes, "epoch", label)
    colours = style.elr_colours([fact.rate for fact in facts.runs])
    lines = [_curve(fact, split, quantity) for fact in facts.runs]
    with style.style():
        around = limits([values for _, values in lines], log)
        if around is None:
            nothing(axes)
            return drawing
        if log:
            axes.set_yscale("log")
            style.log_ticks(axes.yaxis, *around)
        else:
            around = (min(0.0, around[0]) if around[0] < 10 else around[0], around[1])
        axes.set_ylim(around)
        end = max((int(epochs[-1]) for epochs, _ in lines if epochs.size), default=1)
        axes.set_xlim(0, max(1, end))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        alpha = 0.95 if len(facts.seeds) < 2 else 0.7
        ends: dict[float, list[float]] = {}  # of each rate, where its lines end: the values of the marks
        for fact, colour, (epochs, values) in zip(facts.runs, colours, lines):
            shown = drawable(values, log)
            if not shown.any():
                continue
            visible = np.where(shown, values, np.nan)
            (line,) = axes.plot(epochs, visible, color=colour, alpha=alpha, linewidth=1.2)
            drawing.point_at(line, axes, fact.key, numbers_line(fact))
            final = int(np.flatnonzero(shown)[-1])
            crossed = fact.broken_at is not None and quantity != "error"
            axes.plot(
                epochs[final],
                values[final],
                linestyle="none",
                marker="X" if crossed else regime_markers[fact.regime],
                markersize=6 if crossed else 4,
                markerfacecolor=colour,
                markeredgecolor=INK if crossed else colour,
                markeredgewidth=0.6,
                clip_on=False,
                zorder=4,
            )
            ends.setdefault(fact.rate, []).append(float(values[final]))
        labels = {fact.rate: (fact.rate_label, colour) for fact, colour in zip(facts.runs, colours)}
        # of several seeds the middle mark, not a mean at which no line ends
        end_labels(axes, [(median_low(of), *labels[rate]) for rate, of in sorted(ends.items())], AXES_HEIGHT)
    drawing.complete = lambda: style.elr_colour_bar(fig, axes, facts.rates, facts.axis)
    return drawing


def _curve(facts: SweptRun, split: str, quantity: str) -> tuple[Ints, Floats]:
    epochs, values = facts.series(split, quantity)
    return thin(epochs, 100 * values if quantity == "error" else values)


def diagram(facts: SweepFacts, split: str) -> Drawing:
    """Effective gradient against train loss, a dot for each epoch, a star where training began: one for each seed and
    start, none where no exact pass was made there.
    """
    fig, axes = style.new_figure(*PANEL)
    starts = {(f.seed, f.start): at for f in facts.runs if f.run is not None and (at := f.run.at_epoch(0)) is not None}
    star = "a star at the weights training began with, " if starts else ""
    drawing = Drawing(
        "diagram",
        "Effective gradient against train loss",
        f"A dot for each epoch ({SOURCE[split]}), {star}the mark of the regime at the end. "
        "Converging runs fall along lines of slope 1; a lower line is a flatter minimum.",
        "Diagram of effective gradient norm against train loss on log axes, one trajectory for each run",
        fig,
    )
    drawing.name(axes, "train loss", "effective gradient")
    colours = style.elr_colours([fact.rate for fact in facts.runs])
    tracks = [(fact, *track(fact.run, split)) for fact in facts.runs]
    with style.style():
        x_span = limits([loss for _, loss, _ in tracks], log=True)
        y_span = limits([eg for _, _, eg in tracks], log=True)
        if not gradient_against_loss(axes, x_span, y_span):
            return drawing
        placed: list[tuple[float, float]] = []
        for (fact, loss, eg), colour in zip(tracks, colours):
            if not loss.size:
                continue
            x, y = loss, eg
            if x.size > 400:  # dots of one run beyond this lie on each other
                x, y = x[:: x.size // 400 + 1], y[:: y.size // 400 + 1]
            (line,) = axes.plot(
                x, y, color=colour, linewidth=0.7, alpha=0.65, marker=".", markersize=3.2, markeredgewidth=0
            )
            drawing.point_at(line, axes, fact.key, numbers_line(fact))
            axes.plot(loss[-1], eg[-1], linestyle="none", zorder=5, **end_look(fact, colour))
            label_end(axes, fact, colour, float(loss[-1]), float(eg[-1]), placed)
        for at in starts.values():
            axes.plot(*at, marker="*", linestyle="none", markersize=10, color=INK, markeredgewidth=0, zorder=4)
    drawing.complete = lambda: style.elr_colour_bar(fig, axes, facts.rates, facts.axis)
    return drawing


def colour_scale(facts: SweepFacts) -> dict[str, str] | None:
    """The colour scale of the rates, for a page to show once for all curves; None where no rate is known."""
    if not facts.rates:
        return None
    labels = {fact.rate: fact.rate_label for fact in facts.runs}
    stops = ", ".join(style.elr_colour(i / 12) for i in range(13))
    return {"low": labels[facts.rates[0]], "high": labels[facts.rates[-1]], "stops": stops}


def end_look(fact: SweptRun, colour: str) -> dict[str, object]:
    """The mark of the regime in the colour of the rate."""
    look = {"markersize": 5, "markerfacecolor": colour, "markeredgecolor": INK, "markeredgewidth": 0.5}
    return {**mark_look(fact.regime), **look}


def track(run: Run | None, split: str) -> tuple[Floats, Floats]:
    """Train loss and effective gradient of each epoch at which both have a place on log axes, from the start on."""
    if run is None:
        return np.zeros(0), np.zeros(0)
    (at, loss), (also_at, eg) = (run.series(split, "total", quantity) for quantity in ("loss", "eg"))
    _, i, j = np.intersect1d(at, also_at, return_indices=True)
    start, loss, eg = run.at_epoch(0), loss[i], eg[j]
    if split == "online" and start is not None:  # before training only the exact pass has measured
        loss, eg = np.concatenate([start[:1], loss]), np.concatenate([start[1:], eg])
    shown = drawable(loss, True) & drawable(eg, True)
    return loss[shown], eg[shown]


def label_end(axes: Axes, fact: SweptRun, colour: str, x: float, y: float, placed: list[tuple[float, float]]) -> None:
    """The ELR beside a trajectory's end, unless another label is already there."""
    place = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
    at = (float(place[0]), float(place[1]))
    if at[0] > 0.9 or any(abs(at[0] - other[0]) < 0.11 and abs(at[1] - other[1]) < 0.045 for other in placed):
        return
    placed.append(at)
    axes.annotate(
        fact.rate_label,
        (x, y),
        xytext=(5, -7),
        textcoords="offset points",
        fontsize=7.5,
        color=colour,
        va="center",
        zorder=6,
    )

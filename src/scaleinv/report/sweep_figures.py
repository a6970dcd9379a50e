"""The figures of a sweep: the regime map, the curves of all ELRs, the diagram of the papers, step sizes against ELR."""

from __future__ import annotations

import math
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, drawable, end_labels, gradient_against_loss, limits, nothing, thin
from scaleinv.plots.style import INK, regime_colours, regime_markers, regime_names
from scaleinv.report.facts import RunFacts, SweepFacts
from scaleinv.report.words import boundary, boundary_words, horizon, numbers_line, reach
from scaleinv.runfolder.read import Floats, Ints, Run
from scaleinv.text import count, number, show
from scaleinv.theory.optimizers import law_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOURCE = {
    "train": "exact pass over the train set at fixed weights",
    "online": "accumulated over the training steps of each epoch",
}
_PANEL = (5.3, 3.9)  # inches; two beside each other on a page
_ON_BAND = {1: "#ffffff", 2: "#101215", 3: "#ffffff"}
_AXES_HEIGHT = 3.15  # what the layout leaves of a panel's height for the axes


def sweep_drawings(facts: SweepFacts, bar: bool = False, suffix: str = "") -> list[Drawing]:
    """All figures in the order of the page; ``bar`` adds a colour bar to the curves, for figures that stand alone;
    ``suffix`` keeps the stems of several maps apart.
    """
    split = facts.split()
    drawings = [
        regime_map(facts),
        curves(facts, split, "loss", "Train loss", "train loss", log=True, bar=bar),
        curves(facts, "test", "error", "Test error", "test error, %", log=False, bar=bar),
        curves(facts, split, "eg", "Effective gradient", "mean effective gradient norm", log=True, bar=bar),
        diagram(facts, split, bar),
        step_size(facts),
        cosine(facts),
    ]
    for drawing in drawings:
        drawing.stem += suffix
    return drawings


def _rate_axis(axes: Axes, facts: SweepFacts) -> tuple[float, float] | None:
    """A log axis of the rate over all runs of the sweep."""
    span = limits([np.array(facts.rates)], log=True, margin=0.03)
    if span is None:
        nothing(axes, "no run with a known rate")
        return None
    axes.set_xscale("log")
    axes.set_xlim(span)
    style.log_ticks(axes.xaxis, *span)
    axes.set_xlabel(facts.axis)
    return span


def _shade_boundaries(axes: Axes, facts: SweepFacts) -> None:
    for name in ("1/2", "2/3"):
        found = boundary(facts, name)
        if found.known:
            low, high = sorted((found.low, found.high))
            axes.axvspan(low, high, facecolor=INK, alpha=0.1, linewidth=0, zorder=0.5)


def regime_map(facts: SweepFacts) -> Drawing:
    """Train loss of every run against its rate, coloured and marked by regime, under a band of the regimes."""
    fig, (band, axes) = style.new_figure(10, 3.9, nrows=2, sharex=True, height_ratios=(0.075, 1))
    said = reach(facts)
    drawing = Drawing(
        "regime-map",
        "Regime map",
        f"Each mark is a run, at its mean train loss over {facts.window_words()}. "
        "Grey: the intervals that hold the boundaries "
        f"(1/2 {boundary_words(facts, '1/2')}; 2/3 {boundary_words(facts, '2/3')}). "
        "Dotted line and band: train loss of random directions of the network with the same head, median and range.",
        f"Regime map over {count(len(facts.runs), 'run')}: "
        + "; ".join(f"{regime_names[r]} {said[r]}" for r in (1, 2, 3)),
        fig,
        wide=True,
    )
    drawing.name(axes, facts.rate_name, "train loss")
    with style.style():
        span = _rate_axis(axes, facts)
        band.set_axis_off()
        band.set_in_layout(facts.boundaries is not None)
        references = facts.references()
        losses = np.array([fact.train_loss for fact in facts.runs])
        around = limits([losses, references], log=True, margin=0.06)
        if span is None or around is None:
            if span is not None:
                nothing(axes, "no train loss was measured")
            return drawing
        _regime_band(band, facts, span)
        axes.set_yscale("log")
        axes.set_ylim(around)
        style.log_ticks(axes.yaxis, *around)
        axes.set_ylabel("train loss")
        _shade_boundaries(axes, facts)
        if references.size > 1:
            axes.axhspan(float(references.min()), float(references.max()), facecolor=INK, alpha=0.08, linewidth=0)
        if references.size:
            axes.axhline(float(np.median(references)), color=INK, alpha=0.6, linewidth=0.9, linestyle=":", zorder=1)
        if references.size:
            axes.text(
                0.005,
                float(references.max()),
                "random directions",
                fontsize=8,
                va="bottom",
                transform=axes.get_yaxis_transform(),
            )
        thresholds = {number(fact.evidence.get("threshold")) for fact in facts.runs if "threshold" in fact.evidence}
        if len(thresholds) == 1 and around[0] < (threshold := thresholds.pop()) < around[1]:
            axes.axhline(threshold, color=INK, alpha=0.6, linewidth=0.9, linestyle="--", zorder=1)
            place = axes.get_yaxis_transform()
            below = f"converged below {show(threshold)}"
            axes.text(0.995, threshold, below, fontsize=8, ha="right", va="bottom", transform=place)
        for fact in facts.runs:
            _mark_run(drawing, axes, fact, fact.train_loss)
        handles = [_regime_handle(regime) for regime in (1, 2, 3, None) if facts.of_regime(regime)]
        axes.legend(handles=handles, loc="lower right", handletextpad=0.2)
    return drawing


def _regime_band(band: Axes, facts: SweepFacts, span: tuple[float, float]) -> None:
    """Coloured stretches named by regime; hatched where a boundary lies somewhere inside."""
    first, second = boundary(facts, "1/2"), boundary(facts, "2/3")
    stretches: list[tuple[int, float, float]] = []
    if first.low > 0:
        stretches.append((1, span[0], first.low))
    if first.high > 0 and second.low > 0 and first.high <= second.low:
        stretches.append((2, first.high, second.low))
    elif first.high > 0 and not second.low > 0 and not second.high > 0:
        stretches.append((2, first.high, span[1]))
    elif second.low > 0 and not first.low > 0 and not first.high > 0:
        stretches.append((2, span[0], second.low))
    if second.high > 0:
        stretches.append((3, second.high, span[1]))
    band.set_ylim(0, 1)
    whole = math.log10(span[1] / span[0])
    for regime, low, high in stretches:
        if high < span[0] or low > span[1]:
            continue  # the map speaks of rates that no run here has
        # a regime that one run alone shows is still drawn, as wide as a mark
        low, high = max(low / 10 ** (0.006 * whole), span[0]), min(high * 10 ** (0.006 * whole), span[1])
        band.axvspan(low, high, facecolor=regime_colours[regime], linewidth=0)
        share = math.log10(high / low) / whole
        name = f"{regime}  {regime_names[regime]}"
        name = name if share > 0.0085 * len(name) else str(regime)
        middle = math.sqrt(low * high)
        band.text(middle, 0.47, name, ha="center", va="center", color=_ON_BAND[regime], fontsize=9.5, fontweight="bold")


def _regime_handle(regime: int | None) -> Any:
    from matplotlib.lines import Line2D

    name = f"{regime} {regime_names[regime]}" if regime else regime_names[None]
    look = mark_look(regime)
    return Line2D([], [], linestyle="none", label=name, **look)


def mark_look(regime: int | None) -> dict[str, Any]:
    """How a run's mark looks by its regime."""
    colour = regime_colours[regime]
    hollow = regime is None
    return {
        "marker": regime_markers[regime],
        "markersize": 6.5,
        "markerfacecolor": "none" if hollow else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 1.4 if hollow else 0.6,
    }


def _mark_run(drawing: Drawing, axes: Axes, fact: RunFacts, value: float) -> None:
    """A run's mark at its rate; at the upper edge with a cross where its value has no place on the axis."""
    if not math.isfinite(fact.rate) or fact.rate <= 0:
        return
    log = axes.get_yscale() == "log"
    if drawable(np.array([value]), log)[0]:
        (mark,) = axes.plot(fact.rate, value, linestyle="none", zorder=3, **mark_look(fact.regime))
        drawing.point_at(mark, axes, fact.key, numbers_line(fact))
    elif fact.broken_at is not None:
        (mark,) = axes.plot(
            fact.rate,
            0.975,
            linestyle="none",
            marker="X",
            markersize=7.5,
            markerfacecolor=regime_colours[fact.regime],
            markeredgecolor=INK,
            markeredgewidth=0.6,
            transform=axes.get_xaxis_transform(),
            zorder=3,
            clip_on=False,
        )
        drawing.point_at(mark, axes, fact.key, numbers_line(fact))
        axes.text(
            fact.rate,
            0.94,
            "not finite",
            fontsize=7.5,
            ha="right",
            va="top",
            rotation=90,
            transform=axes.get_xaxis_transform(),
        )


def _curve(facts: RunFacts, split: str, quantity: str) -> tuple[Ints, Floats]:
    epochs, values = facts.series(split, quantity)
    return thin(epochs, 100 * values if quantity == "error" else values)


def curves(facts: SweepFacts, split: str, quantity: str, title: str, label: str, *, log: bool, bar: bool) -> Drawing:
    """A quantity against the epoch, a line for each run, coloured and labelled by ELR, ending in the mark of its
    regime.
    """
    fig, axes = style.new_figure(*_PANEL)
    source = "eval mode with the running normalisation statistics" if split == "test" else SOURCE[split]
    drawing = Drawing(
        f"curve-{quantity}-{'test' if split == 'test' else 'train'}",
        title,
        f"{title} against epoch; {source}."
        + (" A cross: not a finite number from there on." if _broken(facts) else ""),
        f"{title} against epoch for {_rates(facts)}, coloured from blue (low) to gold (high)",
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
        end_labels(axes, [(median_low(of), *labels[rate]) for rate, of in sorted(ends.items())], _AXES_HEIGHT)
    if bar:
        style.elr_colour_bar(fig, axes, facts.rates, facts.axis)
    return drawing


def _broken(facts: SweepFacts) -> bool:
    return any(fact.broken_at is not None for fact in facts.runs)


def diagram(facts: SweepFacts, split: str, bar: bool) -> Drawing:
    """Effective gradient against train loss, a dot for each epoch, a star where training began: one for each seed and
    start, none where no exact pass was made there.
    """
    fig, axes = style.new_figure(*_PANEL)
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
            look = {
                **mark_look(fact.regime),
                "markersize": 5,
                "markerfacecolor": colour,
                "markeredgecolor": INK,
                "markeredgewidth": 0.5,
            }
            axes.plot(loss[-1], eg[-1], linestyle="none", zorder=5, **look)
            label_end(axes, fact, colour, float(loss[-1]), float(eg[-1]), placed)
        for at in starts.values():
            axes.plot(*at, marker="*", linestyle="none", markersize=10, color=INK, markeredgewidth=0, zorder=4)
    if bar:
        style.elr_colour_bar(fig, axes, facts.rates, facts.axis)
    return drawing


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


def label_end(axes: Axes, fact: RunFacts, colour: str, x: float, y: float, placed: list[tuple[float, float]]) -> None:
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


def step_size(facts: SweepFacts) -> Drawing:
    """Effective step size of every run against its rate, log-log."""
    fig, axes = style.new_figure(5.3, 3.3)
    angle = "the tangent of the angle of one step"
    formula = f"ELR × effective gradient, {angle}" if facts.rate_name == "ELR" else "ELR × effective gradient"
    formula = formula if law_of(facts.config) == "sgd" else angle
    drawing = Drawing(
        "step-size",
        "Effective step size",
        f"ESS = {formula}; mean over {facts.window_words()}. Shaded: the boundary intervals.",
        f"Effective step size against {facts.rate_name} on log axes, marks by regime",
        fig,
    )
    drawing.name(axes, facts.rate_name, "ESS")
    with style.style():
        around = limits([np.array([fact.ess for fact in facts.runs])], log=True, margin=0.06)
        if _rate_axis(axes, facts) is None or around is None:
            nothing(axes)
            return drawing
        axes.set_yscale("log")
        axes.set_ylim(around)
        style.log_ticks(axes.yaxis, *around)
        axes.set_ylabel("effective step size")
        _shade_boundaries(axes, facts)
        for fact in facts.runs:
            _mark_run(drawing, axes, fact, fact.ess)
    return drawing


def cosine(facts: SweepFacts) -> Drawing:
    """Cosine between consecutive weights of every run against its rate."""
    fig, axes = style.new_figure(5.3, 3.3)
    drawing = Drawing(
        "cosine",
        "Cosine between consecutive weights",
        f"Mean over {facts.window_words()}. 1: small steps; between the dashed lines (|cos| < 0.3): uncorrelated.",
        f"Cosine between consecutive weights against {facts.rate_name}, marks by regime",
        fig,
    )
    drawing.name(axes, facts.rate_name, "cosine")
    with style.style():
        if _rate_axis(axes, facts) is None or not np.isfinite([fact.cosine for fact in facts.runs]).any():
            nothing(axes)
            return drawing
        lowest = min(fact.cosine for fact in facts.runs if math.isfinite(fact.cosine))
        axes.set_ylim(min(-0.36, lowest - 0.05), 1.05)
        axes.set_yticks([-0.3, 0, 0.3, 0.6, 1])
        axes.set_ylabel("cosine")
        _shade_boundaries(axes, facts)
        for level in (-0.3, 0.3):
            axes.axhline(level, color=INK, alpha=0.5, linewidth=0.8, linestyle="--", zorder=1)
        for fact in facts.runs:
            _mark_run(drawing, axes, fact, fact.cosine)
    return drawing


def summary_line(facts: SweepFacts) -> str:
    """What was run, in one line: ``20 ELRs from 1e-4 to 10, 1 seed, 60 epochs``."""
    labels = [fact.rate_label for fact in facts.runs if math.isfinite(fact.rate)]
    span = f" from {labels[0]} to {labels[-1]}" if len(facts.rates) > 1 else ""
    seeds = f", {count(len(facts.seeds), 'seed')}" if facts.seeds else ""
    return f"{_rates(facts)}{span}{seeds}, {horizon(facts)}"


def _rates(facts: SweepFacts) -> str:
    """``20 ELRs``."""
    return count(len(facts.rates), facts.rate_name)


def reference_words(facts: SweepFacts) -> str:
    """The loss of random directions as a range; empty where it was not measured."""
    values = facts.references()
    if not values.size:
        return ""
    low, high = show(float(values.min())), show(float(values.max()))
    return low if low == high else f"{low} to {high}"

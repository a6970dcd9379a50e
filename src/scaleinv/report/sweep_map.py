"""The regime map, and what all figures against the rate share: the axis, the boundary intervals, the marks of runs."""

import math
from typing import Any

import numpy as np

from scaleinv.errors import needs
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, drawable, fit, limits, nothing
from scaleinv.plots.style import INK, regime_colours, regime_markers, regime_names
from scaleinv.report.facts import SweepFacts, SweptRun
from scaleinv.report.page import regime_text
from scaleinv.report.words import boundary, boundary_words, numbers_line, reach
from scaleinv.text import count, number, show

with needs("lab"):
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


#: where on the y axis a run whose value is not finite is marked, from 0 to 1
_EDGE = 0.975
_ON_BAND = {1: "#ffffff", 2: "#101215", 3: "#ffffff"}


def regime_map(facts: SweepFacts) -> Drawing:
    """Draw train loss of every run against its rate, marked by regime, under a band of the regimes."""
    drawing = _map(facts, (10, 3.9))
    drawing.narrow = _map(facts, (4.6, 3.9))
    drawing.narrow.stem += "-narrow"
    return drawing


def _map(facts: SweepFacts, size: tuple[float, float]) -> Drawing:
    fig, (band, axes) = style.new_figure(*size, nrows=2, sharex=True, height_ratios=(0.075, 1))
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
        span = rate_axis(axes, facts)
        band.set_axis_off()
        band.set_in_layout(facts.boundaries is not None)
        references = facts.references()
        losses = np.array([fact.train_loss for fact in facts.runs])
        around = limits([losses, references], log=True, margin=0.06)
        if span is None or around is None:
            if span is not None:
                nothing(axes, "no train loss was measured")
            return drawing
        _regime_band(band, facts, span, size[0])
        fit(axes, "y", around, True, "train loss")
        shade_boundaries(axes, facts)
        if references.size > 1:
            axes.axhspan(float(references.min()), float(references.max()), facecolor=INK, alpha=0.08, linewidth=0)
        if references.size:
            axes.axhline(float(np.median(references)), color=INK, alpha=0.6, linewidth=0.9, linestyle=":", zorder=1)
            place = axes.get_yaxis_transform()
            axes.text(0.005, float(references.max()), "random directions", fontsize=8, va="bottom", transform=place)
        bottom = 0.0  # of the legend: above the threshold and its name where these are low
        thresholds = {number(fact.evidence.get("threshold")) for fact in facts.runs if "threshold" in fact.evidence}
        if len(thresholds) == 1 and around[0] < (threshold := thresholds.pop()) < around[1]:
            axes.axhline(threshold, color=INK, alpha=0.6, linewidth=0.9, linestyle="--", zorder=1)
            place = axes.get_yaxis_transform()
            below = f"converged below {show(threshold)}"
            axes.text(0.995, threshold, below, fontsize=8, ha="right", va="bottom", transform=place)
            height = math.log(threshold / around[0]) / math.log(around[1] / around[0])
            bottom = height + 0.05 if height < 0.45 else 0.0
        mark_runs(drawing, axes, facts, "train_loss")
        handles = [
            Line2D([], [], linestyle="none", label=regime_text(regime), **mark_look(regime))
            for regime in (1, 2, 3, None)
            if facts.of_regime(regime)
        ]
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, bottom), handletextpad=0.2)
    return drawing


def _regime_band(band: Axes, facts: SweepFacts, span: tuple[float, float], width: float) -> None:
    """Draw coloured stretches named by regime, with gaps where a boundary lies somewhere inside."""
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
        name = name if share * width > 0.085 * len(name) else str(regime)
        middle = math.sqrt(low * high)
        band.text(middle, 0.47, name, ha="center", va="center", color=_ON_BAND[regime], fontsize=9.5, fontweight="bold")


def mark_look(regime: int | None) -> dict[str, Any]:
    """Style a run's mark by its regime."""
    colour = regime_colours[regime]
    hollow = regime is None
    return {
        "marker": regime_markers[regime],
        "markersize": 6.5,
        "markerfacecolor": "none" if hollow else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 1.4 if hollow else 0.6,
    }


def rate_axis(axes: Axes, facts: SweepFacts) -> tuple[float, float] | None:
    """Make a log axis of the rate over all runs of the sweep."""
    span = limits([np.array(facts.rates)], log=True, margin=0.03)
    if span is None:
        nothing(axes, "no run with a known rate")
        return None
    fit(axes, "x", span, True, facts.axis)
    return span


def shade_boundaries(axes: Axes, facts: SweepFacts) -> None:
    for name in ("1/2", "2/3"):
        found = boundary(facts, name)
        if found.known:
            low, high = sorted((found.low, found.high))
            axes.axvspan(low, high, facecolor=INK, alpha=0.1, linewidth=0, zorder=0.5)


def mark_runs(drawing: Drawing, axes: Axes, facts: SweepFacts, quantity: str) -> None:
    """Mark every run at its rate; those that have no line in other figures in one piece for each regime, beneath."""
    log = axes.get_yscale() == "log"
    for regime in (1, 2, 3, None):
        rest = [fact for fact in facts.others if fact.regime == regime and math.isfinite(fact.rate) and fact.rate > 0]
        values = np.array([getattr(fact, quantity) for fact in rest])
        shown = drawable(values, log)
        if shown.any():
            rates = np.array([fact.rate for fact in rest])
            (marks,) = axes.plot(rates[shown], values[shown], linestyle="none", zorder=2.5, **mark_look(regime))
            drawing.point_at(marks, axes, f"others{regime or 0}", regime_text(regime))
        broken = [fact.rate for fact, known in zip(rest, shown) if not known and fact.broken_at is not None]
        if broken:
            (marks,) = axes.plot(broken, [_EDGE] * len(broken), "X", linestyle="none", **_cross_look(axes, regime))
            drawing.point_at(marks, axes, f"others{regime or 0}", f"{regime_text(regime)}: not finite")
    for fact in facts.drawn:
        _mark_run(drawing, axes, fact, getattr(fact, quantity))


def _cross_look(axes: Axes, regime: int | None) -> dict[str, Any]:
    look: dict[str, Any] = {"color": regime_colours[regime], "markeredgecolor": INK, "markeredgewidth": 0.6}
    return look | {"markersize": 7.5, "transform": axes.get_xaxis_transform(), "zorder": 3, "clip_on": False}


def _mark_run(drawing: Drawing, axes: Axes, fact: SweptRun, value: float) -> None:
    """Mark a run at its rate; with a cross at the upper edge where its value has no place on the axis."""
    if not math.isfinite(fact.rate) or fact.rate <= 0:
        return
    log = axes.get_yscale() == "log"
    if drawable(np.array([value]), log)[0]:
        (mark,) = axes.plot(fact.rate, value, linestyle="none", zorder=3, **mark_look(fact.regime))
        drawing.point_at(mark, axes, fact.key, numbers_line(fact))
    elif fact.broken_at is not None:
        look = _cross_look(axes, fact.regime)
        (mark,) = axes.plot(fact.rate, _EDGE, "X", **look)
        drawing.point_at(mark, axes, fact.key, numbers_line(fact))
        place = look["transform"]
        axes.text(fact.rate, 0.94, "not finite", fontsize=7.5, ha="right", va="top", rotation=90, transform=place)

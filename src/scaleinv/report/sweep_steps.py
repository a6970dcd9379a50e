"""The figures of a sweep with a mark for each run at its rate: step size, cosine, those of the groups and of epochs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.similarity import cosines
from scaleinv.errors import UserError, needs
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, Span, fit, limits, new_drawing, nothing
from scaleinv.plots.style import INK, regime_colours, regime_markers
from scaleinv.report.facts import SweepFacts, SweptRun
from scaleinv.report.sweep_map import mark_runs, rate_axis, shade_boundaries
from scaleinv.theory.optimizers import law_of

with needs("lab"):
    from matplotlib.axes import Axes


_SIZE, _TALLER = (5.3, 3.3), (5.3, 3.5)


def step_size(facts: SweepFacts) -> Drawing:
    """Draw the effective step size of every run against its rate, log-log."""
    angle = "the tangent of the angle of one step"
    formula = f"ELR × effective gradient, {angle}" if facts.rate_name == "ELR" else "ELR × effective gradient"
    formula = formula if law_of(facts.config) == "sgd" else angle
    caption = f"ESS = {formula}; mean over {facts.window_words()}. Shaded: the boundary intervals."
    alt = f"Effective step size against {facts.rate_name} on log axes, marks by regime"
    drawing, axes = new_drawing(_SIZE, "step-size", "Effective step size", caption, alt, facts.rate_name, "ESS")
    around = limits([np.array([fact.ess for fact in facts.runs])], log=True, margin=0.06)
    _mark_runs(drawing, axes, facts, "ess", around, log=True, label="effective step size")
    return drawing


def cosine(facts: SweepFacts) -> Drawing:
    """Draw the cosine between consecutive weights of every run against its rate."""
    title = "Cosine between consecutive weights"
    caption = f"Mean over {facts.window_words()}. 1: small steps; between the dashed lines (|cos| < 0.3): uncorrelated."
    alt = f"{title} against {facts.rate_name}, marks by regime"
    drawing, axes = new_drawing(_SIZE, "cosine", title, caption, alt, facts.rate_name, "cosine")
    known = [fact.cosine for fact in facts.runs if math.isfinite(fact.cosine)]
    around = (min(-0.36, min(known) - 0.05), 1.05) if known else None
    if _mark_runs(drawing, axes, facts, "cosine", around, log=False, label="cosine"):
        axes.set_yticks([-0.3, 0, 0.3, 0.6, 1])
        for level in (-0.3, 0.3):
            axes.axhline(level, color=INK, alpha=0.5, linewidth=0.8, linestyle="--", zorder=1)
    return drawing


@style.style()
def _mark_runs(
    drawing: Drawing, axes: Axes, facts: SweepFacts, quantity: str, around: Span, *, log: bool, label: str
) -> bool:
    """Mark every run at its rate, over the boundary intervals; ``False`` where there is nothing to draw."""
    if rate_axis(axes, facts) is None or around is None:
        nothing(axes)
        return False
    fit(axes, "y", around, log, label)
    shade_boundaries(axes, facts)
    mark_runs(drawing, axes, facts, quantity)
    return True


def more_drawings(facts: SweepFacts) -> list[Drawing]:
    """Draw step sizes of the groups, and the weights from epoch to epoch, where they were measured."""
    return [drawing for drawing in (_group_steps(facts), _epoch_cosines(facts)) if drawing is not None]


def _group_steps(facts: SweepFacts) -> Drawing | None:
    """Draw the effective step size of every group against the rate; None where fewer than two were measured."""
    points: list[tuple[SweptRun, list[float]]] = []
    for fact in facts.drawn:
        if fact.run is None or not math.isfinite(fact.rate):
            continue
        first = fact.window[0] if fact.window else 0
        means = []
        for group in fact.run.groups():
            epochs, values = fact.series("online", "ess", group)
            kept = values[(epochs >= first) & np.isfinite(values) & (values > 0)]
            means.append(float(np.exp(np.log(kept).mean())) if kept.size else math.nan)
        if sum(math.isfinite(mean) for mean in means) > 1:
            points.append((fact, means))
    if not points:
        return None
    drawing, axes = new_drawing(
        _TALLER,
        "group-ess",
        "Effective step size of the groups",
        f"A dash for each scale-invariant group, at its geometric mean over {facts.window_words()}; the line joins the "
        "groups of a run. In the chaotic equilibrium they come to one value, in convergence they need not "
        "(Kodryan et al. 2022).",
        "Effective step sizes of all groups against the rate, log-log",
        facts.rate_name,
        "ESS",
    )
    with style.style():
        every = [value for _, means in points for value in means]
        _fit_around(axes, facts, [fact for fact, _ in points], every, "ESS of a group")
        for fact, means in points:
            colour = regime_colours[fact.regime]
            known = [mean for mean in means if math.isfinite(mean)]
            (line,) = axes.plot([fact.rate] * len(known), known, "_-", color=colour, markersize=9, linewidth=0.8)
            drawing.point_at(
                line, axes, fact.key, f"{fact.title}: {len(known)} groups, spread {max(known) / min(known):.3g}"
            )
    return drawing


def _epoch_cosines(facts: SweepFacts) -> Drawing | None:
    """Draw 1 - cosine of the last weights to those an epoch before and to the start; None where not measured."""
    points = []
    for fact in facts.drawn:
        if fact.run is None or not math.isfinite(fact.rate):
            continue
        try:
            found = cosines(fact.run)
        except UserError:
            continue
        previous, start = (_last(values) for values in (found.previous, found.start))
        if math.isfinite(previous) or math.isfinite(start):
            points.append((fact, 1 - previous, 1 - start))
    if not points:
        return None
    drawing, axes = new_drawing(
        _TALLER,
        "epoch-cosines",
        "Weights from epoch to epoch",
        "One minus the cosine between the weights of the last two epochs (filled) and between the last weights and "
        "those at the start (open). A gap tells an analogue of convergence from equilibrium even where the loss does "
        "not converge (Nakhodnov et al. 2022).",
        "Distance between the weights of successive epochs, and to the start, against the rate",
        facts.rate_name,
        "1 - cosine",
    )
    with style.style():
        values = [value for _, *pair in points for value in pair]
        _fit_around(axes, facts, [fact for fact, *_ in points], values, "1 − cosine")
        for fact, previous, start in points:
            marker, colour = regime_markers[fact.regime], regime_colours[fact.regime]
            for value, face in ((previous, colour), (start, "none")):
                if value > 0:
                    (dot,) = axes.plot([fact.rate], [value], marker, markerfacecolor=face, markeredgecolor=colour)
                    name = "to the epoch before" if face != "none" else "to the start"
                    drawing.point_at(dot, axes, fact.key, f"{fact.title}: {value:.3g} {name}")
    return drawing


def _last(values: Any) -> float:
    known = np.asarray(values)[np.isfinite(values)]
    return float(known[-1]) if known.size else math.nan


def _fit_around(axes: Axes, facts: SweepFacts, runs: Sequence[SweptRun], values: Sequence[float], label: str) -> None:
    """Fit log axes around the rates of the runs and the values."""
    for which, shown, name in (("x", [fact.rate for fact in runs], facts.axis), ("y", values, label)):
        fit(axes, which, limits([np.array(shown)], log=True, margin=0.06) or (0.1, 10.0), True, name)

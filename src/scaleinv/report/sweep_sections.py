"""Sections of a sweep's page for what not every sweep has: groups, the weights from epoch to epoch, and the
landscape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.similarity import cosines
from scaleinv.errors import UserError
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, limits
from scaleinv.plots.style import regime_colours, regime_markers
from scaleinv.report.facts import RunFacts, SweepFacts
from scaleinv.report.landscape_section import landscape_drawings, landscape_section

_SIZE = (5.3, 3.5)


def more_sections(facts: SweepFacts) -> list[str]:
    """The HTML of all sections there is something for."""
    body: list[str] = []
    if drawings := _group_drawings(facts):
        body += ["<h2>Groups and epochs</h2>", '<div class="grid">', *(d.to_html() for d in drawings), "</div>"]
    return body + landscape_section(facts.folder, facts.rate_name, facts.start_names)


def more_drawings(facts: SweepFacts) -> list[Drawing]:
    """The figures of :func:`more_sections`."""
    return _group_drawings(facts) + landscape_drawings(facts.folder, facts.rate_name, facts.start_names)


def _group_drawings(facts: SweepFacts) -> list[Drawing]:
    runs = [fact for fact in facts.runs if fact.run is not None and math.isfinite(fact.rate)]
    return [drawing for drawing in (_groups(facts, runs), _epochs(facts, runs)) if drawing is not None]


# -- from the run folders --------------------------------------------------------------------------------------------


def _groups(facts: SweepFacts, runs: Sequence[RunFacts]) -> Drawing | None:
    """Effective step size of every group, over the window, against the rate."""
    points: list[tuple[RunFacts, list[float]]] = []
    for fact in runs:
        assert fact.run is not None
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
    fig, axes = style.new_figure(*_SIZE)
    drawing = Drawing(
        "group-ess",
        "Effective step size of the groups",
        f"A dash for each scale-invariant group, at its geometric mean over {facts.window_words()}; the line joins the "
        "groups of a run. In the chaotic equilibrium they come to one value, in convergence they need not "
        "(Kodryan et al. 2022).",
        "Effective step sizes of all groups against the rate, log-log",
        fig,
    )
    drawing.name(axes, facts.rate_name, "ESS")
    with style.style():
        axes.set_xscale("log")
        axes.set_yscale("log")
        for fact, means in points:
            colour = regime_colours[fact.regime]
            known = [mean for mean in means if math.isfinite(mean)]
            (line,) = axes.plot([fact.rate] * len(known), known, "_-", color=colour, markersize=9, linewidth=0.8)
            drawing.point_at(
                line, axes, fact.key, f"{fact.title}: {len(known)} groups, spread {max(known) / min(known):.3g}"
            )
        _span(axes, [fact.rate for fact, _ in points], [value for _, means in points for value in means])
        axes.set_xlabel(facts.axis)
        axes.set_ylabel("ESS of a group")
    return drawing


def _epochs(facts: SweepFacts, runs: Sequence[RunFacts]) -> Drawing | None:
    """One minus the cosine between the weights of successive epochs and to the start, at the end of the run."""
    points = []
    for fact in runs:
        assert fact.run is not None
        try:
            found = cosines(fact.run)
        except UserError:
            continue
        previous, start = (_last(values) for values in (found.previous, found.start))
        if math.isfinite(previous) or math.isfinite(start):
            points.append((fact, 1 - previous, 1 - start))
    if not points:
        return None
    fig, axes = style.new_figure(*_SIZE)
    drawing = Drawing(
        "epoch-cosines",
        "Weights from epoch to epoch",
        "One minus the cosine between the weights of the last two epochs (filled) and between the last weights and "
        "those at the start (open). A gap tells an analogue of convergence from equilibrium even where the loss does "
        "not converge (Nakhodnov et al. 2022).",
        "Distance between the weights of successive epochs, and to the start, against the rate",
        fig,
    )
    drawing.name(axes, facts.rate_name, "1 - cosine")
    with style.style():
        axes.set_xscale("log")
        axes.set_yscale("log")
        for fact, previous, start in points:
            marker, colour = regime_markers[fact.regime], regime_colours[fact.regime]
            for value, face in ((previous, colour), (start, "none")):
                if value > 0:
                    (dot,) = axes.plot([fact.rate], [value], marker, markerfacecolor=face, markeredgecolor=colour)
                    name = "to the epoch before" if face != "none" else "to the start"
                    drawing.point_at(dot, axes, fact.key, f"{fact.title}: {value:.3g} {name}")
        _span(axes, [fact.rate for fact, _, _ in points], [value for _, *pair in points for value in pair])
        axes.set_xlabel(facts.axis)
        axes.set_ylabel("1 − cosine")
    return drawing


def _last(values: Any) -> float:
    known = np.asarray(values)[np.isfinite(values)]
    return float(known[-1]) if known.size else math.nan


def _span(axes: Any, x: Sequence[float], y: Sequence[float]) -> None:
    """Limits and ticks of log axes around the values."""
    for values, set_limits, axis in ((x, axes.set_xlim, axes.xaxis), (y, axes.set_ylim, axes.yaxis)):
        around = limits([np.array(values)], log=True, margin=0.06)
        if around is not None:
            set_limits(around)
            style.log_ticks(axis, *around)

"""Sections of a sweep's page for what not every sweep has: groups, the weights from epoch to epoch, and the
landscape (``landscape.json``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.similarity import cosines
from scaleinv.errors import UserError
from scaleinv.figures import style
from scaleinv.figures.style import INK, elr_colour, regime_colours, regime_markers
from scaleinv.report.drawing import Drawing, end_labels, limits
from scaleinv.report.facts import RunFacts, SweepFacts
from scaleinv.report.page import table
from scaleinv.report.text import MISSING, esc, percent, show

_SIZE = (5.3, 3.5)
_AXES_HEIGHT = 2.8  # what the layout leaves of it for the axes


def more_sections(facts: SweepFacts) -> list[str]:
    """The HTML of all sections there is something for."""
    runs = [fact for fact in facts.runs if fact.run is not None and math.isfinite(fact.elr)]
    body: list[str] = []
    drawings = [d for d in (_groups(facts, runs), _epochs(facts, runs)) if d is not None]
    if drawings:
        body += ["<h2>Groups and epochs</h2>", '<div class="grid">', *(d.to_html() for d in drawings), "</div>"]
    try:
        content = json.loads((facts.folder / "landscape.json").read_text(encoding="utf-8"))
        landscape = _landscape(facts, content)
    except FileNotFoundError:
        return body
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{facts.folder / 'landscape.json'} is damaged ({error}); remove it and measure again"
        ) from error
    return body + landscape


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
    drawing.name(axes, facts.rate, "ESS")
    with style.style():
        axes.set_xscale("log")
        axes.set_yscale("log")
        for fact, means in points:
            colour = regime_colours[fact.regime]
            known = [mean for mean in means if math.isfinite(mean)]
            (line,) = axes.plot([fact.elr] * len(known), known, "_-", color=colour, markersize=9, linewidth=0.8)
            drawing.point_at(
                line, axes, fact.key, f"{fact.title}: {len(known)} groups, spread {max(known) / min(known):.3g}"
            )
        _span(axes, [fact.elr for fact, _ in points], [value for _, means in points for value in means])
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
    drawing.name(axes, facts.rate, "1 - cosine")
    with style.style():
        axes.set_xscale("log")
        axes.set_yscale("log")
        for fact, previous, start in points:
            marker, colour = regime_markers[fact.regime], regime_colours[fact.regime]
            for value, face in ((previous, colour), (start, "none")):
                if value > 0:
                    (dot,) = axes.plot([fact.elr], [value], marker, markerfacecolor=face, markeredgecolor=colour)
                    name = "to the epoch before" if face != "none" else "to the start"
                    drawing.point_at(dot, axes, fact.key, f"{fact.title}: {value:.3g} {name}")
        _span(axes, [fact.elr for fact, _, _ in points], [value for _, *pair in points for value in pair])
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


# -- from landscape.json -----------------------------------------------------------------------------------------------


def _landscape(facts: SweepFacts, content: Mapping[str, Any]) -> list[str]:
    body: list[str] = []
    drawings = [_paths(facts, content["paths"])] if content["paths"] else []
    drawings += [_walks(one) for one in content["walks"]]
    if drawings or content["sharpness"]:
        body += ["<h2>The landscape</h2>"]
    if drawings:
        body += ['<div class="grid">', *(drawing.to_html() for drawing in drawings), "</div>"]
    if content["sharpness"]:
        body.append(_sharpness_table(facts, content["sharpness"]))
    if content["paths"]:
        body.append(_barrier_table(facts, content["paths"]))
    return body


def _marks(measured: Sequence[Mapping[str, Any]]) -> list[tuple[str, Callable[[Mapping[str, Any]], str]]]:
    """The seed, and before it what else tells apart the runs of one rate."""
    marks: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = []
    # files from before these were kept have neither
    if len({one.get("weight_decay") for one in measured}) > 1:
        marks.append(("wd", lambda one: show(one.get("weight_decay"))))
    if len({one.get("start") for one in measured}) > 1:
        marks.append(("start", lambda one: (one.get("start") or MISSING)[:8]))
    return [*marks, ("seed", lambda one: str(one["seed"]))]


def _sharpness_table(facts: SweepFacts, measured: Sequence[Mapping[str, Any]]) -> str:
    marks = _marks(measured)

    def row(one: Mapping[str, Any]) -> str:
        numbers = [one["loss"], one["eg"], one["ratio"], one["lambda_1"], one["trace"], one["stability"]]
        cells = "".join(f"<td>{esc(show(math.nan if value is None else float(value)))}</td>" for value in numbers)
        rate = f"{one['key']['rates'][0]:.3g}"
        name = f'<th scope="row">{esc(rate)}</th>' + "".join(f"<td>{esc(value(one))}</td>" for _, value in marks)
        return f"<tr>{name}{cells}</tr>"

    names = [name for name, _ in marks]
    names = [facts.rate, *names, "train loss", "eff. gradient", "eg / loss", "λ₁", "trace", "ELR · λ₁"]
    head = [(name, False) for name in names]
    caption = (
        "Curvature at the last weights of every run, on the unit sphere: top eigenvalue and trace of the spherical "
        "Hessian. Gradient descent leaves a minimum where ELR · λ₁ exceeds 2."
    )
    return table(head, map(row, measured), caption)


def _barrier_table(facts: SweepFacts, measured: Sequence[Mapping[str, Any]]) -> str:
    marks = _marks(measured)

    def row(one: Mapping[str, Any]) -> str:
        a, b = one["key"]["rates"]
        heights = {key: float(one["barriers"][key]["height"]) for key in ("train_loss", "train_error", "test_error")}
        cells = [show(float(one["angle"])), show(heights["train_loss"])]
        cells += [percent(heights["train_error"]), percent(heights["test_error"])]
        cells = [*(value(one) for _, value in marks), *cells]
        name = f'<th scope="row">{esc(f"{a:.3g} – {b:.3g}")}</th>'
        return f"<tr>{name}{''.join(f'<td>{esc(cell)}</td>' for cell in cells)}</tr>"

    head = [(f"{facts.rate}s", False), *((name, False) for name, _ in marks), ("angle", False)]
    head += [(f"barrier of {name}", False) for name in ("train loss", "train error", "test error")]
    caption = (
        "Straight paths between the last weights of runs at neighbouring rates, brought back to the sphere, "
        "normalisation statistics recomputed at every point. Barrier: the largest excess above the straight line "
        "between the ends."
    )
    return table(head, map(row, measured), caption)


def _paths(facts: SweepFacts, measured: Sequence[Mapping[str, Any]]) -> Drawing:
    fig, axes = style.new_figure(*_SIZE)
    drawing = Drawing(
        "paths",
        "Paths between neighbouring runs",
        "Train error along the straight path between the last weights of two runs; a hill between two valleys means "
        "that they are different minima.",
        "Train error against the fraction of the path, one line for each pair of neighbouring rates",
        fig,
    )
    drawing.name(axes, "fraction of the path", "train error, %")
    ends: list[tuple[float, str, str]] = []
    marks = _marks(measured)
    with style.style():
        for k, one in enumerate(measured):
            a, b = one["key"]["rates"]
            colour = elr_colour(k / max(1, len(measured) - 1))
            errors = 100 * np.array([math.nan if v is None else v for v in one["train_error"]], float)
            (line,) = axes.plot(one["fractions"], errors, color=colour, linewidth=1.2)
            said = ", ".join(f"{name} {value(one)}" for name, value in marks)
            drawing.point_at(line, axes, f"path{k}", f"{facts.rate} {a:.3g} to {b:.3g}, {said}")
            ends.append((float(errors[-1]), f"{a:.2g}–{b:.2g}", colour))
        axes.set_xlabel("fraction of the path, from the lower rate to the higher")
        axes.set_ylabel("train error, %")
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, 1)
        fig.canvas.draw()  # the labels' places need the final limits
        end_labels(axes, ends, _AXES_HEIGHT)
    return drawing


def _walks(one: Mapping[str, Any]) -> Drawing:
    elr = float(one["key"]["elr"])
    fig, axes = style.new_figure(*_SIZE)
    cosine = {kind: float(np.mean(values)) for kind, values in one["cosine"].items()}
    drawing = Drawing(
        "walks",
        f"Walks at ELR {elr:.3g}",
        f"Train loss of SGD, of a random walk with steps of the same length, and of gradient ascent, on one sphere; "
        f"running mean over {_SMOOTH} steps. Mean cosine of consecutive weights: SGD {cosine['sgd']:.3g}, walk "
        f"{cosine['walk']:.3g}, ascent {cosine['ascent']:.3g}. Dashed: random directions.",
        "Train loss of three walks on the sphere against the step",
        fig,
    )
    drawing.name(axes, "step", "train loss")
    with style.style():
        kinds = (("ascent", "gradient ascent", 3), ("sgd", "SGD", 1), ("walk", "random walk", 2))
        for kind, name, colour in kinds:
            loss = np.array([math.nan if v is None else v for v in one["steps"][kind]["loss"]], float)
            width = min(_SMOOTH, len(loss))
            smooth = np.convolve(loss, np.ones(width) / width, "valid")
            axes.plot(
                np.arange(len(smooth)) + width - 1, smooth, color=regime_colours[colour], linewidth=1.1, label=name
            )
        level = float(one["random"]["loss"])
        axes.axhline(level, color=INK, linestyle="--", linewidth=0.9, label="random directions")
        axes.set_xlabel("step")
        axes.set_ylabel("train loss")
        axes.legend()
    return drawing


#: steps of the running mean of a walk's batch losses
_SMOOTH = 25

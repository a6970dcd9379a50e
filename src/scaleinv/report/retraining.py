"""The section of a sweep whose runs started from others: do they keep that trajectory or move to the new rate's?"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleinv.errors import needs
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, Span, end_labels, limits, new_drawing, thin
from scaleinv.plots.style import INK, elr_colour, regime_colours, regime_markers
from scaleinv.report import sweep_curves
from scaleinv.report.choice import MOST_RUNS, choose_runs, evenly
from scaleinv.report.facts import SweepFacts, SweptRun, start_words
from scaleinv.report.page import Section, fragment
from scaleinv.report.sweep_curves import AXES_HEIGHT, GRADIENT, PANEL, colour_scale, draw_track, end_look, few, track
from scaleinv.report.words import numbers_line
from scaleinv.runfolder.lineage import Origin
from scaleinv.runfolder.read import Floats, Ints, Run
from scaleinv.text import capital, count, elr_text

with needs("lab"):
    from matplotlib.axes import Axes


#: starts drawn at once; more are folded
MOST_STARTS = 6
_GREY = regime_colours[None]


@dataclass(frozen=True)
class BranchPoint:
    """Weights that runs of the sweep started from."""

    name: str  # ELR 1.6e-2 seed 0
    full: str  # the same with epoch and folder
    epoch: int
    origin: Origin | None
    parent: Run | None  # None where its folder is gone
    runs: Sequence[SweptRun]


class RetrainingSection(Section[SweepFacts]):
    """Two figures for each start, and one of where all runs ended."""

    def applies(self, facts: SweepFacts) -> bool:
        return bool(_branch_points(facts))

    def drawings(self, facts: SweepFacts) -> list[Drawing]:
        facts = _chosen(facts)
        points = _branch_points(facts)
        return [*_by_start(facts, points), *([_ends(facts, points)] if len(points) > 1 else [])]

    def html(self, facts: SweepFacts, drawn: Sequence[Drawing]) -> str:
        every, facts = facts, _chosen(facts)
        points = _branch_points(facts)
        pairs, ends = drawn[: 2 * len(points)], drawn[2 * len(points) :]
        first, rest = pairs[: 2 * MOST_STARTS], pairs[2 * MOST_STARTS :]
        gone = ", ".join(point.name for point in points if point.parent is None)
        left = ""
        if len(facts.runs) < len(every.runs):
            left = f"{len(facts.runs)} of {count(len(every.runs), 'run')}, "
            left += f"from {len(points)} of {len(every.starts)} starts"
        return fragment("sweep.html.j2", "retraining", facts, colour_scale(facts), gone, [*first, *ends], rest, left)


def _chosen(facts: SweepFacts) -> SweepFacts:
    """Return the facts of the runs to draw: all, or of a large sweep a choice of starts and of the runs from each."""
    if len(facts.runs) <= MOST_RUNS:
        return facts
    from_start = {start: [fact for fact in facts.runs if fact.start == start and fact.run] for start in facts.starts}
    starts = evenly([start for start, runs in from_start.items() if runs], 2 * MOST_STARTS)
    each = max(6, MOST_RUNS // max(1, len(starts)))
    drawn = {fact.key for start in starts for fact in choose_runs(from_start[start], each)}
    runs = [fact for fact in facts.runs if fact.key in drawn]
    return dataclasses.replace(facts, runs=runs, most=len(runs))


def _branch_points(facts: SweepFacts) -> list[BranchPoint]:
    """List the starts by the rate of the parent, each with those of its runs that have a folder."""
    found = []
    for checksum, origin in facts.starts.items():
        runs = [fact for fact in facts.runs if fact.start == checksum and fact.run is not None]
        if runs:
            full = start_words(checksum, origin)
            name = runs[0].start_name or (full if origin is None else origin.short(elr_text))
            epoch = 0 if origin is None or origin.epoch is None else origin.epoch
            found.append(BranchPoint(name, full, epoch, origin, facts.parents.get(checksum), runs))
    return found


def _by_start(facts: SweepFacts, starts: Sequence[BranchPoint]) -> list[Drawing]:
    """Draw two panels for each start, all in the same limits, so that they compare at a glance."""
    split = facts.split()
    every = [run for start in starts for run in [start.parent, *(fact.run for fact in start.runs)]]
    tracks = [track(run, _split(run, split)) for run in every if run is not None]
    loss = limits([x for x, _ in tracks] + [_curve(run, split)[1] for run in every if run is not None], log=True)
    eg = limits([y for _, y in tracks], log=True)
    rates = [fact.rate for fact in facts.runs]
    colours = {fact.key: colour for fact, colour in zip(facts.runs, style.elr_colours(rates))}
    drawings = []
    for number, start in enumerate(starts, 1):
        drawings.append(_against_epoch(start, split, loss, colours, number))
        drawings.append(_diagram(facts, start, starts, split, (loss, eg), colours, number))
    return drawings


def _split(run: Run, split: str) -> str:
    """Return ``split``, or ``online`` where a parent made no exact pass."""
    return split if run.has(split, "total", "loss") else "online"


def _curve(run: Run, split: str) -> tuple[Ints, Floats]:
    return run.series(_split(run, split), "total", "loss")


def _against_epoch(start: BranchPoint, split: str, around: Span, colours: dict[str, str], number: int) -> Drawing:
    """Draw train loss against the epoch since the start, the parent's before and, where it was resumed, beyond it."""
    drawing, axes = new_drawing(
        PANEL,
        f"retraining-loss-{number}",
        f"Train loss, from {start.name}",
        f"From {start.full}: {'star and ' if _beginning(start) else ''}epoch 0. "
        f"{capital(sweep_curves.SOURCE[split])}. Colour: the new {start.runs[0].rate_name}."
        + (" Grey: the run they started from." if start.parent is not None else ""),
        f"Train loss against epoch of {count(len(start.runs), 'run')} that started from {start.name}",
        "epoch since the start",
        "train loss",
    )
    with style.style():
        end = max(1, *(fact.run.last_epoch for fact in start.runs if fact.run is not None))
        before = 0
        if start.parent is not None:
            epochs, values = _curve(start.parent, split)
            kept = (epochs - start.epoch >= -end) & (epochs - start.epoch <= end)  # no more than what follows
            epochs, values = thin(epochs[kept] - start.epoch, values[kept])
            before = min(0, int(epochs[0])) if epochs.size else 0
        if not drawing.frame(axes, (before, end), around):
            return drawing
        if start.parent is not None:
            look: dict[str, Any] = {"color": _GREY, "linewidth": 1.4, "zorder": 1.5}
            drawing.line(axes, epochs, values, True, f"parent{number}", f"started from {start.name}", **look)
        axes.axvline(0, color=INK, alpha=0.5, linewidth=0.8, linestyle=":")
        ends = []
        for fact in start.runs:
            assert fact.run is not None
            epochs, values = thin(*_curve(fact.run, split))
            look = {"color": (colour := colours[fact.key]), "linewidth": 1.2}
            final = drawing.line(axes, epochs, values, True, fact.key, numbers_line(fact), **look)
            if final is None:
                continue
            axes.plot(epochs[final], values[final], linestyle="none", clip_on=False, zorder=4, **end_look(fact, colour))
            ends.append((float(values[final]), fact.rate_label, colour))
        began = _beginning(start)
        if began is not None:
            _star(axes, 0, began[0])
        end_labels(axes, ends, AXES_HEIGHT)
    return drawing


def _diagram(
    facts: SweepFacts,
    start: BranchPoint,
    starts: Sequence[BranchPoint],
    split: str,
    around: tuple[Span, Span],
    colours: dict[str, str],
    number: int,
) -> Drawing:
    """Draw effective gradient against train loss. Where the sweep of the parents has the new rate too, from the
    initialisation, that trajectory is drawn: it is the one a run may move to.
    """
    targets = _targets(start, starts)
    drawing, axes = new_drawing(
        PANEL,
        f"retraining-diagram-{number}",
        f"Effective gradient against train loss, from {start.name}",
        f"A dot for each epoch, {'a star at the start, ' if _beginning(start) else ''}"
        "the mark of the regime at the end."
        + (" Grey: the run they started from; a run that stays on it keeps its trajectory." if start.parent else "")
        + (f" Dashed: the other parents at a new {facts.rate_name}, the trajectory to move to." if targets else ""),
        f"Effective gradient against train loss of {count(len(start.runs), 'run')} that started from {start.name}",
        "train loss",
        "effective gradient",
    )
    with style.style():
        if not drawing.frame(axes, *around, "xy", GRADIENT):
            return drawing
        if start.parent is not None:
            x, y = few(*track(start.parent, _split(start.parent, split)))
            (line,) = axes.plot(x, y, ".-", color=_GREY, linewidth=1.2, markersize=3, zorder=1.5)
            drawing.point_at(line, axes, f"parent{number}", f"started from {start.name}")
        for k, (key, other) in enumerate(targets):
            assert other.parent is not None
            x, y = few(*track(other.parent, _split(other.parent, split)))
            (line,) = axes.plot(x, y, color=colours[key], linewidth=0.9, linestyle="--", alpha=0.8, zorder=1.6)
            drawing.point_at(line, axes, f"target{number}-{k}", f"{other.name}, before the start")
        placed: list[tuple[float, float]] = []
        for fact in start.runs:
            draw_track(drawing, axes, fact, split, colours[fact.key], 0.75, placed)
        began = _beginning(start)
        if began is not None:
            _star(axes, *began)
    return drawing


def _targets(start: BranchPoint, starts: Sequence[BranchPoint]) -> list[tuple[str, BranchPoint]]:
    """Find other parents of the same seed at a rate given to runs from this start, with the key of such a run."""
    found = []
    for other in starts:
        if other is start or other.parent is None or other.origin is None or start.origin is None:
            continue
        same = (other.origin.axis, other.origin.rate)
        key = next((fact.key for fact in start.runs if (fact.rate_name, fact.rate) == same), None)
        if key is not None and other.origin.seed == start.origin.seed and start.origin.rate != other.origin.rate:
            found.append((key, other))
    return found


def _beginning(start: BranchPoint) -> tuple[float, float] | None:
    """Find train loss and effective gradient at the start weights, by an exact pass: as its runs measured them before
    their first step, else the parent there; None where neither did (means over steps are no point of the start).
    """
    places = [(fact.run, 0) for fact in start.runs if fact.run is not None]
    if start.parent is not None:
        places.append((start.parent, start.epoch))
    return next((point for run, epoch in places if (point := run.at_epoch(epoch)) is not None), None)


def _star(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        x, y, marker="*", markersize=11, color=_GREY, markeredgecolor=INK, markeredgewidth=0.6, zorder=6, clip_on=False
    )


def _ends(facts: SweepFacts, starts: Sequence[BranchPoint]) -> Drawing:
    """Draw where the runs ended: effective gradient against train loss, joined by start."""
    drawing, axes = new_drawing(
        PANEL,
        "starts",
        "By the run they started from",
        f"Each mark is a run of this sweep, at its mean train loss and effective gradient over {facts.window_words()}; "
        "a line joins the runs that started from the same weights. Marks: the regime of the run. Lines that lie on "
        "each other: the new rate decides, not the start.",
        "Effective gradient against train loss of the runs, joined by the weights they started from",
        "train loss",
        "effective gradient",
    )
    known = [fact for start in starts for fact in start.runs if fact.train_loss > 0 and fact.effective_gradient > 0]
    values = ([f.train_loss for f in known], [f.effective_gradient for f in known])
    x_span, y_span = (limits([np.array(one)], log=True, margin=0.06) for one in values)
    with style.style():
        if not drawing.frame(axes, x_span, y_span, "xy"):
            return drawing
        for k, start in enumerate(starts):
            colour = elr_colour(k / max(1, len(starts) - 1))
            for decay in sorted({fact.weight_decay for fact in start.runs}):
                here = [fact for fact in start.runs if fact in known and fact.weight_decay == decay]
                x, y = ([getattr(fact, name) for fact in here] for name in ("train_loss", "effective_gradient"))
                axes.plot(x, y, color=colour, linewidth=1, label=f"from {start.name}")
                for fact in here:
                    (dot,) = axes.plot(
                        fact.train_loss, fact.effective_gradient, regime_markers[fact.regime], color=colour
                    )
                    drawing.point_at(dot, axes, fact.key, numbers_line(fact))
        if len(starts) <= 2 * MOST_STARTS:
            axes.legend()
    return drawing

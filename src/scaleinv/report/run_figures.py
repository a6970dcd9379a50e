"""The figures of a single run: loss, error, effective gradient, turning of the weights; norm and steps by group."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scaleinv.errors import needs
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, drawable, end_labels, limits, new_drawing, thin
from scaleinv.plots.style import INK
from scaleinv.runfolder.read import Floats, Ints, Run
from scaleinv.text import clean, count, short, show

with needs("lab"):
    from matplotlib.axes import Axes


#: more groups than this (rows, say) are drawn as every second, third ...
MOST_GROUPS = 32
_PANEL = (5.3, 3.4)
_AXES_HEIGHT = 2.7
_TEST = "#c27803"


class PanelLine(NamedTuple):
    """A curve of a panel."""

    key: str
    label: str
    x: Ints
    y: Floats
    colour: str
    dots: bool = False
    dashed: bool = False


def total_drawings(run: Run) -> list[Drawing]:
    """Draw the curves of the whole network, those that the run has numbers for, in the order of the page."""
    steps = ("online", style.elr_colour(0.0))
    exact = ("train", INK)
    every = [steps, exact, ("test", _TEST)]
    panels = [
        _total(run, "loss", "Loss", "loss", every, log=True),
        _total(run, "error", "Error", "error, %", every, log=False),
        _total(run, "eg", "Effective gradient", "effective gradient norm", [steps, exact], log=True),
        _total(run, "cosine", "Cosine between consecutive weights", "cosine", [steps], log=False),
    ]
    return [panel for panel in panels if panel is not None]


def group_drawings(run: Run) -> list[Drawing]:
    """Draw the curves of every scale-invariant group, likewise."""
    panels = {
        "angle": ("Angle between consecutive weights", "angle, radians"),
        "rho": ("Norm of each group", "ρ"),
        "elr": ("Effective learning rate of each group", "effective learning rate"),
        "eg": ("Effective gradient of each group", "effective gradient norm"),
        "ess": ("Effective step size of each group", "effective step size"),
    }
    drawn = (_groups(run, quantity, *words) for quantity, words in panels.items())
    return [panel for panel in drawn if panel is not None]


_NAMES = {"online": "training steps", "train": "train set, exact", "test": "test set"}
_HOW = {
    "online": "line: accumulated over the training steps of each epoch",
    "logged": "line: each logged step",
    "train": "dots: exact pass over the train set at fixed weights",
    "test": "dashed: test set, eval mode",
}


def _total(
    run: Run, quantity: str, title: str, label: str, splits: Sequence[tuple[str, str]], *, log: bool
) -> Drawing | None:
    lines, told = [], []
    for split, colour in splits:
        if not run.has(split, "total", quantity):
            continue
        at, values = _points(run, split, "total", quantity)
        x, y = thin(at, 100 * values if quantity == "error" else values)
        lines.append(PanelLine(split, _NAMES[split], x, y, colour, dots=split == "train", dashed=split == "test"))
        told.append(_HOW[_kind(run, split)])
    if not lines:
        return None
    caption = "; ".join(told)
    return _panel(f"run-{quantity}", title, label, lines, caption[0].upper() + caption[1:] + ".", log, run.time)


def _groups(run: Run, quantity: str, title: str, label: str) -> Drawing | None:
    split = "online" if any(run.has("online", group, quantity) for group in run.groups()) else "train"
    every = [group for group in run.groups() if run.has(split, group, quantity)]
    has_total = run.has(split, "total", quantity)
    if not every and (quantity != "angle" or not has_total):
        return None
    step = -(-len(every) // MOST_GROUPS) or 1
    drawn = every[::step]
    lines = []
    for i, group in enumerate(drawn):
        colour = style.elr_colour(i / max(1, len(drawn) - 1))
        lines.append(PanelLine(f"g{every.index(group)}", group, *thin(*_points(run, split, group, quantity)), colour))
    if has_total:  # first, so that it keeps its label among many
        lines.insert(0, PanelLine("total", "total", *thin(*_points(run, split, "total", quantity)), INK, dashed=True))
    caption = "Groups from violet (first in the network) to green (last); dashed: all of them together; "
    caption += f"{_HOW[_kind(run, split)].split(': ')[1]}."
    if step > 1:
        caption += f" {len(drawn)} of {count(len(every), 'group')} drawn, evenly chosen."
    return _panel(f"group-{quantity}", title, label, lines, caption, True, run.time)


def _points(run: Run, split: str, group: str, quantity: str) -> tuple[Ints, Floats]:
    """Return a series over the time of the run: epochs, or steps where a Monitor measured it."""
    found = run.table(split, group, quantity)
    return (found.steps if run.time == "step" else found.epochs), found.values


def _kind(run: Run, split: str) -> str:
    return "logged" if run.time == "step" and split == "online" else split


def _panel(
    stem: str, title: str, label: str, lines: Sequence[PanelLine], caption: str, log: bool, time: str = "epoch"
) -> Drawing:
    alt = f"{title} against {time}: {', '.join(short(line.label) for line in lines)}"
    drawing, axes = new_drawing(_PANEL, stem, title, caption, alt, time, label)
    with style.style():
        zero = log and any((line.y == 0).any() for line in lines)
        latest = max(1, *(int(line.x[-1]) for line in lines if line.x.size))
        around = limits([line.y for line in lines], log)
        empty = "no positive value" if zero else "no finite value"
        if not drawing.frame(axes, (0, latest), around, "y" if log else "", empty=empty):
            return drawing
        ends = [end for line in lines if (end := _draw(drawing, axes, line, log, time)) is not None]
        end_labels(axes, ends, _AXES_HEIGHT, size=8)
    return drawing


def _draw(drawing: Drawing, axes: Axes, line: PanelLine, log: bool, time: str) -> tuple[float, str, str] | None:
    """Draw a line; return its end for the label, None where nothing can be drawn."""
    known = np.flatnonzero(drawable(line.y, log))
    if not known.size:
        return None
    look: dict[str, Any] = {"linestyle": "--" if line.dashed else "-", "zorder": 2}
    if line.dots:
        look = {"linestyle": "none", "marker": "o", "markersize": 3.6, "zorder": 3, "clip_on": False}
    final = int(known[-1])
    bad = np.flatnonzero(~np.isfinite(line.y))
    broken = f"; not finite from {time} {int(line.x[bad[0]])}" if bad.size and bad[-1] > final else ""
    said = f"{clean(line.label)}: last {show(float(line.y[final]))}{broken}"
    drawing.line(axes, line.x, line.y, log, line.key, said, color=line.colour, linewidth=1.3, **look)
    if broken:
        cross: dict[str, Any] = {"markersize": 6.5, "color": line.colour, "markeredgecolor": INK}
        axes.plot(line.x[final], line.y[final], marker="X", clip_on=False, zorder=4, **cross)
    return float(line.y[final]), short(line.label, 18), line.colour

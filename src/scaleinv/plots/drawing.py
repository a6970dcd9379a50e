"""A figure under construction: what it draws, and what a reader can point at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scaleinv.errors import needs
from scaleinv.plots import style
from scaleinv.text import clean

with needs("lab"):
    from scipy.optimize import isotonic_regression


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
#: axis limits; None where there is no value to draw
Span = tuple[float, float] | None
#: a line is drawn with at most this many points; more are thinned to the extremes of equal stretches
MOST_POINTS = 600


@dataclass
class Drawing:
    """A figure with its title, caption and alternative text; ``stem`` names its files."""

    stem: str
    title: str
    caption: str
    alt: str
    fig: Figure
    wide: bool = False
    narrow: Drawing | None = None  # the same for a phone, where a wide figure would have no readable text
    titles: dict[str, str] = field(default_factory=dict)
    named: list[tuple[Axes, str, str]] = field(default_factory=list)
    complete: Callable[[], None] = lambda: None  # adds what the page shows beside its figures, before it stands alone

    def name(self, axes: Axes, x: str, y: str) -> None:
        """Say what the axes show, for the tooltip."""
        self.named.append((axes, x, y))

    def point_at(self, artist: Any, axes: Axes, key: str, title: str) -> None:
        """Make an artist one that can be pointed at: ``key`` links it to the same run elsewhere on the page."""
        place = next((i for i, (known, _, _) in enumerate(self.named) if known is axes), 0)
        gid = f"a{place}.{key}.{len(self.titles)}"
        artist.set_gid(gid)
        self.titles[gid] = clean(title)

    def frame(self, axes: Axes, x: Span, y: Span, log: str = "y", label: str = "", empty: str = "not measured") -> bool:
        """Set limits, scale and label of both axes, ``label`` in place of the y axis's name; ``False`` where one of the
        limits is None: there is nothing to draw, and ``empty`` says so.
        """
        if x is None or y is None:
            nothing(axes, empty)
            return False
        x_name, y_name = next((x_name, y_name) for known, x_name, y_name in self.named if known is axes)
        fit(axes, "x", x, "x" in log, x_name)
        fit(axes, "y", y, "y" in log, label or y_name)
        return True

    def line(
        self, axes: Axes, x: npt.NDArray[Any], y: Floats, log: bool, key: str, title: str, **look: Any
    ) -> int | None:
        """Draw the values that have a place on the axis; the index of the last of them, None where there is none."""
        shown = drawable(y, log)
        if not shown.any():
            return None
        (line,) = axes.plot(x, np.where(shown, y, np.nan), **look)
        self.point_at(line, axes, key, title)
        return int(np.flatnonzero(shown)[-1])

    def svg(self) -> str:
        """Render the drawing as an ``<svg>`` element for a page."""
        return style.to_inline_svg(self.fig, titles=self.titles, label=clean(self.alt), name=self.stem)

    def axes_json(self) -> str:
        """Describe for the page's script what the axes show and where they lie; after :meth:`svg` has laid out."""
        width, height = self.fig.get_size_inches() * 72  # the unit of matplotlib's SVG
        described = []
        for axes, x, y in self.named:
            at = axes.get_position()
            box = (at.x0 * width, at.x1 * width, (1 - at.y0) * height, (1 - at.y1) * height)
            shown = {"x": [x, axes.get_xscale(), *axes.get_xlim()], "y": [y, axes.get_yscale(), *axes.get_ylim()]}
            described.append({"box": [round(float(value), 4) for value in box], **shown})
        return json.dumps(described, separators=(",", ":"))


def new_drawing(
    size: tuple[float, float], stem: str, title: str, caption: str, alt: str, x: str, y: str, *, wide: bool = False
) -> tuple[Drawing, Axes]:
    """Make a drawing with one pair of axes, which show ``y`` against ``x``."""
    fig, axes = style.new_figure(*size)
    drawing = Drawing(stem, title, caption, alt, fig, wide)
    drawing.name(axes, x, y)
    return drawing, axes


def fit(axes: Axes, which: str, around: tuple[float, float], log: bool, label: str = "") -> None:
    """Set scale, limits, ticks and label of the axis ``which``: ``x`` or ``y``."""
    if log:
        getattr(axes, f"set_{which}scale")("log")
        style.log_ticks(getattr(axes, f"{which}axis"), *around)
    getattr(axes, f"set_{which}lim")(around)
    getattr(axes, f"set_{which}label")(label)


def thin(x: npt.NDArray[Any], y: Floats, most: int = MOST_POINTS) -> tuple[npt.NDArray[Any], Floats]:
    """Thin a line to ``most`` points: of equal stretches the lowest and the highest, so that no spike is lost."""
    if y.size <= most:
        return x, y
    keep = {0, y.size - 1}
    for stretch in np.array_split(np.arange(1, y.size - 1), (most - 2) // 2):
        values = y[stretch]
        known = stretch[np.isfinite(values)]
        if known.size:
            keep.update((int(known[np.argmin(y[known])]), int(known[np.argmax(y[known])])))
        if known.size < stretch.size:
            keep.add(int(stretch[~np.isfinite(values)][0]))  # a gap stays a gap
    chosen = np.array(sorted(keep))
    return x[chosen], y[chosen]


def drawable(y: Floats, log: bool) -> npt.NDArray[np.bool_]:
    """Find which values have a place on the axis."""
    shown: npt.NDArray[np.bool_] = np.isfinite(y) & (y > 0) if log else np.isfinite(y)
    return shown


def limits(values: Sequence[Floats], log: bool, margin: float = 0.04) -> Span:
    """Find axis limits around all drawable values; None where there are none."""
    kept = [v[drawable(v, log)] for v in values]
    every = np.concatenate(kept) if kept else np.zeros(0)
    if not every.size:
        return None
    low, high = float(every.min()), float(every.max())
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    pad = margin * (high - low)
    low, high = low - pad, high + pad
    return (10**low, 10**high) if log else (low, high)


def fraction(axes: Axes, y: float) -> float:
    """Find where a value lies on the y axis, 0 at the bottom and 1 at the top."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        low, high, y = math.log10(low), math.log10(high), math.log10(y)
    return (y - low) / (high - low)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places in [0, 1] apart to at least ``gap``, in their order and as little as can be.

    >>> [round(p, 2) for p in spread([0.5, 0.5, 0.9], 0.1)]
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(places, kind="stable")
    # labels in places of their own: what is left to find must only not fall, which is isotonic regression
    own = gap * np.arange(len(order))
    moved = isotonic_regression(np.asarray(places)[order] - own).x + own if len(order) else own
    # keep the column inside the axes
    moved = np.maximum.accumulate(np.maximum(moved, 0.0) - own) + own
    back = own[::-1]
    moved = np.minimum.accumulate((np.minimum(moved, 1.0) + back)[::-1])[::-1] - back
    result = np.empty(len(order))
    result[order] = moved
    return [float(place) for place in result]


def end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], height: float, size: float = 7.5) -> None:
    """Label the right edge of ``axes`` (``height`` inches): (value, text, colour) near its value, none over another.

    Where they are too many for the height every second, third ... is left out; the colour scale names those between.
    """
    gap = size * 1.22 / (72 * height)
    fit = max(1, int(1 / gap) + 1)
    known = [end for end in ends if math.isfinite(end[0]) and (end[0] > 0 or axes.get_yscale() != "log")]
    step = math.ceil(len(known) / fit) if known else 1
    known = known[::step]  # the first is always kept
    wanted = [min(1.0, max(0.0, fraction(axes, value))) for value, _, _ in known]
    for place, want, (_, text, colour) in zip(spread(wanted, gap), wanted, known):
        look: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([1.004, 1.022], [want, place], color=colour, linewidth=1.2, solid_capstyle="butt", **look)
        # in the page's ink: the colours of lines are too light for small print
        axes.text(1.028, place, text, fontsize=size, va="center", ha="left", parse_math=False, color=style.INK, **look)


def nothing(axes: Axes, words: str = "not measured") -> None:
    """Say in the middle of the axes that there is nothing to draw."""
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])

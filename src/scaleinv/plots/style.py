"""The look of every figure: sizes, colours, log axes, and how a figure becomes a file or a part of a page.

No pyplot and no global state: a figure is a ``matplotlib.figure.Figure`` with a canvas of its own. All text is plain
Unicode, no mathtext, so that a page can set it in the reader's font. What is drawn in :data:`INK` takes the page's
text colour there, which is how the same figure reads on white and on black.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from scaleinv.errors import UserError, needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: text, axes and grid; becomes ``currentColor`` in a page
INK = "#1b1e23"

#: contrast of each at least 3:1 on white and on the dark page, and apart from each other without red-green vision
regime_colours: dict[int | None, str] = {1: "#2d7dc4", 2: "#c27803", 3: "#c8365f", None: "#7d8590"}
#: never colour alone
regime_markers: dict[int | None, str] = {1: "o", 2: "s", 3: "^", None: "D"}
regime_names: dict[int | None, str] = {1: "convergence", 2: "chaotic equilibrium", 3: "divergence", None: "undecided"}

FORMATS = ("svg", "pdf", "png")

#: a layout that moves no axes by this share of the figure stays as it is
SETTLED = 1e-7

_RC: dict[str, Any] = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "grid.color"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "text.color"), INK),
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,
    "svg.hashsalt": "scaleinv",
    "svg.fonttype": "path",
    # a vertex of a drawn line is a measured value: the page's tooltips read them back
    "path.simplify": False,
}
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Set our look inside, or in a function as ``@style()``; new_figure, rendered, to_inline_svg do so themselves."""
    with needs("lab"):
        import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context(_RC):
        # a user's name may hold characters our font has no glyph for: a box is drawn
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float, ncols: int = 1, nrows: int = 1, **grid: Any) -> tuple[Figure, Any]:
    """Make a figure of ``width`` x ``height`` inches and its axes: an Axes, or an array squeezed as matplotlib does.

    Keywords go to ``Figure.subplots`` (``sharex``, ``height_ratios`` ...). The layout is ``constrained``.

    >>> fig, axes = new_figure(6, 3, ncols=2)
    >>> axes.shape
    (2,)
    """
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        fig = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(fig)
        return fig, fig.subplots(nrows, ncols, **grid)


def rendered(fig: Figure, format: str) -> bytes:
    """Render a figure as a file of ``format``; the same figure gives the same bytes.

    Errors: UserError for an unknown format.
    """
    if format not in FORMATS:
        raise UserError(f"unknown figure format {format!r}; choose from: {', '.join(FORMATS)}")
    # without dates and version strings the bytes depend on the figure alone
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": "scaleinv"},
        "pdf": {"CreationDate": None, "Creator": "scaleinv", "Producer": "scaleinv"},
        "png": {"Software": None},
    }
    _settle(fig)
    buffer = io.BytesIO()
    with style():
        fig.savefig(buffer, format=format, metadata=metadata[format], facecolor="white")
    return buffer.getvalue()


def _settle(fig: Figure) -> None:
    """Lay the figure out and freeze it: every draw moves a constrained layout a little, and with it the bytes."""
    layout = fig.get_layout_engine()
    if layout is None:
        return
    with style():
        before: Any = math.inf
        for _ in range(4):  # the second time moves axes by hundredths of a pixel or not at all, the third by none
            layout.execute(fig)
            places = np.array([axes.get_position().bounds for axes in fig.axes])
            if np.all(np.abs(places - before) < SETTLED):
                break
            before = places
    fig.set_layout_engine("none")


def to_inline_svg(
    fig: Figure, *, titles: Mapping[str, str] | None = None, label: str | None = None, name: str | None = None
) -> str:
    """Render a figure as a page's ``<svg>``: transparent, in its text colour and font, scaled to the width it gets.

    ``titles`` gives the artist with that gid (``artist.set_gid``) a ``<title>``, which browsers show on hover without
    a script; the gid is kept as the attribute ``data-gid``. ``label`` is the alternative text. Ids are made unique by
    a prefix: ``name``, else a hash of the figure's content.
    """
    _settle(fig)
    buffer = io.BytesIO()
    with style():
        import matplotlib

        with matplotlib.rc_context({"svg.fonttype": "none"}):
            nameless = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            fig.savefig(buffer, format="svg", transparent=True, metadata=nameless)
    raw = buffer.getvalue()
    prefix = name or "f" + hashlib.sha256(raw).hexdigest()[:8]
    root = ElementTree.fromstring(raw)
    _make_ids_unique(root, prefix, titles or {})
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)  # the style sheet of an inline <svg> would hold for the whole page
    for element in root.iter():
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None  # layout of the source only; text of matplotlib's SVG never has a tail
        css = element.get("style")
        if css is not None:
            css = re.sub(r"font: ((?:\w+ )*)([\d.]+px) [^;]*", _font, css)
            css = re.sub(r"font-family: [^;]*;? ?", "", css)
            element.set("style", css.replace(INK, "currentColor"))
    _share_styles(root)
    root.set("style", f"font-family: {_SANS}; stroke-linejoin: round; stroke-linecap: butt")
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", label or "figure")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return str(ElementTree.tostring(root, encoding="unicode"))


def _share_styles(root: Any) -> None:
    """Say the style of many marks once, in the group that holds them: they inherit it, and a page is smaller."""
    for group in root.iter(f"{{{_SVG}}}g"):
        marks = [child for child in group if child.tag == f"{{{_SVG}}}use"]
        styles = {mark.get("style") for mark in marks}
        others = {child.tag for child in group} - {f"{{{_SVG}}}use", f"{{{_SVG}}}defs", f"{{{_SVG}}}title"}
        if len(marks) > 1 and len(styles) == 1 and None not in styles and not others and group.get("style") is None:
            group.set("style", styles.pop())
            for mark in marks:
                del mark.attrib["style"]


def _font(match: re.Match[str]) -> str:
    """Write a CSS font shorthand without its family: the page sets the family once."""
    words, size = match.group(1).split(), match.group(2)
    bold = "; font-weight: bold" if any(word in ("bold", "600", "700") for word in words) else ""
    return f"font-size: {size}{bold}"


def _make_ids_unique(root: Any, prefix: str, titles: Mapping[str, str]) -> None:
    used = {
        match
        for element in root.iter()
        for value in (element.get(f"{{{_XLINK}}}href"), element.get("clip-path"), element.get("style"))
        if value
        for match in re.findall(r"#([\w.-]+)", value)
    }
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own is not None and own in used:
            element.set("id", f"{prefix}-{own}")
        elif own is not None and own in titles:
            element.set("data-gid", own)
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = titles[own]
            element.insert(0, title)
        link = element.attrib.pop(f"{{{_XLINK}}}href", None)
        if link is not None:
            element.set("href", f"#{prefix}-{link[1:]}" if link.startswith("#") else link)
        clip = element.get("clip-path")
        if clip is not None:
            element.set("clip-path", re.sub(r"url\(#", f"url(#{prefix}-", clip))


def elr_position(elrs: Iterable[float]) -> list[float]:
    """Place each ELR on the log scale from the smallest to the largest, in [0, 1]; .5 where one or none is known."""
    logs = [math.log(elr) if math.isfinite(elr) and elr > 0 else math.nan for elr in elrs]
    known = [value for value in logs if not math.isnan(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return [(value - low) / (high - low) if high > low and not math.isnan(value) else 0.5 for value in logs]


def elr_colours(elrs: Iterable[float]) -> list[str]:
    """Colour each ELR by its logarithm: from violet over grey to green, lighter as it grows.

    The luminance stays where the contrast is at least 3:1 on white and on the dark page.
    """
    return [elr_colour(position) for position in elr_position(elrs)]


#: ends of the scale of rates in OKLab: violet and green, hues that no regime has
_LOW, _HIGH = (0.535, 0.117, -0.153), (0.645, -0.121, 0.079)


def elr_colour(position: float) -> str:
    """Return the colour at a place in [0, 1] of the scale: a straight line in OKLab, so equal steps look equally far.

    It leads from violet over grey to green and gets lighter; blue, orange and red are the regimes' alone.
    """
    t = min(1.0, max(0.0, position))
    lightness, a, b = (low + t * (high - low) for low, high in zip(_LOW, _HIGH))
    # OKLab -> linear sRGB (Ottosson 2020)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(channel)):02x}" for channel in linear)


def _gamma(channel: float) -> float:
    value = min(1.0, max(0.0, channel))
    return float(12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055)


def elr_colour_bar(fig: Figure, axes: Any, elrs: Sequence[float], label: str = "effective learning rate") -> None:
    """Draw a colour bar of the log scale of ELRs beside ``axes``."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    known = [elr for elr in elrs if math.isfinite(elr) and elr > 0]
    if not known or min(known) == max(known):
        return
    scale = ListedColormap([elr_colour(float(t)) for t in np.linspace(0, 1, 128)])
    with style():
        mappable = ScalarMappable(LogNorm(min(known), max(known)), scale)
        bar = fig.colorbar(mappable, ax=axes, pad=0.01, fraction=0.03, aspect=30)
        bar.outline.set_visible(False)
        bar.set_label(label)
        log_ticks(bar.ax.yaxis, min(known), max(known))


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(value: float) -> str:
    """Write a number with a power of ten: ``10⁻³``, ``2·10⁻³``; plain from 0.02 to 999."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    if 0.0101 < value < 999.5:
        return f"{value:.3g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10.0**exponent
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if abs(mantissa - 1) < 1e-6 else f"{mantissa:.3g}·{power}"


def log_axis(axes: Axes, which: str = "y") -> None:
    """Make ``x``, ``y`` or both (``xy``) logarithmic, with plain Unicode labels. Call it after the data is drawn."""
    for letter in which:
        getattr(axes, f"set_{letter}scale")("log")
        low, high = getattr(axes, f"get_{letter}lim")()
        log_ticks(getattr(axes, f"{letter}axis"), low, high)


def log_ticks(axis: Any, low: float, high: float) -> None:
    """Label decades, thinned to about six; below two decades also 2 and 5 times a decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = math.log10(high / low) if high > low > 0 else 0.0
    if decades < 0.7:
        places = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
        axis.set_major_locator(FixedLocator([float(tick) for tick in places if low <= tick <= high]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
        axis.set_minor_locator(FixedLocator([]))
        return
    if decades < 1:
        subs: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 7)
    elif decades < 2:
        subs = (1, 2, 5)
    else:
        subs = (1,)
    step = max(1, math.ceil(decades / 7))
    first, last = math.floor(math.log10(low)) if low > 0 else -1, math.ceil(math.log10(high)) if high > 0 else 1
    ticks = [sub * 10.0**k for k in range(first, last + 1) if k % step == 0 for sub in subs]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10)), numticks=200) if step == 1 else FixedLocator([]))
    axis.set_minor_formatter(NullFormatter())

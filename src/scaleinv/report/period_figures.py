"""The figures of a run in the whole space, step by step, with the phases of its periods shaded."""

import numpy as np

from scaleinv.analysis.periods import Periods
from scaleinv.analysis.periods.bounds import cosine_distance
from scaleinv.analysis.periods.log import FEWEST_ROWS, Log
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing, drawable, limits, new_drawing, thin
from scaleinv.plots.periods import PHASE_WORDS, shade
from scaleinv.plots.style import INK
from scaleinv.runfolder.read import Floats, Ints
from scaleinv.text import clean, show

_PANEL, _WIDE = (5.3, 3.1), (10.8, 3.3)
#: a curve is shown as the median and the range of so many stretches
STRETCHES = 280


def period_drawings(found: Periods) -> list[Drawing]:
    """Draw loss, norm, ELR, effective gradient and rotation, where logged; nothing where a run has a few steps only."""
    log = found.log
    if len(log) < FEWEST_ROWS:
        return []
    rho = None if log.rho_sq is None else np.sqrt(log.rho_sq)
    panels = [
        ("loss", "Loss of the batch", "loss", log.loss, True),
        ("rho", "Norm of the scale-invariant weights", "ρ", rho, False),
        ("elr", "Effective learning rate", _elr_label(log), log.elr, True),
        ("eg", "Effective gradient", "effective gradient norm", log.eg, True),
        ("turn", "Rotation of a step", "1 − cos(xₜ, xₜ₊₁)", cosine_distance(log), True),
    ]
    return [
        _panel(found, stem, title, label, values, logarithmic)
        for stem, title, label, values, logarithmic in panels
        if values is not None
    ]


def _elr_label(log: Log) -> str:
    """Say how the ELR follows from lr: ``lr / ρ²``, ``lr / ρ`` or, with momentum 0.9, ``10 lr / ρ²``."""
    pace = "" if log.pace == 1 else f"{log.pace:.3g} "
    return f"{pace}lr / ρ²" if log.law == "sgd" else f"{pace}lr / ρ"


def _panel(found: Periods, stem: str, title: str, label: str, values: Floats, logarithmic: bool) -> Drawing:
    wide = stem == "turn"  # the fifth of five
    phases = ", ".join(f"{phase} {PHASE_WORDS[phase]}" for phase in found.stretches())
    caption = "Line: median of stretches of steps; band: their range."
    if stem == "turn" and found.envelopes:
        caption += " Dashed: what Proposition 1 allows with l and L (percentiles 1 and 99) of phase B before."
    shaded = f"; shaded: {phases}" if phases else ""
    size, alt = _WIDE if wide else _PANEL, f"{title} against step{shaded}"
    drawing, axes = new_drawing(size, f"steps-{stem}", title, caption, alt, "step", label, wide=wide)
    step = found.log.step
    with style.style():
        span = (step[0], max(int(step[-1]), int(step[0]) + 1))
        around = limits([values], logarithmic)
        if not drawing.frame(axes, span, around, "y" if logarithmic else "", empty="no positive value"):
            return drawing
        shade(axes, found.stretches())
        x, low, middle, high = stretches(step, values, logarithmic)
        colour = style.elr_colour(0.0)
        axes.fill_between(x, low, high, color=colour, alpha=0.25, lw=0)
        (line,) = axes.plot(x, middle, color=colour, lw=1.3)
        drawing.point_at(line, axes, "run", f"{clean(title)}: last {show(float(values[-1]))}")
        if stem == "turn":
            for one in found.envelopes:
                for edge in (one.low, one.high):
                    axes.plot(*thin(one.step, edge, 60), color=INK, lw=0.9, ls="--")
    return drawing


def stretches(step: Ints, values: Floats, logarithmic: bool) -> tuple[Floats, Floats, Floats, Floats]:
    """Find middle step, least, median and largest value of equal stretches; all rows where they are few."""
    shown = drawable(values, logarithmic)
    step, values = step[shown], values[shown]
    parts = np.array_split(np.arange(len(step)), min(STRETCHES, len(step)))
    found = [(step[part].mean(), values[part].min(), np.median(values[part]), values[part].max()) for part in parts]
    x, low, middle, high = np.array(found, dtype=np.float64).T
    return x, low, middle, high

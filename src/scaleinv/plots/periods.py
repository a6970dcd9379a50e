"""Draw the phases of periods and their break-downs, from numbers alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleinv.plots import style

PHASE_COLOURS = {"A": "#2d7dc4", "B": "#7d8590", "C": "#c8365f"}
PHASE_WORDS = {"A": "norm grows, loss falls", "B": "norm shrinks, ELR grows", "C": "break-down"}
#: start and length of every stretch of a phase
Stretches = Mapping[str, Sequence[tuple[int, int]]]


def draw_periods(
    step: npt.NDArray[Any],
    lines: Mapping[str, npt.NDArray[np.float64]],
    phases: Stretches,
    break_downs: Sequence[int],
    ax: Any = None,
) -> Any:
    """Draw series over the steps, with phases shaded and break-downs marked; returns the axes of matplotlib.

    - ``step``: shape (n,). ``lines``: values of shape (n,) by name. ``break_downs``: steps. ``ax``: None, a new figure.
    """
    if ax is None:
        _, ax = style.new_figure(7, 3.6)
    with style.style():
        for name, values in lines.items():
            ax.plot(step, values, linewidth=1.1, color=style.INK, label=name)
        shade(ax, phases, named=True)
        for i, event in enumerate(break_downs):
            ax.axvline(event, color=PHASE_COLOURS["C"], linewidth=0.8, label="" if i else "break-down")
        ax.set_xlabel("step")
        if all((values[np.isfinite(values)] > 0).all() for values in lines.values()):
            ax.set_yscale("log")
        ax.legend(fontsize=8, frameon=False)
    return ax


def shade(ax: Any, phases: Stretches, *, named: bool = False) -> None:
    """Draw the phases as bands over the whole height: one shape for each phase; ``named``: for a legend."""
    place = ax.get_xaxis_transform()
    for phase, spans in phases.items():
        # a break-down of a few steps is to be seen among thousands
        alpha, edge = (0.5, 0.8) if phase == "C" else (0.17, 0.0)
        look = {"color": PHASE_COLOURS[phase], "alpha": alpha, "lw": edge, "zorder": 0.5}
        label = f"{phase}: {PHASE_WORDS[phase]}" if named else ""
        ax.broken_barh(spans, (0, 1), transform=place, label=label, **look)

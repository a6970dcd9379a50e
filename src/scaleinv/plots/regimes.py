"""Draw a regime map, and a run over its epochs, from numbers alone: what ``plot()`` of results shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from scaleinv.plots import style
from scaleinv.plots.style import regime_colours, regime_markers, regime_names


def draw_regimes(summary: Mapping[str, Any], ax: Any = None) -> Any:
    """Draw the train loss (filled) and test error (open) of every run over its rate; grey: the boundary intervals.

    - ``summary``: the content of sweep.json. ``ax``: axes of matplotlib to draw on; None: a figure of its own.
    - Returns the axes.
    """
    if ax is None:
        _, ax = style.new_figure(7, 3.6)
    axis = str(summary["axis"])
    rows = [row for row in summary["runs"] if row[axis] is not None and row["train_loss"] is not None]
    with style.style():
        for one in summary["maps"]:
            for found in one["boundaries"].values():
                if found["decided"]:
                    ax.axvspan(found["low"], found["high"], color="#7d8590", alpha=0.18, linewidth=0)
        for regime in (1, 2, 3, None):
            own = [row for row in rows if row["regime"] == regime]
            if own:
                ax.plot(
                    [row[axis] for row in own],
                    [row["train_loss"] for row in own],
                    regime_markers[regime],
                    color=regime_colours[regime],
                    label=f"{regime_names[regime]}, train loss",
                )
        tested = sorted((row[axis], row["test_error"]) for row in rows if row["test_error"] is not None)
        if tested:
            ax.plot(*zip(*tested), "x", color=style.INK, markersize=5, label="test error")
        ax.set_xscale("log")
        if rows and all(row["train_loss"] > 0 for row in rows):
            ax.set_yscale("log")
        ax.set_xlabel("effective learning rate" if axis == "elr" else "learning rate")
        ax.set_ylabel("train loss, test error" if tested else "train loss")
        if rows:
            ax.legend(fontsize=8, frameon=False)
    return ax


def draw_series(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], ax: Any = None, label: str = "epoch"
) -> Any:
    """Draw quantities over the epochs, ``{name: (epochs, values)}``; returns the axes."""
    if ax is None:
        _, ax = style.new_figure(7, 3.6)
    with style.style():
        for name, (epochs, values) in series.items():
            ax.plot(epochs, values, linewidth=1.2, label=name)
        ax.set_xlabel(label)
        if all(value > 0 for _, values in series.values() for value in values if value == value):
            ax.set_yscale("log")
        if series:
            ax.legend(fontsize=8, frameon=False)
    return ax


def draw_levels(ax: Any, levels: Mapping[str, float]) -> Any:
    """Draw values that a series is compared with as dashed lines, named; returns the axes."""
    with style.style():
        for i, (name, value) in enumerate(levels.items()):
            ax.axhline(
                value, color=style.INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1, label=f"{name} {value:.3g}"
            )
        ax.legend(fontsize=8, frameon=False)
    return ax


def draw_relaxation(steps: Any, curves: Mapping[str, Any], ax: Any = None) -> Any:
    """Draw how a norm comes to rest: curves over steps, the level of rest dashed; returns the axes."""
    ax = draw_series({name: (steps, values) for name, values in curves.items()}, ax, "step")
    ax.set_ylabel("norm / norm at equilibrium")
    return draw_levels(ax, {"equilibrium": 1.0})


def regimes_svg(summary: Mapping[str, Any]) -> str:
    """Render :func:`draw_regimes` as an ``<svg>`` element."""
    ax = draw_regimes(summary)
    return style.to_inline_svg(ax.figure, label="Regime map: train loss and test error over the rate")

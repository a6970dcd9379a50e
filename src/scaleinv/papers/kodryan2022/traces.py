"""Runs on the sphere as the figures of Kodryan et al. 2022 show them: curves by epoch, and the eg-loss diagram.

A curve is a dict of plain numbers (:func:`read_curve`), as in the JSON of the figure. Where a run has exact metrics (a
pass over the train set at fixed weights) those are drawn, else means over the training steps of each epoch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaleinv.analysis.regimes import boundaries, classify, window
from scaleinv.analysis.statistics import Floats
from scaleinv.papers.figure import array
from scaleinv.plots import style
from scaleinv.runfolder.read import Run

Curve = Mapping[str, Any]
#: axis labels of the curves
LABELS = {"loss": "train loss", "test_error_percent": "test error, %", "eg": "mean effective gradient norm"}


def read_curve(run: Run) -> dict[str, Any]:
    """Read what is drawn of a run, and the means of its last half."""
    verdict, late = classify(run), window(run)
    (epochs, loss), (_, eg) = (run.series(run.exact_split, "total", quantity) for quantity in ("loss", "eg"))
    test_epochs, error = run.test_error()
    error = 100 * error
    return {
        "run": run.name,
        "elr": run.elr,
        "seed": run.seed,
        "regime": verdict.regime,
        "reason": verdict.evidence["reason"],
        "final_train_loss": _last(loss),
        "final_test_error_percent": _last(error),
        "final_eg": _last(eg),
        "late": {name: _mean(getattr(late, name)) for name in ("loss", "error", "eg", "ess", "cosine")},
        "late_test_error_percent": _mean(error[test_epochs > run.last_epoch / 2]),
        "split": run.exact_split,
        "last_epoch": run.last_epoch,
        "epoch": epochs,
        "loss": loss,
        "eg": eg,
        "test_epoch": test_epochs,
        "test_error_percent": error,
    }


def _last(values: Floats) -> float:
    return float(values[-1]) if len(values) else math.nan


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def starts(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """Return (train loss, eg) at epoch 0 by the exact pass, a point for each seed; runs without that pass have none."""
    return list({run.seed: at for run in runs if (at := run.at_epoch(0)) is not None}.values())


def edges(shown: Sequence[Curve]) -> dict[str, Any]:
    """Return the boundaries between regimes that the runs show."""
    return boundaries([(curve["elr"], curve["seed"] or 0, curve["regime"]) for curve in shown])


def coloured(shown: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return the curves with a ``colour`` each, by ELR."""
    colours = style.elr_colours([curve["elr"] for curve in shown])
    return [{**curve, "colour": colour} for curve, colour in zip(shown, colours)]


def series(curve: Curve, quantity: str) -> tuple[Floats, Floats]:
    """Read ``(epochs, values)`` of loss, eg or test_error_percent (BN statistics recomputed where they always are)."""
    return array(curve["test_epoch" if quantity == "test_error_percent" else "epoch"]), array(curve[quantity])


def against_loss(curve: Curve, quantity: str, since: float = -1.0) -> tuple[Floats, Floats]:
    """Return (train loss, quantity) at the epochs after ``since`` where both were measured."""
    (x_epochs, x), (y_epochs, y) = series(curve, "loss"), series(curve, quantity)
    epochs, left, right = np.intersect1d(x_epochs, y_epochs, return_indices=True)
    keep = epochs > since
    return x[left][keep], y[right][keep]


def draw_curves(axes: Any, shown: Sequence[Curve], quantity: str, *, log: bool) -> None:
    """Draw a quantity by epoch."""
    for curve in shown:
        regime = curve["regime"]
        name = f"ELR {style.power_of_ten(curve['elr'])}: " + (f"regime {regime}" if regime else "undecided")
        axes.plot(*series(curve, quantity), color=curve["colour"], lw=1.2, label=name)
    if log:
        style.log_axis(axes, "y")
    axes.set(xlabel="epoch", ylabel=LABELS[quantity])


def draw_path(axes: Any, curve: Curve, quantity: str = "eg", *, marker: str = ".") -> None:
    """Draw a run in the diagram: one dot an evaluation, joined by a faint line."""
    x, y = against_loss(curve, quantity)
    axes.plot(x, y, color=curve["colour"], lw=0.7, alpha=0.35)
    axes.plot(x, y, marker, color=curve["colour"], ms=4, mew=0.0 if marker == "." else 0.9, alpha=0.85)


def finish_diagram(axes: Any, quantity: str = "eg") -> None:
    """Scale and label the axes of the diagram; call it last."""
    style.log_axis(axes, "xy" if quantity == "eg" else "x")
    axes.set(xlabel=LABELS["loss"], ylabel=LABELS[quantity])


def zoom(axes: Sequence[Any], shown: Sequence[Curve], highest: float = 0.1) -> None:
    """Leave out the first epochs of converging runs, which take most of the room; call it after ``finish_diagram``."""
    lowest = 0.8 * min(float(np.nanmin(array(curve["loss"]))) for curve in shown)
    if lowest > 0.1 * highest:
        return
    for ax in axes:
        ax.set_xlim(lowest, highest)
        style.log_ticks(ax.xaxis, lowest, highest)


def mark_end(axes: Any, curve: Curve) -> None:
    """Draw a large mark at the mean of a run's last half, by regime."""
    look = {"color": style.regime_colours[curve["regime"]], "ms": 8, "mec": style.INK, "mew": 0.8, "zorder": 5}
    at = array([curve["late"]["loss"], curve["late"]["eg"]])
    axes.plot(*at, style.regime_markers[curve["regime"]], **look)


def regime_legend(axes: Any, shown: Sequence[Curve], start: bool, loc: str) -> None:
    """Explain the marks of :func:`mark_end` and the star at the ``start``."""
    for regime in sorted({curve["regime"] for curve in shown}, key=lambda r: 9 if r is None else r):
        label = f"{regime}: {style.regime_names[regime]}" if regime else style.regime_names[regime]
        look = {"color": style.regime_colours[regime], "ms": 7, "mec": style.INK, "mew": 0.8}
        axes.plot([], [], style.regime_markers[regime], label=label, **look)
    if start:
        axes.plot([], [], "*", color=style.INK, ms=8, mew=0, label="start")
    axes.legend(loc=loc)


def elr_legend(fig: Any, shown: Sequence[Curve], words: str = "ELR", extra: Any = None) -> None:
    """Add one entry for each ELR below the figure, after those of the axes ``extra``."""
    from matplotlib.lines import Line2D

    handles = [] if extra is None else list(extra.get_legend_handles_labels()[0])
    handles += [
        Line2D([], [], color=curve["colour"], marker=".", lw=0.8, label=f"{words} {style.power_of_ten(curve['elr'])}")
        for curve in shown
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)


def draw_edges(axes: Any, shown: Sequence[Curve]) -> None:
    """Draw dashed lines in the diagram, half-way (in the logarithm) between the late losses of neighbouring regimes."""
    late = {
        regime: [c["late"]["loss"] for c in shown if c["regime"] == regime and c["late"]["loss"] is not None]
        for regime in (1, 2, 3)
    }
    for below in (1, 2):
        low, high = late[below], late[below + 1]
        if low and high and max(low) < min(high):
            axes.axvline(math.sqrt(max(low) * min(high)), color=style.INK, ls="--", lw=0.9)

"""Runs on the sphere as the figures of Kodryan et al. 2022 show them: curves by epoch, and the diagram of effective
gradient against train loss.

Where a run has exact metrics (a pass over the train set at fixed weights) those are drawn, else means over the training
steps of each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleinv.analysis.regimes import LateEpochs, Verdict, boundaries, classify, window
from scaleinv.plots.style import (
    INK,
    elr_colours,
    log_axis,
    log_ticks,
    power_of_ten,
    regime_colours,
    regime_markers,
    regime_names,
)
from scaleinv.runfolder.read import Run, load_run

Floats = npt.NDArray[np.float64]
#: axis labels of the curves
LABELS = {
    "loss": "train loss",
    "test_error": "test error, %",
    "eg": "mean effective gradient norm",
}


@dataclass(frozen=True)
class Curve:
    """One run; ``before`` is what it went on from, drawn to its left."""

    folder: Path
    colour: str
    label: str = ""

    @cached_property
    def run(self) -> Run:
        """Its metrics."""

        return load_run(self.folder)

    @cached_property
    def verdict(self) -> Verdict:
        """Its regime."""

        return classify(self.run)

    @cached_property
    def window(self) -> LateEpochs:
        """Its last half."""

        return window(self.run)

    @property
    def elr(self) -> float:
        """Of the run."""
        return self.run.elr

    @property
    def name(self) -> str:
        """``ELR 10⁻³: regime 1``."""
        regime = self.verdict.regime
        return self.label or f"ELR {power_of_ten(self.elr)}: " + (f"regime {regime}" if regime else "undecided")

    @property
    def split(self) -> str:
        """``train`` where the exact metrics are there."""
        return self.run.exact_split

    def series(self, quantity: str) -> tuple[Floats, Floats]:
        """``(epochs, values)`` of loss, eg or test_error (percent, BN statistics recomputed where they always are)."""
        if quantity == "test_error":
            epochs, values = self.run.test_error()
            return epochs.astype(float), 100 * values
        epochs, values = self.run.series(self.split, "total", quantity)
        return epochs.astype(float), values

    def against_loss(self, quantity: str, since: float = -1.0) -> tuple[Floats, Floats]:
        """(train loss, quantity) at the epochs after ``since`` where both were measured."""
        (x_epochs, x), (y_epochs, y) = self.series("loss"), self.series(quantity)
        epochs, left, right = np.intersect1d(x_epochs, y_epochs, return_indices=True)
        keep = epochs > since
        return x[left][keep], y[right][keep]

    def late(self, quantity: str) -> Floats:
        """The values of the last half."""
        epochs, values = self.series(quantity)
        return values[epochs > self.run.last_epoch / 2]

    def numbers(self) -> dict[str, Any]:
        """For the JSON: what is drawn and the means of the last half."""
        w = self.window
        losses, gradients, errors = (self.series(q) for q in ("loss", "eg", "test_error"))
        return {
            "run": self.folder.name,
            "elr": self.elr,
            "seed": self.run.seed,
            "regime": self.verdict.regime,
            "reason": self.verdict.evidence["reason"],
            "final_train_loss": _last(losses[1]),
            "final_test_error_percent": _last(errors[1]),
            "final_eg": _last(gradients[1]),
            "late": {q: _mean(getattr(w, q)) for q in ("loss", "error", "eg", "ess", "cosine")},
            "late_test_error_percent": _mean(self.late("test_error")),
            "split": self.split,
            "epoch": losses[0],
            "loss": losses[1],
            "eg": gradients[1],
            "test_epoch": errors[0],
            "test_error_percent": errors[1],
        }


def _last(values: Floats) -> float:
    return float(values[-1]) if len(values) else math.nan


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def curves(folders: Sequence[Path], elrs: Sequence[float | None]) -> list[Curve]:
    """The runs in the order asked for, coloured by ELR."""
    return [Curve(folder, colour) for folder, colour in zip(folders, elr_colours([e or math.nan for e in elrs]))]


def draw_curves(axes: Any, shown: Sequence[Curve], quantity: str, *, log: bool, shift: float = 0.0) -> None:
    """A quantity by epoch; ``shift`` epochs are added (a run that goes on from another)."""
    for curve in shown:
        epochs, values = curve.series(quantity)
        axes.plot(epochs + shift, values, color=curve.colour, lw=1.2, label=curve.name)
    if log:
        log_axis(axes, "y")
    axes.set_xlabel("epoch")
    axes.set_ylabel(LABELS[quantity])


def draw_path(axes: Any, curve: Curve, quantity: str = "eg", *, marker: str = ".") -> None:
    """A run in the diagram: one dot an evaluation, joined by a faint line."""
    x, y = curve.against_loss(quantity)
    axes.plot(x, y, color=curve.colour, lw=0.7, alpha=0.35)
    axes.plot(x, y, marker, color=curve.colour, ms=4, mew=0.0 if marker == "." else 0.9, alpha=0.85)


def starts(shown: Sequence[Curve]) -> list[tuple[float, float]]:
    """Train loss and effective gradient at epoch 0, by the exact pass: one point for each seed, whatever the ELR. Runs
    without that pass have none.
    """
    points = {curve.run.seed: at for curve in shown if (at := curve.run.at_epoch(0)) is not None}
    return list(points.values())


def draw_starts(axes: Any, shown: Sequence[Curve]) -> None:
    """A star where training began."""
    for at in starts(shown):
        axes.plot(*at, "*", color=INK, ms=9, mew=0, zorder=4)


def finish_diagram(axes: Any, quantity: str = "eg") -> None:
    """Axes and labels of the diagram; call it last."""
    log_axis(axes, "xy" if quantity == "eg" else "x")
    axes.set_xlabel(LABELS["loss"])
    axes.set_ylabel(LABELS[quantity])


def zoom(axes: Sequence[Any], shown: Sequence[Curve], highest: float = 0.1) -> None:
    """Leave out the first epochs of converging runs, which take most of the room; call it after ``finish_diagram``."""
    lowest = 0.8 * min(float(curve.series("loss")[1].min()) for curve in shown)
    if lowest > 0.1 * highest:
        return
    for ax in axes:
        ax.set_xlim(lowest, highest)
        log_ticks(ax.xaxis, lowest, highest)


def mark_end(axes: Any, curve: Curve) -> None:
    """A large mark at the mean of a run's last half, by regime."""
    regime, w = curve.verdict.regime, curve.window
    look = {"color": regime_colours[regime], "ms": 8, "mec": INK, "mew": 0.8, "zorder": 5}
    axes.plot(_mean(w.loss), _mean(w.eg), regime_markers[regime], **look)


def regime_legend(axes: Any, shown: Sequence[Curve], loc: str = "best") -> None:
    """What the marks of :func:`mark_end` mean."""
    for regime in sorted({c.verdict.regime for c in shown}, key=lambda r: 9 if r is None else r):
        label = f"{regime}: {regime_names[regime]}" if regime else regime_names[regime]
        look = {"color": regime_colours[regime], "ms": 7, "mec": INK, "mew": 0.8}
        axes.plot([], [], regime_markers[regime], label=label, **look)
    if starts(shown):
        axes.plot([], [], "*", color=INK, ms=8, mew=0, label="start")
    axes.legend(loc=loc)


def elr_legend(fig: Any, shown: Sequence[Curve], words: str = "ELR", extra: Any = None) -> None:
    """One entry for each ELR below the figure, after those of the axes ``extra``."""
    from matplotlib.lines import Line2D

    handles = [] if extra is None else list(extra.get_legend_handles_labels()[0])
    handles += [
        Line2D([], [], color=c.colour, marker=".", lw=0.8, label=f"{words} {power_of_ten(c.elr)}") for c in shown
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)


def edges(shown: Sequence[Curve]) -> dict[str, Any]:
    """The boundaries between regimes that the runs show."""

    return boundaries([(c.elr, c.run.seed or 0, c.verdict.regime) for c in shown])


def draw_edges(axes: Any, shown: Sequence[Curve]) -> None:
    """Dashed lines in the diagram: half-way (in the logarithm) between the late losses of neighbouring regimes."""
    for below in (1, 2):
        low = [_mean(c.window.loss) for c in shown if c.verdict.regime == below]
        high = [_mean(c.window.loss) for c in shown if c.verdict.regime == below + 1]
        if low and high and max(low) < min(high):
            axes.axvline(math.sqrt(max(low) * min(high)), color=INK, ls="--", lw=0.9)

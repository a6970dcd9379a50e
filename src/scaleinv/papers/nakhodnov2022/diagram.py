"""Shared by figures of runs on the sphere: loss against time, and mean effective gradient against loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.analysis.blocks import in_blocks
from scaleinv.analysis.regimes import boundaries, classify
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.plots.style import (
    INK,
    elr_colours,
    log_axis,
    new_figure,
    power_of_ten,
    regime_colours,
    regime_markers,
    regime_names,
    style,
)
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps


def trace(folder: Path) -> dict[str, Any]:
    """What one run contributes: ELR, regime with its reason, block means of loss, eg, ESS and cosine.

    ``start`` is (loss, eg) at the first weights: of the whole train set where an exact pass saw them, else of the first
    batch, which all rates of a seed share.
    """

    run, steps = in_blocks(folder), load_steps(folder)
    verdict = classify(run)
    online = {name: run.table("online", "total", name) for name in ("loss", "error", "eg", "ess", "cosine")}
    late = len(online["loss"].values) // 2
    return {
        "elr": run.elr,
        "seed": run.seed,
        "regime": verdict.regime,
        "reason": verdict.evidence["reason"],
        "steps": online["loss"].steps,
        "start": load_run(folder).at_epoch(0) or (float(steps.loss[0]), float(steps.eg[0])),
        **{name: series.values for name, series in online.items()},
        "late": {name: float(series.values[late:].mean()) for name, series in online.items()},
    }


def trace_all(context: Context, requests: Sequence[Any]) -> list[dict[str, Any]]:
    """Train what is missing and read the traces, by rising ELR."""
    return sorted((trace(folder) for folder in context.folders(requests)), key=lambda t: (t["elr"], t["seed"]))


def edges(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The boundaries between regimes that the traces show."""

    return boundaries([(t["elr"], t["seed"], t["regime"]) for t in traces])


def draw_traces(traces: Sequence[dict[str, Any]], title: str, context: Context, numbers: dict[str, Any]) -> Drawn:
    """Two panels. A dot is a mean over a sixtieth of the run, a star its first, the large mark the mean of its last
    half, shaped and coloured by regime.
    """

    fig, (time, diagram) = new_figure(8.6, 3.9, ncols=2)
    colours = elr_colours([t["elr"] for t in traces])
    with style():
        for t, colour in zip(traces, colours):
            name = f"ELR {power_of_ten(t['elr'])}: " + (f"regime {t['regime']}" if t["regime"] else "undecided")
            time.plot(t["steps"], t["loss"], color=colour, lw=1.2, label=name)
            diagram.plot(t["loss"], t["eg"], ".", color=colour, ms=3.5, alpha=0.75)
        for start in {t["seed"]: t["start"] for t in traces}.values():
            diagram.plot(*start, "*", color=INK, ms=7, mew=0)
        for t in traces:
            mark = regime_markers[t["regime"]]
            diagram.plot(
                t["late"]["loss"], t["late"]["eg"], mark, color=regime_colours[t["regime"]], ms=8, mec=INK, mew=0.8
            )
        for regime in sorted({t["regime"] for t in traces}, key=lambda r: 9 if r is None else r):
            label = f"{regime}: {regime_names[regime]}" if regime else regime_names[regime]
            diagram.plot(
                [], [], regime_markers[regime], color=regime_colours[regime], ms=7, mec=INK, mew=0.8, label=label
            )
        diagram.plot([], [], "*", color=INK, ms=7, mew=0, label="start")
        log_axis(time, "y")
        log_axis(diagram, "xy")
        time.set_xlabel("step")
        time.set_ylabel("train loss")
        time.set_title(title)
        diagram.set_xlabel("train loss")
        diagram.set_ylabel("mean effective gradient norm")
        diagram.set_title("Effective gradient against loss")
        diagram.legend(loc="best")
        fig.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return finish(fig, context, numbers)


def table(traces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers a reader wants of every run."""
    keep = ("elr", "seed", "regime", "reason", "late")
    return [{**{key: t[key] for key in keep}, "final_loss": float(np.asarray(t["loss"])[-1])} for t in traces]

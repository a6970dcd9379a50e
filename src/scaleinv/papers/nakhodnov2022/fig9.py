"""Fig. 9 (after Nakhodnov et al. 2022): squared loss on the full set, where no ELR converges, and on a few objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaleinv.analysis.blocks import in_blocks
from scaleinv.analysis.regimes import boundaries, classify
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022.traces import mark_end, regime_legend
from scaleinv.papers.nakhodnov2022 import runs as squared
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, power_of_ten, style
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import Request


def numbers_left(context: Context) -> dict[str, Any]:
    """Read the runs on the full set."""
    return collect(context, squared.full(context.scale))


def numbers_right(context: Context) -> dict[str, Any]:
    """Read the runs on the first few objects alone."""
    return collect(context, squared.small(context.scale))


def collect(context: Context, requests: Sequence[Request]) -> dict[str, Any]:
    """Collect the runs by rising ELR: ``runs`` is what a reader wants of each, ``traces`` what is drawn."""
    traces = sorted((trace(folder) for folder in context.folders(requests)), key=lambda t: (t["elr"], t["seed"]))
    settings = requests[0].settings
    kept, drawn = ("elr", "seed", "regime", "reason", "late"), ("elr", "start", "steps", "loss", "eg", "cosine")
    return {
        "head_norm": settings.head_norm,
        **({"objects": settings.subset} if settings.subset else {}),
        "boundaries": boundaries([(t["elr"], t["seed"], t["regime"]) for t in traces]),
        "runs": [{**{key: t[key] for key in kept}, "final_loss": float(t["loss"][-1])} for t in traces],
        "traces": [{key: t[key] for key in drawn} for t in traces],
    }


def trace(folder: Path) -> dict[str, Any]:
    """Read what one run contributes: ELR, regime with its reason, block means of loss, eg, ESS and cosine.

    ``start``: (loss, eg) at the first weights, by an exact pass, else of the first batch, which a seed's rates share.
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


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw loss and the diagram, by ELR. A dot is a mean over a sixtieth of the run, a star its first, the large mark
    the mean of its last half, shaped and coloured by regime.
    """
    runs, traces = numbers["runs"], numbers["traces"]
    fig, (time, diagram) = new_figure(8.6, 3.9, ncols=2)
    for run, t, colour in zip(runs, traces, elr_colours([run["elr"] for run in runs])):
        name = f"ELR {power_of_ten(run['elr'])}: " + (f"regime {run['regime']}" if run["regime"] else "undecided")
        time.plot(t["steps"], array(t["loss"]), color=colour, lw=1.2, label=name)
        diagram.plot(array(t["loss"]), array(t["eg"]), ".", color=colour, ms=3.5, alpha=0.75)
    for start in {run["seed"]: t["start"] for run, t in zip(runs, traces)}.values():
        diagram.plot(*array(start), "*", color=INK, ms=7, mew=0)
    for run in runs:
        mark_end(diagram, run)
    log_axis(time, "y")
    log_axis(diagram, "xy")
    time.set(xlabel="step", ylabel="train loss")
    time.set_title("Squared loss, " + (f"{numbers['objects']} objects" if "objects" in numbers else "full set"))
    diagram.set(xlabel="train loss", ylabel="mean effective gradient norm", title="Effective gradient against loss")
    regime_legend(diagram, runs, start=True, loc="best")
    fig.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig

"""Runs in the whole space as the figures of Lobacheva et al. 2021 show them: one curve a learning rate, by epochs.

A trace is a dict of plain numbers (:func:`read_trace`), as in the JSON of the figure.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaleinv.analysis.periods import Periods, find_periods
from scaleinv.papers.context import Context
from scaleinv.papers.figure import array
from scaleinv.plots.style import elr_colours, power_of_ten
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps
from scaleinv.studies.obtain import Request

Trace = Mapping[str, Any]
#: of the curves of one run: at epoch 0 the first row of the step record, then means over each epoch's steps
QUANTITIES = ("loss", "rho", "eg", "elr")


def read_traces(context: Context, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Read the runs in the order asked for; train those that are missing."""
    folders = context.folders(requests)
    return [
        read_trace(folder, request.lr or 0.0, request.settings.weight_decay)
        for folder, request in zip(folders, requests)
    ]


def read_trace(folder: Path, lr: float, wd: float) -> dict[str, Any]:
    """Read what is drawn of a run, and its periods; test errors with running BN statistics as in the paper."""
    run, steps, found = load_run(folder), load_steps(folder), find_periods(folder)
    table = run.table("online", "total", "loss")
    curves = {name: run.series("online", "total", name)[1].tolist() for name in QUANTITIES}
    test_epochs, error = run.series("test", "total", "error")
    return {
        "run": folder.name,
        "lr": lr,
        "wd": wd,
        "lr_wd": lr * wd,
        "steps": len(steps),
        "steps_per_epoch": int(table.steps[0] // table.epochs[0]),
        "verdict": found.verdict,
        "answer": found.answer,
        "said": said(found),
        "break_downs": [event.step for event in found.break_downs],
        "elr_at_break_downs": [event.elr for event in found.break_downs],
        "lowest_loss_before": [event.min_loss for event in found.break_downs],
        "mean_interval": found.mean_interval,
        "interval": list(found.confidence),
        "mean_interval_lr_wd": found.interval_time.mean,
        "epoch": [0.0, *table.epochs.astype(float)],
        **{name: [float(getattr(steps, name)[0]), *values] for name, values in curves.items()},
        "test_epoch": test_epochs.astype(float),
        "test_error_percent": 100 * error,
    }


def said(found: Periods) -> str:
    """Say in a few words what the analysis found in a run."""
    if found.diverged_at is not None:
        return f"diverged at step {found.diverged_at}"
    if found.verdict == "periodic":
        return f"{len(found.periods)} periods, mean {found.interval_time.mean:.2g}/(lr wd)"
    if found.verdict == "undecided" and found.break_downs:
        return break_downs(len(found.break_downs))
    return {"not yet": "no period yet"}.get(found.verdict, found.verdict)


def break_downs(count: int) -> str:
    """Write a count: ``no break-downs``, ``1 break-down``."""
    return f"{count or 'no'} break-down{'s' * (count != 1)}"


def rate_text(lr: float) -> str:
    """Write a rate: ``LR 0.03``."""
    return f"LR {power_of_ten(lr)}"


def rate_colours(rates: Iterable[float]) -> dict[float, str]:
    """Give each rate a colour, even steps by its rank: rates are few and far apart."""
    ranked = sorted(set(rates))
    return dict(zip(ranked, elr_colours(10.0**k for k in range(len(ranked)))))


def draw_trace(axes: Any, trace: Trace, quantity: str, **look: Any) -> None:
    """Draw a quantity by epoch."""
    epochs = "test_epoch" if quantity == "test_error_percent" else "epoch"
    axes.plot(trace[epochs], array(trace[quantity]), lw=1.1, **look)

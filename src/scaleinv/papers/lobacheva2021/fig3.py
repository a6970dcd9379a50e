"""Fig. 3 (Lobacheva et al. 2021): one weight decay, several learning rates: no period yet, periods, equilibrium."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from scaleinv.lab.config import Settings
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.lobacheva2021.traces import Trace, obtain_traces
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, style

_CIFAR = {"data": "cifar10", "model": "convnet", "width": 8, "weight_decay": 1e-2}


@dataclass(frozen=True)
class Setup:
    """What is trained at a scale; all runs have one length."""

    settings: dict[str, Any]
    rates: tuple[float, ...]


#: the rates are one too small for a period within the horizon, periodic ones, and one in equilibrium
SETUPS = {
    "digits": Setup(
        {"data": "digits", "model": "convnet", "weight_decay": 4e-3, "steps": 11_000, "keep_every": 1, "eval_every": 1},
        (0.0075, 0.075, 0.15, 7.5),
    ),
    # minutes: so few images are fitted within a period of 1/(lr wd) = 1000 steps
    "cifar-tiny": Setup({**_CIFAR, "subset": 500, "batch_size": 16, "steps": 6000, "eval_every": 20}, (0.01, 0.1, 1.0)),
    # batch 32 and not 128: a period is a number of steps, and a step costs as many images as it sees; width 8 has too
    # few weights to fit 5000 images, and rests in equilibrium at LR 0.01
    "cifar-small": Setup(
        {**_CIFAR, "width": 16, "subset": 5000, "batch_size": 32, "steps": 60_000, "eval_every": 8},
        (0.01, 0.03, 1.0),
    ),
    # as in the paper: 1000 epochs of 391 steps
    "paper": Setup({**_CIFAR, "width": 32, "weight_decay": 1e-3, "steps": 391_000}, (0.001, 0.01, 0.03, 1.0)),
}


def settings(scale: str) -> Settings:
    """Of all runs of the figure at ``scale``."""

    return replace(Settings(evaluation="online"), **{"eval_every": 1, **SETUPS[scale].settings})


def runs(context: Context) -> list[Trace]:
    """The runs of the figure, by rising learning rate; fig1 and fig4 show some of them again."""
    rates = SETUPS[context.scale].rates
    return obtain_traces(context, [settings(context.scale)] * len(rates), rates)


def draw(context: Context) -> Drawn:
    """Four panels; one dot an epoch in the phase diagram, a star at the start."""
    return draw_traces(runs(context), context)


def draw_traces(shown: list[Trace], context: Context) -> Drawn:
    """The figure of any runs that differ in the learning rate."""

    fig, axes = new_figure(8.6, 6.4, ncols=2, nrows=2)
    loss, error, norm, phase = axes.flat
    with style():
        for trace in shown:
            look = {"color": trace.colour, "lw": 1.1}
            loss.plot(*trace.curve("loss"), label=f"{trace.rate_text}: {trace.said}", **look)
            error.plot(*trace.test_error(), **look)
            norm.plot(*trace.curve("rho"), **look)
            elr, eg = trace.curve("elr")[1], trace.curve("eg")[1]
            phase.plot(elr[1:], eg[1:], ".", color=trace.colour, ms=3.2, mew=0, alpha=0.75)
        for trace in shown:  # over all dots
            elr, eg = trace.curve("elr")[1], trace.curve("eg")[1]
            phase.plot(elr[0], eg[0], "*", color=INK, ms=9, mew=0, zorder=4)
        for ax, title, label in (
            (loss, "Train loss", "loss, mean of the epoch"),
            (error, "Test error", "error, %"),
            (norm, "Norm of the scale-invariant weights", "ρ"),
        ):
            ax.set_title(title)
            ax.set_ylabel(label)
            ax.set_xlabel("epoch")
            ax.set_xlim(0, None)
        log_axis(loss, "y")
        log_axis(norm, "y")
        error.set_ylim(0, None)
        log_axis(phase, "xy")
        phase.set_title("Phase diagram")
        phase.set_xlabel("effective learning rate, lr/ρ²")
        phase.set_ylabel("effective gradient norm")
        phase.plot([], [], "*", color=INK, ms=9, mew=0, label="start")
        phase.legend(loc="best")
        wd = power_of_ten(shown[0].wd)
        fig.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2, title=f"weight decay {wd}")
    return finish(fig, context, {"scale": context.scale, "runs": [trace.numbers() for trace in shown]})

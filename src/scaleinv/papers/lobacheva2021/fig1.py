"""Fig. 1 (Lobacheva et al. 2021): two networks, several learning rates: the loss breaks down again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.lobacheva2021 import fig3
from scaleinv.papers.lobacheva2021.traces import Trace, obtain_traces
from scaleinv.plots.style import log_axis, new_figure, style

_NAMES = {"digits": "digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


@dataclass(frozen=True)
class Setup:
    """A scale: which of the ConvNet's runs of fig3, and the ResNet-18 beside it."""

    convnet: tuple[float, ...]
    changed: dict[str, Any]  # of fig3's settings
    resnet: tuple[float, ...]


#: the ResNet's weights are longer (as 28.3 to 12.7) and its critical ELR lower: on digits LR 0.3 is next to equilibrium
SETUPS = {
    "digits": Setup((0.0075, 0.075, 0.15), {"steps": 8000, "keep_every": None}, (0.01, 0.03, 0.1)),
    "cifar-small": Setup((0.01, 0.03), {"steps": 30_000}, (0.01, 0.03)),
    "paper": Setup((0.001, 0.01, 0.03), {"data": "cifar100"}, (0.001, 0.01, 0.03)),
}


def draw(context: Context) -> Drawn:
    """Train loss above, norm below; a column for each network."""
    setup, base = SETUPS[context.scale], fig3.settings(context.scale)
    convnet = obtain_traces(context, [base] * len(setup.convnet), setup.convnet)
    changed = replace(base, model="resnet18", eval_every=10**6, **setup.changed)
    resnet = obtain_traces(context, [changed] * len(setup.resnet), setup.resnet)
    columns = {
        f"ConvNet on {_NAMES[base.data]}": convnet,
        f"ResNet-18 on {_NAMES[changed.data]}": resnet,
    }
    return draw_columns(columns, context)


def draw_columns(columns: Mapping[str, Sequence[Trace]], context: Context) -> Drawn:
    """The figure of any runs, by title of their column."""

    fig, axes = new_figure(4.3 * len(columns), 5.6, ncols=len(columns), nrows=2, sharex="col", squeeze=False)
    with style():
        for (title, shown), (loss, norm) in zip(columns.items(), axes.T):
            for trace in shown:
                label = f"{trace.rate_text}: {trace.said}"
                loss.plot(*trace.curve("loss"), color=trace.colour, lw=1.1, label=label)
                norm.plot(*trace.curve("rho"), color=trace.colour, lw=1.1)
            loss.set_title(title)
            log_axis(loss, "y")
            log_axis(norm, "y")
            norm.set_xlim(0, None)
            norm.set_xlabel("epoch")
            norm.legend(*loss.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, -0.22))
        axes[0, 0].set_ylabel("train loss")
        axes[1, 0].set_ylabel("norm ρ")
    numbers = {title: [trace.numbers() for trace in shown] for title, shown in columns.items()}
    return finish(fig, context, {"scale": context.scale, "columns": numbers})

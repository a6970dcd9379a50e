"""Fig. 1 (Lobacheva et al. 2021): two networks, several learning rates: the loss breaks down again and again."""

from __future__ import annotations

from typing import Any

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.lobacheva2021.runs_figures import networks
from scaleinv.papers.lobacheva2021.traces import draw_trace, rate_colours, rate_text, read_traces
from scaleinv.plots.style import log_axis, new_figure, style

_NAMES = {"digits": "digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def numbers(context: Context) -> dict[str, Any]:
    """The runs by network and data set."""
    columns = {
        f"{network} on {_NAMES[requests[0].settings.data]}": read_traces(context, requests)
        for network, requests in networks(context.scale).items()
    }
    return {"scale": context.scale, "columns": columns}


@style()
def draw(numbers: Numbers) -> Figure:
    """Train loss above, norm below; a column for each network."""
    columns = numbers["columns"]
    fig, axes = new_figure(4.3 * len(columns), 5.6, ncols=len(columns), nrows=2, sharex="col", squeeze=False)
    for (title, shown), (loss, norm) in zip(columns.items(), axes.T):
        colours = rate_colours(trace["lr"] for trace in shown)
        for trace in shown:
            colour = colours[trace["lr"]]
            draw_trace(loss, trace, "loss", color=colour, label=f"{rate_text(trace['lr'])}: {trace['said']}")
            draw_trace(norm, trace, "rho", color=colour)
        loss.set_title(title)
        log_axis(loss, "y")
        log_axis(norm, "y")
        norm.set(xlim=(0, None), xlabel="epoch")
        norm.legend(*loss.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, -0.22))
    axes[0, 0].set_ylabel("train loss")
    axes[1, 0].set_ylabel("norm ρ")
    return fig

"""Fig. 3 (Lobacheva et al. 2021): one weight decay, several learning rates: no period yet, periods, equilibrium."""

from __future__ import annotations

from typing import Any

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.lobacheva2021.runs_figures import rates
from scaleinv.papers.lobacheva2021.traces import draw_trace, rate_colours, rate_text, read_traces
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, style


def numbers(context: Context) -> dict[str, Any]:
    """The runs by rising learning rate."""
    return {"scale": context.scale, "runs": read_traces(context, rates(context.scale))}


@style()
def draw(numbers: Numbers) -> Figure:
    """Four panels; one dot an epoch in the phase diagram, a star at the start."""
    shown = numbers["runs"]
    colours = rate_colours(trace["lr"] for trace in shown)
    fig, axes = new_figure(8.6, 6.4, ncols=2, nrows=2)
    loss, error, norm, phase = axes.flat
    for trace in shown:
        colour = colours[trace["lr"]]
        draw_trace(loss, trace, "loss", color=colour, label=f"{rate_text(trace['lr'])}: {trace['said']}")
        draw_trace(error, trace, "test_error_percent", color=colour)
        draw_trace(norm, trace, "rho", color=colour)
        elr, eg = array(trace["elr"]), array(trace["eg"])
        phase.plot(elr[1:], eg[1:], ".", color=colour, ms=3.2, mew=0, alpha=0.75)
    for trace in shown:  # over all dots
        phase.plot(trace["elr"][0], trace["eg"][0], "*", color=INK, ms=9, mew=0, zorder=4)
    for ax, title, label in (
        (loss, "Train loss", "loss, mean of the epoch"),
        (error, "Test error", "error, %"),
        (norm, "Norm of the scale-invariant weights", "ρ"),
    ):
        ax.set(title=title, ylabel=label, xlabel="epoch", xlim=(0, None))
    log_axis(loss, "y")
    log_axis(norm, "y")
    error.set_ylim(0, None)
    log_axis(phase, "xy")
    phase.set(title="Phase diagram", xlabel="effective learning rate, lr/ρ²", ylabel="effective gradient norm")
    phase.plot([], [], "*", color=INK, ms=9, mew=0, label="start")
    phase.legend(loc="best")
    wd = power_of_ten(shown[0]["wd"])
    fig.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2, title=f"weight decay {wd}")
    return fig

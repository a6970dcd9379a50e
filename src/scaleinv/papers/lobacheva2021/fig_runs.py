"""Figs. 1 and 3 and the ablation (Lobacheva et al. 2021): runs at several learning rates, by epoch."""

from typing import Any

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.lobacheva2021.runs_figures import ablation, networks, rates
from scaleinv.papers.lobacheva2021.traces import break_downs, draw_trace, rate_colours, rate_text, read_traces
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, regime_colours, style

_NAMES = {"digits": "digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def numbers_networks(context: Context) -> dict[str, Any]:
    """Read the runs by network and data set."""
    columns = {
        f"{network} on {_NAMES[requests[0].settings.data]}": read_traces(context, requests)
        for network, requests in networks(context.scale).items()
    }
    return {"scale": context.scale, "columns": columns}


@style()
def draw_networks(numbers: Numbers) -> Figure:
    """Draw train loss above, norm below; a column for each network."""
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


def numbers_rates(context: Context) -> dict[str, Any]:
    """Read the runs by rising learning rate."""
    return {"scale": context.scale, "runs": read_traces(context, rates(context.scale))}


@style()
def draw_rates(numbers: Numbers) -> Figure:
    """Draw four panels; one dot an epoch in the phase diagram, a star at the start."""
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


def numbers_ablation(context: Context) -> dict[str, Any]:
    """Read the runs with the norm free, fixed as initialised, and fixed at twice that."""
    wanted = ablation(context.scale)
    return {"scale": context.scale, "runs": dict(zip(wanted, read_traces(context, list(wanted.values()))))}


@style()
def draw_ablation(numbers: Numbers) -> Figure:
    """Draw train loss above, norm below."""
    shown = numbers["runs"]
    fig, (loss, norm) = new_figure(6.6, 5.4, nrows=2, sharex=True)
    first = next(iter(shown.values()))
    for (name, trace), colour in zip(shown.items(), (regime_colours[k] for k in (3, 1, 2))):
        label = f"{name}: {break_downs(len(trace['break_downs']))}"
        draw_trace(loss, trace, "loss", color=colour, label=label)
        norm.plot(trace["epoch"], array(trace["rho"]), color=colour, lw=1.3)
    log_axis(loss, "y")
    log_axis(norm, "y")
    loss.set(title=f"{rate_text(first['lr'])}, weight decay {first['wd']:g}", ylabel="train loss, mean of the epoch")
    norm.set(ylabel="norm ρ", xlabel="epoch", xlim=(0, None))
    fig.legend(loc="outside lower center", ncols=1)
    return fig

"""The ablation of Lobacheva et al. 2021: with the norm fixed after every step, below the critical ELR, no periods."""

from __future__ import annotations

from typing import Any

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.lobacheva2021.runs_figures import ablation
from scaleinv.papers.lobacheva2021.traces import break_downs, draw_trace, rate_text, read_traces
from scaleinv.plots.style import log_axis, new_figure, regime_colours, style


def numbers(context: Context) -> dict[str, Any]:
    """The norm free, fixed as initialised, and fixed at twice that."""
    wanted = ablation(context.scale)
    return {"scale": context.scale, "runs": dict(zip(wanted, read_traces(context, list(wanted.values()))))}


@style()
def draw(numbers: Numbers) -> Figure:
    """Train loss above, norm below."""
    shown = numbers["runs"]
    fig, (loss, norm) = new_figure(6.6, 5.4, nrows=2, sharex=True)
    first = next(iter(shown.values()))
    for (name, trace), colour in zip(shown.items(), (regime_colours[k] for k in (3, 1, 2))):
        label = f"{name}: {break_downs(len(trace['destabilisations']))}"
        draw_trace(loss, trace, "loss", color=colour, label=label)
        norm.plot(trace["epoch"], array(trace["rho"]), color=colour, lw=1.3)
    log_axis(loss, "y")
    log_axis(norm, "y")
    loss.set(title=f"{rate_text(first['lr'])}, weight decay {first['wd']:g}", ylabel="train loss, mean of the epoch")
    norm.set(ylabel="norm ρ", xlabel="epoch", xlim=(0, None))
    fig.legend(loc="outside lower center", ncols=1)
    return fig

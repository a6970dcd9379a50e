"""Fig. 8, left (Kodryan et al. 2022): regime 2, the level follows the ELR from above and from below."""

from __future__ import annotations

from typing import Any

from scaleinv.analysis.stationarity import loss_level
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, power_of_ten, style


def numbers(context: Context) -> dict[str, Any]:
    """Two runs in regime 2, each gone on with the ELR between them, and one of that ELR from scratch."""
    net = regimes.find(context.scale)
    elrs = net.equilibrium[:3]
    seed = net.seeds[0]
    low, fresh, high = context.runs(regimes.sweep(net, [seed], elrs))
    starts = {"above": high, "below": low}
    requests = [regimes.relaxed(net, first.folder, elrs[1], seed=seed + 100) for first in starts.values()]
    after = dict(zip(starts, context.runs(requests)))
    levels = {words: loss_level(run).level for words, run in (("scratch", fresh), *after.items())}
    lines = {"high": high, "scratch": fresh, "low": low, **after}
    curves = {words: run.series("online", "total", "loss") for words, run in lines.items()}
    return {
        "scale": context.scale,
        "elrs": elrs,
        "level_from_scratch": [levels["scratch"].value, levels["scratch"].error],
        "level_from": {words: [levels[words].value, levels[words].error] for words in after},
        "curves": {words: {"epoch": epochs, "loss": loss} for words, (epochs, loss) in curves.items()},
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """One panel, with the level of the middle ELR from scratch dotted."""
    fig, ax = new_figure(7.4, 4.2)
    elrs, curves = numbers["elrs"], numbers["curves"]
    middle, colours = power_of_ten(elrs[1]), elr_colours(elrs)
    last = max(curves["scratch"]["epoch"])
    for k, first, then in ((2, "high", "above"), (1, "scratch", None), (0, "low", "below")):
        epochs, loss = curves[first]["epoch"], array(curves[first]["loss"])
        ax.plot(epochs, loss, color=colours[k], lw=1.1, label=f"ELR {power_of_ten(elrs[k])}")
        if then is not None:
            epochs, loss = last + array(curves[then]["epoch"]), array(curves[then]["loss"])
            ax.plot(epochs, loss, color=colours[k], lw=1.1, ls=(0, (4, 1)), label=f"then {middle}, from {then}")
    level = numbers["level_from_scratch"][0]
    ax.axhline(level, color=INK, ls=":", lw=1.0, label=f"level of {middle} from scratch")
    ax.axvline(last, color=INK, lw=0.8, alpha=0.5)
    log_axis(ax, "y")
    ax.set(xlim=(0, 3 * last), xlabel="epoch")
    ax.set(ylabel="train loss", title=f"Regime 2: at the line the ELR becomes {middle}")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig

"""Fig. 8 (Kodryan et al. 2022): regime 2, whose level follows the ELR; from regime 2 to regime 1."""

import itertools
from typing import Any

from scaleinv.analysis.stationarity import loss_level
from scaleinv.lab.weights import read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import surface_of
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, power_of_ten, style


def numbers_left(context: Context) -> dict[str, Any]:
    """Read two runs in regime 2, each continued with the ELR between them, and one of that ELR from scratch."""
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
def draw_left(numbers: Numbers) -> Figure:
    """Draw one panel, with the level of the middle ELR from scratch dotted."""
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


def numbers_right(context: Context) -> dict[str, Any]:
    """Read the runs at both ends of regime 2, those of new ELRs from their ends, and the paths between the latter."""
    net = regimes.find(context.scale)
    seed, new = net.seeds[0], regimes.new_elrs(net)
    elrs = (net.equilibrium[0], net.equilibrium[-1])
    firsts = context.runs(regimes.sweep(net, [seed], elrs))
    # all at once, so that several are trained at a time
    every = context.runs([r for first in firsts for r in regimes.retrained(net, first.folder, new, seed=seed + 100)])
    starts: dict[str, Any] = {}
    for k, (start, first) in enumerate(zip(elrs, firsts)):
        ended = every[k * len(new) : (k + 1) * len(new)]
        surface, ends = surface_of(ended[0].folder), [read_weights(run.folder) for run in ended]
        pairs = itertools.combinations(range(len(new)), 2)
        paths = {f"{new[i]:g} {new[j]:g}": linear_path(surface, ends[i], ends[j]) for i, j in pairs}
        starts[f"{start:g}"] = {
            "train_loss_barriers": {pair: path.barrier().height for pair, path in paths.items()},
            "train_error_barriers": {pair: path.barrier("train_error").height for pair, path in paths.items()},
            "largest_angle": max(path.angle for path in paths.values()),
            "start": sphere.read_curve(first),
            "runs": [sphere.read_curve(run) for run in ended],
        }
    return {"scale": context.scale, "starts": starts}


@style()
def draw_right(numbers: Numbers) -> Figure:
    """Draw a column for each start: its iterates and the runs of new ELRs in the diagram, test error below."""
    fig, axes = new_figure(9.2, 6.4, ncols=2, nrows=2, sharex=True, sharey="row")
    for (top, below), of in zip(axes.T, numbers["starts"].values()):
        before, shown = of["start"], sphere.coloured(of["runs"])
        for ax, quantity in ((top, "eg"), (below, "test_error_percent")):
            iterates = sphere.against_loss(before, quantity, since=before["last_epoch"] / 2)
            ax.plot(*iterates, "D", color=INK, ms=3.5, mew=0, alpha=0.6)
            for curve in shown:
                sphere.draw_path(ax, curve, quantity)
            sphere.finish_diagram(ax, quantity)
        top.set_title(f"From ELR {power_of_ten(before['elr'])} (regime 2)")
        angle, rise = of["largest_angle"], max(of["train_loss_barriers"].values())
        words = f"between the ends: angle up to {angle:.2f} rad,\nbarrier of the train loss up to {rise:.1g}"
        top.text(0.03, 0.95, words, transform=top.transAxes, va="top", fontsize=8.5)
        top.set_xlabel("")
    axes[0, 0].plot([], [], "D", color=INK, ms=4, mew=0, label="iterates of the start")
    sphere.elr_legend(fig, shown, "then ELR", extra=axes[0, 0])
    return fig

"""Fig. 8, left (Kodryan et al. 2022): regime 2, the level follows the ELR from above and from below."""

from __future__ import annotations

from scaleinv.analysis.stationarity import loss_level
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, style


def draw(context: Context) -> Drawn:
    """Two runs in regime 2, each gone on with the ELR between them, beside the level of that ELR from scratch."""

    net = regimes.find(context.scale)
    below, middle, above = net.equilibrium[:3]
    seed = net.seeds[0]
    folders = context.folders(regimes.sweep(net, [seed], [below, middle, above]))
    low, fresh, high = sphere.curves(folders, [below, middle, above])
    starts = (high, low)
    requests = [regimes.relaxed(net, first.folder, middle, seed=seed + 100) for first in starts]
    continued = dict(zip(starts, context.folders(requests)))
    fig, ax = new_figure(7.4, 4.2)
    found = {}
    with style():
        for first in (high, fresh, low):
            epochs, loss = first.run.series("online", "total", "loss")
            last = int(epochs[-1])
            ax.plot(epochs, loss, color=first.colour, lw=1.1, label=f"ELR {power_of_ten(first.elr)}")
            if first is fresh:
                continue
            after = sphere.Curve(continued[first], fresh.colour)
            epochs, loss = after.run.series("online", "total", "loss")
            words = "above" if first is high else "below"
            name = f"then {power_of_ten(middle)}, from {words}"
            ax.plot(last + epochs, loss, color=first.colour, lw=1.1, ls=(0, (4, 1)), label=name)
            found[words] = loss_level(after.run)
        level = loss_level(fresh.run)
        ax.axhline(level.level.value, color=INK, ls=":", lw=1.0, label=f"level of {power_of_ten(middle)} from scratch")
        ax.axvline(last, color=INK, lw=0.8, alpha=0.5)
        log_axis(ax, "y")
        ax.set_xlim(0, 3 * last)
        ax.set_xlabel("epoch")
        ax.set_ylabel("train loss")
        ax.set_title(f"Regime 2: at the line the ELR becomes {power_of_ten(middle)}")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    numbers = {
        "scale": context.scale,
        "elrs": [below, middle, above],
        "level_from_scratch": [level.level.value, level.level.error],
        "level_from": {words: [e.level.value, e.level.error] for words, e in found.items()},
    }
    return finish(fig, context, numbers)

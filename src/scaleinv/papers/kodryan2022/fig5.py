"""Fig. 5 (Kodryan et al. 2022): three regimes of training on the sphere."""

from typing import Any

from scaleinv.analysis.transition import gradient_peak, transition_peak
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import INK, new_figure, power_of_ten, style

_NAMES = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}


def numbers(context: Context) -> dict[str, Any]:
    """Read one run for each ELR of the scale's sweep, the first seed."""
    net = regimes.find(context.scale)
    runs = context.runs(regimes.sweep(net, seeds=net.seeds[:1]))
    shown = [sphere.read_curve(run) for run in runs]
    peak = transition_peak([gradient_peak(run) for run, curve in zip(runs, shown) if curve["regime"] != 3])
    return {
        "scale": context.scale,
        "model": net.settings.model,
        "data": net.settings.data,
        "images": net.settings.subset,
        "boundaries": sphere.edges(shown),
        "gradient_peak": {
            "elr": peak.elr,
            "between": [peak.between.low, peak.between.high],
            "decided": peak.decided,
            "late_gradient": {elr: [eg.value, eg.error] for elr, eg in peak.eg},
        },
        "start": sphere.starts(runs),
        "random_directions": runs[0].reference(),
        "runs": shown,
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw loss, test error and effective gradient by epoch, and the diagram."""
    shown, peak = sphere.coloured(numbers["runs"]), numbers["gradient_peak"]
    fig, axes = new_figure(9.6, 7.0, ncols=2, nrows=2)
    (loss, error), (gradient, diagram) = axes
    sphere.draw_curves(loss, shown, "loss", log=True)
    sphere.draw_curves(error, shown, "test_error_percent", log=False)
    error.set_ylim(0, 100)
    sphere.draw_curves(gradient, shown, "eg", log=True)
    for curve in shown:
        sphere.draw_path(diagram, curve)
    for at in numbers["start"]:
        diagram.plot(*at, "*", color=INK, ms=9, mew=0, zorder=4)
    for curve in shown:
        sphere.mark_end(diagram, curve)
    sphere.finish_diagram(diagram)
    sphere.draw_edges(diagram, shown)
    sphere.regime_legend(diagram, shown, bool(numbers["start"]), loc="upper left")
    count = f"{numbers['images']} images of " if numbers["images"] else ""
    loss.set_title(f"Train loss: {numbers['model']}, {count}{_NAMES[numbers['data']]}")
    error.set_title("Test error")
    # which ELR of regimes 1 and 2 has the largest gradient late in the run, where one of them surely has
    where = f": below regime 3 highest at ELR {power_of_ten(peak['elr'])}" if peak["decided"] else ""
    gradient.set_title(f"Effective gradient{where}")
    diagram.set_title("Effective gradient against train loss")
    for ax in (loss, error, gradient):
        ax.set_xlim(0, None)
    fig.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig

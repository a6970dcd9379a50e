"""Fig. 5 (Kodryan et al. 2022): three regimes of training on the sphere."""

from __future__ import annotations

from scaleinv.analysis.transition import TransitionPeak, gradient_peak, transition_peak
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.papers.kodryan2022 import traces as sphere
from scaleinv.plots.style import new_figure, power_of_ten, style

_NAMES = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}


def draw(context: Context) -> Drawn:
    """One run for each ELR of the scale's sweep, the first seed."""

    net = regimes.find(context.scale)
    requests = regimes.sweep(net, seeds=net.seeds[:1])
    shown = sphere.curves(context.folders(requests), [request.elr for request in requests])
    peak = transition_peak([gradient_peak(curve.run) for curve in shown if curve.verdict.regime != 3])
    fig, axes = new_figure(9.6, 7.0, ncols=2, nrows=2)
    (loss, error), (gradient, diagram) = axes
    with style():
        sphere.draw_curves(loss, shown, "loss", log=True)
        sphere.draw_curves(error, shown, "test_error", log=False)
        error.set_ylim(0, 100)
        sphere.draw_curves(gradient, shown, "eg", log=True)
        for curve in shown:
            sphere.draw_path(diagram, curve)
        sphere.draw_starts(diagram, shown)
        for curve in shown:
            sphere.mark_end(diagram, curve)
        sphere.finish_diagram(diagram)
        sphere.draw_edges(diagram, shown)
        sphere.regime_legend(diagram, shown, loc="upper left")
        settings = net.settings
        count = f"{settings.subset} images of " if settings.subset else ""
        loss.set_title(f"Train loss: {settings.model}, {count}{_NAMES[settings.data]}")
        error.set_title("Test error")
        gradient.set_title(f"Effective gradient{_where(peak)}")
        diagram.set_title("Effective gradient against train loss")
        for ax in (loss, error, gradient):
            ax.set_xlim(0, None)
        fig.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    numbers = {
        "scale": context.scale,
        "boundaries": sphere.edges(shown),
        "gradient_peak": {
            "elr": peak.elr,
            "between": [peak.between.low, peak.between.high],
            "decided": peak.decided,
            "late_gradient": {elr: [eg.value, eg.error] for elr, eg in peak.eg},
        },
        "start": sphere.starts(shown),
        "random_directions": shown[0].run.reference(),
        "runs": [curve.numbers() for curve in shown],
    }
    return finish(fig, context, numbers)


def _where(peak: TransitionPeak) -> str:
    """Which ELR of regimes 1 and 2 has the largest gradient late in the run, where one of them surely has."""

    return f": below regime 3 highest at ELR {power_of_ten(peak.elr)}" if peak.decided else ""

"""ELR schedules compared (after Kodryan et al. 2022): where the best one starts and ends."""

from __future__ import annotations

from typing import Any

from scaleinv.analysis.regimes import classify
from scaleinv.analysis.schedules import compare_schedules, errors_by_seed
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.kodryan2022 import runs_conventional as conventional
from scaleinv.papers.kodryan2022.conventional import SEEDS, start
from scaleinv.plots.style import log_axis, new_figure, regime_colours, regime_markers, regime_names, style


def numbers(context: Context) -> dict[str, Any]:
    """Test error of every schedule with its interval over seeds, and the regime of the constant ELRs."""
    requests = conventional.schedules(context.scale, SEEDS)
    runs = {name: context.runs(of) for name, of in requests.items()}
    found = compare_schedules(errors_by_seed(runs))
    constant = {start(name): classify(of[0]) for name, of in runs.items() if name.startswith("constant")}
    return {
        "regimes": {elr: verdict.regime for elr, verdict in constant.items()},
        "reasons": {elr: verdict.evidence["reason"] for elr, verdict in constant.items()},
        "ranking": [
            {
                "name": place.name,
                "start": start(place.name),
                "error": place.error.value,
                "interval": [place.interval.low, place.interval.high],
                "not_distinguishable": place.not_distinguishable,
            }
            for place in found.ranking
        ],
        "seeds": found.seeds,
    }


@style()
def draw(numbers: Numbers) -> Figure:
    """A row for each schedule, the best on top; colour and mark by the regime of its start."""
    ranking = numbers["ranking"][::-1]
    fig, ax = new_figure(7.4, 0.8 + 0.27 * len(ranking))
    seen = set()
    for row, place in enumerate(ranking):
        # a start with no constant run of its own is the one in regime 3
        regime = numbers["regimes"].get(str(place["start"]), 3)
        low, high = (100 * v for v in place["interval"])
        label = None
        if regime not in seen:
            label = "start in regime " + (f"{regime}, {regime_names[regime]}" if regime else "1 or 2, not decided")
        seen.add(regime)
        ax.plot([low, high], [row, row], color=regime_colours[regime], lw=1.5)
        marker = regime_markers[regime]
        ax.plot([100 * place["error"]], [row], marker, color=regime_colours[regime], ms=7, label=label)
    ax.set_yticks(range(len(ranking)), [place["name"] for place in ranking])
    ax.set_xlabel(f"test error, %, mean of {len(numbers['seeds'])} seeds with 95 % interval")
    log_axis(ax, "x")
    ax.set_title("ELR schedules of one length")
    ax.legend(loc="center right")
    return fig

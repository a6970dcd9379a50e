"""Figures of conventional training (after Kodryan et al. 2022): ELR schedules; what full scale invariance costs."""

from typing import Any

import numpy as np

from scaleinv.analysis.regimes import classify
from scaleinv.analysis.schedules import compare_schedules, errors_by_seed
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.kodryan2022 import runs_conventional as conventional
from scaleinv.papers.kodryan2022.conventional import PAIR_SEEDS, SEEDS, best_rates, start
from scaleinv.plots.style import INK, log_axis, new_figure, regime_colours, regime_markers, regime_names, style


def numbers_schedules(context: Context) -> dict[str, Any]:
    """Compute the test error of every schedule with its interval over seeds, and the regime of the constant ELRs."""
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
def draw_schedules(numbers: Numbers) -> Figure:
    """Draw a row for each schedule, the best on top; colour and mark show the regime of its start."""
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


#: name, label
LABELS = {"si": "scale-invariant, head frozen", "standard": "standard"}


def numbers_pair(context: Context) -> dict[str, Any]:
    """Read train losses and test errors of the same conventional training, each network at the rate best for it."""
    pair = conventional.pair(context.scale, PAIR_SEEDS)
    runs = {name: context.runs(of) for name, of in pair.items()}
    errors = errors_by_seed(runs)
    best = dict(zip(LABELS, best_rates(errors)))
    found = compare_schedules(errors).pair(*best.values())
    return {
        "names": best,
        "errors": {variant: errors[name] for variant, name in best.items()},
        "all_errors": errors,
        "difference": found.difference.value,
        "interval": [found.interval.low, found.interval.high],
        "loss": {
            variant: [run.series("online", "total", "loss")[1] for run in runs[name]] for variant, name in best.items()
        },
    }


@style()
def draw_pair(numbers: Numbers) -> Figure:
    """Draw train loss by epoch, and the test errors paired by seed."""
    colours = {"si": regime_colours[1], "standard": regime_colours[2]}
    fig, (left, right) = new_figure(8.2, 3.4, ncols=2)
    for name, label in LABELS.items():
        rate = numbers["names"][name].partition(" ")[2]
        for k, loss in enumerate(numbers["loss"][name]):
            said = None if k else f"{label}, {rate}"
            left.plot(np.arange(1, len(loss) + 1), loss, color=colours[name], lw=1, label=said)
    log_axis(left, "y")
    left.set(xlabel="epoch", ylabel="train loss", title="The same conventional training")
    left.legend(loc="upper right")
    seeds = sorted(set(numbers["errors"]["si"]) & set(numbers["errors"]["standard"]))
    for seed in seeds:
        y = [100 * numbers["errors"][name][seed] for name in LABELS]
        right.plot([0, 1], y, color=INK, alpha=0.35, lw=1)
    for place, name in enumerate(LABELS):
        y = [100 * numbers["errors"][name][seed] for seed in seeds]
        right.plot([place] * len(y), y, "o", color=colours[name], ms=6, alpha=0.8, mew=0)
        right.plot([place - 0.12, place + 0.12], [np.mean(y)] * 2, color=colours[name], lw=2.5)
    low, high = (100 * v for v in numbers["interval"])
    right.set_xlim(-0.5, 1.5)
    right.set_xticks([0, 1], ["scale-invariant", "standard"])
    right.set(ylim=(0, None), ylabel="test error, %")
    right.set_title(f"Difference {100 * numbers['difference']:+.2f} points ({low:+.2f} to {high:+.2f})")
    return fig

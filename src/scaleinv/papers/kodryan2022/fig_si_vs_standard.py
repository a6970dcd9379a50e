"""What full scale invariance costs: a frozen head and affine-free norms against the standard network."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaleinv.analysis.schedules import compare_schedules, errors_by_seed
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers
from scaleinv.papers.kodryan2022 import runs_conventional as conventional
from scaleinv.papers.kodryan2022.conventional import PAIR_SEEDS, best_rates
from scaleinv.plots.style import INK, log_axis, new_figure, regime_colours, style

#: name, label
LABELS = {"si": "scale-invariant, head frozen", "standard": "standard"}


def numbers(context: Context) -> dict[str, Any]:
    """Train losses and test errors of the same conventional training, each network at the rate best for it."""
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
def draw(numbers: Numbers) -> Figure:
    """Train loss by epoch, and the test errors paired by seed."""
    colours = {"si": regime_colours[1], "standard": regime_colours[2]}
    fig, (left, right) = new_figure(8.2, 3.4, ncols=2)
    for name, label in LABELS.items():
        rate = numbers["names"][name].partition(" ")[2]
        for k, loss in enumerate(numbers["loss"][name]):
            left.plot(
                np.arange(1, len(loss) + 1),
                loss,
                color=colours[name],
                lw=1,
                label=None if k else f"{label}, {rate}",
            )
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

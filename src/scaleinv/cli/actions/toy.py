"""Run ``scaleinv toy``: the toy function's predictions beside what a simulation showed, one line per ELR."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.cli.toy import ToyCommand
from scaleinv.papers.figure import write_figure
from scaleinv.papers.kodryan2022 import fig_toy
from scaleinv.plots.style import FORMATS
from scaleinv.runfolder.files import plain, write_json
from scaleinv.runfolder.memory import require
from scaleinv.studies.terminal import say
from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators import toy
from scaleinv.theory.simulators.toy import ToyRecord


def run(command: ToyCommand) -> int:
    """Simulate, draw, print. Exit status 0: done."""
    alphas, elrs = command.alphas(), command.elrs()
    # 100 windows keep 7 means and 4 a group of each start, twice while they are joined
    numbers = 2 * 101 * len(elrs) * command.seeds * (9 + 5 * len(alphas))
    require(8 * numbers, f"{len(elrs)} ELRs, {command.seeds} seeds, {len(alphas)} groups", "take fewer of one of them")
    lines = summarise(toy.simulate(alphas, elrs, command.steps, seeds=command.seeds))
    answer = plain(
        {
            "alpha": alphas,
            "steps": command.steps,
            "seeds": command.seeds,
            "threshold": 1 / sum(alphas),
            "lines": [asdict(line) for line in lines],
        }
    )
    paths: list[Path] = []
    if command.out is not None:
        three = plain(fig_toy.curves(alphas))
        paths += write_figure(fig_toy.draw_regimes(three), three, command.out, "fig6-left", FORMATS).paths
        points = plain(fig_toy.points(alphas, elrs, command.steps, command.seeds))
        paths += write_figure(fig_toy.draw_bifurcation(points), points, command.out, "bifurcation", FORMATS).paths
        paths.append(command.out / "toy.json")
        write_json(paths[-1], answer)
    if command.json:
        say(json.dumps(answer | {"files": [str(path) for path in paths]}))
        return 0
    rows = table(lines)  # plain text, the same on a terminal and in a log
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        say("  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip())
    if not command.quiet:
        for path in paths:
            say(path, file=sys.stderr)
    return 0


@dataclass(frozen=True)
class ToyLine:
    """One ELR: prediction and observation. Means over seeds and the second half of the windows; ``se`` over seeds."""

    elr: float
    k: float  # elr * sum(alpha)
    regime_predicted: int | None
    regime_observed: int | None
    level_predicted: float  # F; NaN at the threshold
    level_observed: float
    level_se: float
    ess_predicted: float  # 0 below the threshold
    ess_observed: float  # median over seeds of the mean
    cosine_predicted: float
    cosine_observed: float
    log_ess_spread: float  # largest over least window mean of log(1 + ess_i^2) among the groups, mean over seeds
    mean_ess_spread: float  # the same of plain means of ESS; above 1 near the neutral centre though the log means agree


def observed_regime(level: float, first_half: float, cosine: float, random_level: float) -> int | None:
    """Read the regime off a run alone.

    1 if F fell below 1e-6 of a random direction's; 3 if F is within 10 % of it and consecutive iterates are nearly
    orthogonal (cosine below 0.1); 2 if the level is stationary (halves of the window agree to 5 %); else undecided.
    """
    if not np.isfinite(level):
        return None
    if level < 1e-6 * random_level:
        return 1
    if cosine < 0.1 and abs(level / random_level - 1) < 0.1:
        return 3
    return 2 if abs(first_half / level - 1) < 0.05 else None


def summarise(record: ToyRecord) -> list[ToyLine]:
    """Make a line per ELR of a run on the sphere (``wd=None``)."""
    windows = len(record.loss)
    late, third = slice(windows // 2, None), slice(windows // 2, max(windows * 3 // 4, windows // 2 + 1))
    last = slice(max(windows - max(windows // 10, 1), 0), None)
    total = float(record.alphas.sum())
    lines = []
    for j, elr in enumerate(record.rates.tolist()):
        k = elr * total
        per_seed = record.loss[late, j].mean(axis=0)
        level, cosine = float(per_seed.mean()), float(record.cosine[late, j].mean())
        final = float(record.loss[last, j].mean())
        # convergence shows at the end, a stationary level in the mean
        regime = observed_regime(final, final, cosine, total / 2)
        if regime != 1:
            regime = observed_regime(level, float(record.loss[third, j].mean()), cosine, total / 2)
        moving = k > 1
        lines.append(
            ToyLine(
                elr=elr,
                k=k,
                regime_predicted=kodryan2022.toy_regime(k),
                regime_observed=regime,
                level_predicted=predicted_level(k) * total,
                level_observed=level,
                level_se=float(per_seed.std(ddof=1) / np.sqrt(per_seed.size)) if per_seed.size > 1 else float("nan"),
                ess_predicted=kodryan2022.equilibrium_ess(k) if moving else 0.0,
                ess_observed=float(np.median(record.ess[late, j].mean(axis=0))),
                cosine_predicted=kodryan2022.equilibrium_cosine(k) if moving else 1.0,
                cosine_observed=cosine,
                log_ess_spread=_spread(record.group_log_ess[late, j]),
                mean_ess_spread=_spread(record.group_ess[late, j]),
            )
        )
    return lines


def predicted_level(k: float) -> float:
    """Compute F / sum(alpha): 0 below k = 1, Proposition 3 above, NaN at 1."""
    if k == 1:
        return float("nan")
    return kodryan2022.equilibrium_level(k) if k > 1 else 0.0


def _spread(values: Any) -> float:
    """Divide the largest group's mean by the least, mean over seeds; values (W, S, n). NaN where nothing moves."""
    means = values.mean(axis=0)
    low, high = means.min(axis=-1), means.max(axis=-1)
    if np.any(low < 1e-12):
        return float("nan")
    return float((high / low).mean())


def table(lines: Sequence[ToyLine]) -> list[tuple[str, ...]]:
    """Write the lines as text, the first row being the heading."""
    head = ("ELR", "k", "regime", "seen", "level", "seen", "s.e.", "ESS", "seen", "cos", "seen", "log spread", "spread")

    def text(value: float | None, form: str) -> str:
        return "-" if value is None or not np.isfinite(value) else format(value, form)

    forms = (".4g", ".3g", "d", "d") + (".4g",) * (len(head) - 4)
    return [head, *(tuple(map(text, astuple(line), forms)) for line in lines)]

"""The toy function's predictions beside what a simulation showed, one line per ELR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaleinv.theory import kodryan2022
from scaleinv.theory.simulators.toy import ToyRecord


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

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN stays NaN."""
        return asdict(self)


def observed_regime(level: float, first_half: float, cosine: float, random_level: float) -> int | None:
    """Regime read off a run alone.

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
    """A line per ELR of a run on the sphere (``wd=None``)."""
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
    """F / sum(alpha): 0 below k = 1, Proposition 3 above, NaN at 1."""
    if k == 1:
        return float("nan")
    return kodryan2022.equilibrium_level(k) if k > 1 else 0.0


def _spread(values: Any) -> float:
    """Largest over least group of the means over windows, mean over seeds; values (W, S, n). NaN where nothing moves."""
    means = values.mean(axis=0)
    low, high = means.min(axis=-1), means.max(axis=-1)
    if np.any(low < 1e-12):
        return float("nan")
    return float((high / low).mean())


def table(lines: Sequence[ToyLine]) -> list[tuple[str, ...]]:
    """The lines as text, the first row being the heading."""

    def name(regime: int | None) -> str:
        return "-" if regime is None else str(regime)

    def number(value: float) -> str:
        return "-" if not np.isfinite(value) else f"{value:.4g}"

    head = ("ELR", "k", "regime", "seen", "level", "seen", "s.e.", "ESS", "seen", "cos", "seen", "log spread", "spread")
    rows = [
        (
            f"{line.elr:.4g}",
            f"{line.k:.3g}",
            name(line.regime_predicted),
            name(line.regime_observed),
            number(line.level_predicted),
            number(line.level_observed),
            number(line.level_se),
            number(line.ess_predicted),
            number(line.ess_observed),
            number(line.cosine_predicted),
            number(line.cosine_observed),
            number(line.log_ess_spread),
            number(line.mean_ess_spread),
        )
        for line in lines
    ]
    return [head, *rows]

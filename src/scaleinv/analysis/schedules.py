"""Compare schedules by paired differences over seeds, and rank them.

All schedules are run with the same seeds, so the difference of two is taken seed by seed, which removes what the seeds
have in common. Its mean has a t interval; over all pairs the confidence is Holm's (1979): all statements hold together
with the stated confidence. Two schedules whose interval contains zero are "not distinguishable".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from scaleinv.analysis.statistics import Estimate, Interval, sample_mean, t_quantile
from scaleinv.errors import UserError, needs
from scaleinv.runfolder.read import Run

with needs("lab"):
    from scipy.special import stdtr


CONFIDENCE = 0.95
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class SchedulePair:
    """Two schedules: ``difference`` = mean over seeds of the first's error minus the second's."""

    first: str
    second: str
    difference: Estimate
    interval: Interval  # of this pair alone, at the stated confidence
    p: float  # two-sided, of "no difference", by t
    p_signs: float  # the same by exchanging the signs of the differences, exact, without a normal law
    seeds: int
    better: str | None  # None: not distinguishable, after Holm's correction over all pairs


@dataclass(frozen=True)
class Place:
    """A schedule in the ranking."""

    name: str
    error: Estimate  # mean over seeds
    interval: Interval
    not_distinguishable: tuple[str, ...]  # from these


@dataclass(frozen=True)
class ScheduleComparison:
    """Schedules by rising mean error, all pairs, and those no other was shown to beat."""

    ranking: tuple[Place, ...]
    pairs: tuple[SchedulePair, ...]
    unbeaten: tuple[str, ...]
    seeds: tuple[int, ...]
    confidence: float

    def pair(self, first: str, second: str) -> SchedulePair:
        """Find a pair, turned so that ``first`` comes first."""
        for found in self.pairs:
            if (found.first, found.second) == (first, second):
                return found
            if (found.first, found.second) == (second, first):
                d, i = found.difference, found.interval
                turned, interval = Estimate(-d.value, d.error), Interval(-i.high, -i.low)
                return replace(found, first=first, second=second, difference=turned, interval=interval)
        raise UserError(f"{first} and {second} are not both in the comparison")


def compare_schedules(errors: Mapping[str, Mapping[int, float]], confidence: float = CONFIDENCE) -> ScheduleComparison:
    """Compare schedules by ``errors[name][seed]``, over the seeds that all of them have.

    >>> noise = [0.0, 0.01, 0.02, 0.01, 0.0]
    >>> found = compare_schedules({
    ...     "constant": {seed: 0.10 + x for seed, x in enumerate(noise)},
    ...     "cosine": {seed: 0.05 + 1.1 * x for seed, x in enumerate(noise)},
    ... })
    >>> found.unbeaten, found.pairs[0].better
    (('cosine',), 'cosine')
    """
    if len(errors) < 2:
        raise UserError("comparing schedules needs at least two of them")
    seeds = tuple(sorted(set.intersection(*(set(of) for of in errors.values()))))
    if len(seeds) < FEWEST_SEEDS:
        raise UserError(f"the schedules share {len(seeds)} seeds; at least {FEWEST_SEEDS} are needed for an interval")
    table = {name: np.array([float(of[seed]) for seed in seeds]) for name, of in errors.items()}
    for name, values in table.items():
        if not np.all(np.isfinite(values)):
            seed = seeds[int(np.argmin(np.isfinite(values)))]
            raise UserError(f"schedule {name}: the error of seed {seed} is unknown")
    width = t_quantile(confidence, len(seeds) - 1)
    all_pairs = []
    for a, b in combinations(table, 2):
        x = table[a] - table[b]
        d = sample_mean(x)
        p = _p(d, len(seeds) - 1)
        all_pairs.append(SchedulePair(a, b, d, d.interval(width), p, _p_signs(x), len(seeds), None))
    shown = _holm([pair.p for pair in all_pairs], 1 - confidence)
    pairs = tuple(
        replace(pair, better=pair.first if pair.difference.value < 0 else pair.second) if different else pair
        for pair, different in zip(all_pairs, shown)
    )
    means = {name: sample_mean(values) for name, values in table.items()}
    ranking = []
    for name in sorted(means, key=lambda n: means[n].value):
        alike = tuple(
            p.second if p.first == name else p.first for p in pairs if not p.better and name in (p.first, p.second)
        )
        ranking.append(Place(name, means[name], means[name].interval(width), alike))
    beaten = {p.second if p.better == p.first else p.first for p in pairs if p.better}
    unbeaten = tuple(place.name for place in ranking if place.name not in beaten)
    return ScheduleComparison(tuple(ranking), pairs, unbeaten, seeds, confidence)


def final_error(run: Run, *, quantity: str = "error_recomputed_bn", split: str = "test", evaluations: int = 1) -> float:
    """Average the last ``evaluations`` of a run's test error; NaN: not measured. 1 for a run that diverged."""
    if run.status == "diverged":
        return 1.0
    values = run.series(split, "total", quantity)[1]
    values = values[np.isfinite(values)]
    return float(values[-evaluations:].mean()) if len(values) else math.nan


def errors_by_seed(
    runs: Mapping[str, Sequence[Run]], *, quantity: str = "error_recomputed_bn"
) -> dict[str, dict[int, float]]:
    """Make the table :func:`compare_schedules` takes, from the runs of every schedule."""
    table: dict[str, dict[int, float]] = {}
    for name, of in runs.items():
        table[name] = {}
        for run in of:
            if run.seed is None or run.seed in table[name]:
                raise UserError(f"schedule {name}: {run.folder} has no seed of its own")
            table[name][run.seed] = final_error(run, quantity=quantity)
    return table


def _p(difference: Estimate, freedom: int) -> float:
    """Compute the two-sided p of a mean of zero; 1 where nothing differs, 0 where all differ by the same."""
    if difference.error > 0:
        return float(2 * stdtr(freedom, -abs(difference.value) / difference.error))
    return 1.0 if difference.value == 0 else 0.0


def _p_signs(x: np.ndarray) -> float:
    """Compute the share of the 2^n choices of signs with a mean as far from zero; of more than 4096, 4096 are drawn."""
    if len(x) <= 12:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(x))))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(4096, len(x)))
        signs[0] = 1.0
    means = np.abs(signs @ x)
    return float(np.mean(means >= abs(float(x.sum())) * (1 - 1e-12)))


def _holm(values: Sequence[float], level: float) -> list[bool]:
    """Tell which hypotheses fall by Holm's step-down rule."""
    order = np.argsort(values, kind="stable")
    passed = np.take(values, order) <= level / np.arange(len(values), 0, -1)
    return [bool(np.all(passed[: rank + 1])) for rank in np.argsort(order)]

"""What the claims conclude about the regimes of a network from numbers: no training, no files, so that a test can show
each to fail. Tolerances were fixed before any verdict was seen.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaleinv.analysis.regimes import THRESHOLD, classify, window
from scaleinv.analysis.statistics import mean
from scaleinv.papers.claim import Sheet
from scaleinv.papers.draws import grid_error
from scaleinv.runfolder.read import Run

JUMP = 10.0  # of the loss at the boundary 1/2 ...
WITHIN = 3.0  # ... between two ELRs no farther apart than this
CORRELATED = 0.3  # cosine of consecutive iterates
CONVERGED, ABOVE = 0.1, 0.5  # shares of epochs above the threshold
ACROSS_SEEDS = 3.0  # the paper's boundary: a factor 2-3


@dataclass(frozen=True)
class Point:
    """What decides the regime of a run, from its last half."""

    rate: float  # ELR on the sphere, learning rate in the whole space
    seed: int
    loss: float
    error: float
    cosine: float
    share: float  # of epochs above 1 % of the loss of the best constant answer
    chance: float  # error of the best constant answer
    falling: bool = False  # loss and effective gradient still fall together, late in the window too
    loss_se: float = 0.0  # standard errors of the means over the window
    error_se: float = 0.0
    cosine_se: float = 0.0
    dead: bool = False  # the gradient is exactly 0: all ReLUs of a layer are silent, and the answer is a constant

    @property
    def better(self) -> bool:
        """Say whether the run does better than guessing, by more than 5 %; one whose error is NaN does not."""
        return self.error < 0.95 * self.chance


def point(run: Run, rate: float) -> Point:
    """Measure the last half of a run."""
    w = window(run)
    assert run.constant_loss is not None  # the lab's own runs have both
    assert run.chance_error is not None
    threshold = THRESHOLD * run.constant_loss
    # a loss that is not finite is above every threshold
    share = float(np.mean(~(w.loss <= threshold))) if len(w.loss) else math.nan
    loss, error, cosine = (float(np.mean(x)) if len(x) else math.nan for x in (w.loss, w.error, w.cosine))
    falling = share > CONVERGED and classify(run).regime == 1
    errors = [mean(x).error for x in (w.loss, w.error, w.cosine)]
    loss_se, error_se, cosine_se = (0.0 if math.isnan(e) else e for e in errors)
    dead = bool(len(w.eg)) and bool(np.all(w.eg == 0))
    chance = run.chance_error
    return Point(rate, run.seed or 0, loss, error, cosine, share, chance, falling, loss_se, error_se, cosine_se, dead)


@dataclass(frozen=True)
class Boundaries:
    """Brackets of the regime boundaries for one seed: the last ELR before each and the first ELR after which every run
    lies beyond it.
    """

    first: tuple[float, float]  # 1/2; NaN where there is none
    second: tuple[float, float]  # 2/3: by the error alone


def boundaries(points: Sequence[Point]) -> Boundaries:
    """Bracket boundary 1/2 by the share of epochs above the threshold and 2/3 by the error of guessing, within 5 %."""
    points = sorted(points, key=lambda p: p.rate)
    return Boundaries(
        _between(points, [p.share <= CONVERGED for p in points], [p.share >= ABOVE for p in points]),
        _between(points, [p.better for p in points], [not p.better for p in points]),
    )


def _between(points: Sequence[Point], near: Sequence[bool], far: Sequence[bool]) -> tuple[float, float]:
    low = high = math.nan
    for p, is_near in zip(points, near):
        low = p.rate if is_near else low
    for p, is_far in reversed(list(zip(points, far))):
        if not is_far:
            break
        high = p.rate
    return low, high


@dataclass(frozen=True)
class Jump:
    """The largest ratio of losses across the boundary 1/2 between ELRs at most a factor 3 apart."""

    ratio: float  # NaN if there are none so close
    log_se: float  # of its logarithm
    most: float  # the same with runs of the intermittent band (share between 0.1 and 0.5) counted on either side


def jump(points: Sequence[Point]) -> Jump:
    """Find the jump of a seed. How long a run of the intermittent band is out of the minimum differs between draws."""
    across = [
        (b.loss / a.loss, math.hypot(a.loss_se / a.loss, b.loss_se / b.loss), b.share >= ABOVE)
        for a in points
        for b in points
        if a.rate < b.rate <= WITHIN * a.rate * (1 + 1e-9)
        and a.share <= ABOVE
        and b.share > CONVERGED
        and b.loss < math.inf
    ]
    sure = max(((ratio, error) for ratio, error, beyond in across if beyond), default=(math.nan, math.nan))
    return Jump(*sure, max((ratio for ratio, _, _ in across), default=math.nan))


def three_regimes(sheet: Sheet, name: str, points: Sequence[Point]) -> list[Boundaries]:
    """Judge the three regimes of one network: the loss jumps, an ELR lies between the jump and chance, and beyond it
    iterates are uncorrelated and errors are chance.

    Every seed is judged with the errors of its means over epochs, and what one of several lacks is undecided. A grid
    that misses a regime, or may step over the middle one, decides nothing; a run of gradient exactly 0 is in no regime.
    """
    found, middle_seen, inside = [], [], []
    same: dict[str, list[str]] = {"jump": [], "cosine": [], "error": []}
    by_seed = {seed: [p for p in points if p.seed == seed] for seed in sorted({p.seed for p in points})}
    for seed, mine in by_seed.items():
        label = f"{name}, seed {seed}"
        bounds = boundaries(mine)
        found.append(bounds)
        inside.append([sum(low < p.rate < high for p in mine) for low, high in (bounds.first, bounds.second)])
        up = jump(mine)
        same["jump"].append(f"{label}: loss over a factor 3 of ELR at 1/2")
        # below the bound it fails only if the intermittent band, on whichever side, does not hold the jump
        settled = up.ratio >= JUMP or up.most < JUMP
        sheet.at_least(same["jump"][-1], up.ratio, JUMP, log_se=up.log_se, given=settled)
        sheet.needs(f"{label}: ELRs in regime 1", sum(p.share <= CONVERGED for p in mine), at_least=1)
        middle_seen.append(_middle_seen(mine))
        if dead := [p.rate for p in mine if p.dead]:
            sheet.note(f"{label}: the gradient is exactly 0 at ELR {', '.join(f'{elr:g}' for elr in dead)}")
        beyond = _beyond(mine, bounds)
        if not beyond:
            sheet.undecided(f"{label}: no run that moves, four times beyond the last ELR that does better than chance")
            continue
        turned, wrong = max(beyond, key=lambda p: abs(p.cosine)), max(beyond, key=lambda p: abs(p.error - p.chance))
        same["cosine"].append(f"{label}: largest |cos| beyond 2/3")
        sheet.at_most(same["cosine"][-1], abs(turned.cosine), CORRELATED, se=turned.cosine_se)
        same["error"].append(f"{label}: error beyond 2/3")
        sheet.close(same["error"][-1], wrong.error, wrong.chance, rel=0.05, se=wrong.error_se)
        sheet.note(f"{label}: 1/2 between {_pair(bounds.first)}, 2/3 between {_pair(bounds.second)}")
    for names in same.values():
        sheet.draws(names)
    sheet.every(f"{name}: seeds with an ELR in regime 2", middle_seen)
    for k, (words, edges) in enumerate((("1/2", [b.first for b in found]), ("2/3", [b.second for b in found]))):
        middles = [math.sqrt(low * high) for low, high in edges]
        if len(middles) > 1:
            known = all(map(math.isfinite, middles))
            ratio = max(middles) / min(middles) if known else math.nan
            # each lies anywhere between its two ELRs, or about the runs of the band between them
            errors = {edge: grid_error(*edge, between[k]) for edge, between in zip(edges, inside)} if known else {}
            error = math.hypot(errors[min(edges)], errors[max(edges)]) if known else math.nan
            sheet.at_most(f"{name}: boundary {words} over seeds, largest over least", ratio, ACROSS_SEEDS, log_se=error)
    return found


def _beyond(points: Sequence[Point], bounds: Boundaries) -> list[Point]:
    """Return the runs that move from four times the last ELR that does better than chance: the onset of regime 3
    reaches over a factor 4, where the error is chance, but iterates are still correlated.
    """
    return [p for p in points if p.rate >= 4 * bounds.second[0] and not p.dead]


def _middle_seen(points: Sequence[Point]) -> bool | None:
    """Say whether a run lies in regime 2. The answer is no only if one that converges and one at chance are neighbours
    within a factor 3; else the grid may step over it.
    """
    points = sorted(points, key=lambda p: p.rate)
    if any(p.share >= ABOVE and p.better for p in points):
        return True
    closed = any(
        a.share <= CONVERGED and not b.better and b.rate <= WITHIN * a.rate * (1 + 1e-9)
        for a, b in itertools.pairwise(points)
    )
    return False if closed else None


def _pair(edge: tuple[float, float]) -> str:
    return f"{edge[0]:.3g} and {edge[1]:.3g}"


def visible(sheet: Sheet, name: str, points: Sequence[Point]) -> None:
    """Judge the regimes along another rate: runs converge, then stay at a level better than chance, then at chance.

    One run out of this order is one draw, and undecided; two are a contradiction. A regime that is not seen may lie
    beyond the ends of the grid, or between two of its rates if these are more than a factor 3 apart.
    """
    points = sorted(points, key=lambda p: p.rate)
    letters = ""
    for p in points:
        if not p.better:
            letters += "3"
        elif p.share <= CONVERGED or p.falling:
            letters += "1"
        else:
            letters += "2" if p.share >= ABOVE else "-"
    decided = letters.replace("-", "")
    runs = "".join(c for k, c in enumerate(decided) if k == 0 or decided[k - 1] != c)
    wrong = out_of_order(decided)
    missing = set("123") - set(decided)
    no_room = any(
        x + y == "13" and b.rate <= WITHIN * a.rate for (x, a), (y, b) in itertools.pairwise(zip(letters, points))
    )
    # what contradicts the claim, and not only what its grid or a single draw leaves open
    contradicted = wrong >= 2 or (missing == {"2"} and no_room)
    sheet.true(f"{name}: regimes by rising rate", runs, "123", given=runs == "123" or contradicted)
    sheet.note(f"{name}: " + ", ".join(f"{p.rate:.3g} {c} (loss {p.loss:.2g})" for p, c in zip(points, letters)))


def out_of_order(letters: str) -> int:
    """Count the letters that have to be left out for the others to be in order.

    >>> out_of_order("112233"), out_of_order("11213"), out_of_order("2211")
    (0, 1, 2)
    """
    longest: list[int] = []  # of the ordered rows that end with each letter
    for k, letter in enumerate(letters):
        longest.append(1 + max((longest[j] for j in range(k) if letters[j] <= letter), default=0))
    return len(letters) - max(longest, default=0)

"""The registry of claims. A file in this package that calls :func:`claim` adds some; nothing else has to be touched.

A check is ``check(context) -> Result``. It fills a :class:`Sheet` with comparisons (measured, expected, tolerance)
decided beforehand and notes, and returns ``sheet.result()``. Its file imports torch and the lab inside functions
only: the list must be quick.

Scales: ``toy`` (no network), ``digits``, ``mnist``, ``cifar-small``, ``paper``; ``quick`` is what is run by default:
toy, digits and whatever a claim marks quick itself.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scaleinv.errors import UserError

Verdict = Literal["holds", "fails", "undecided"]
Scale = Literal["toy", "digits", "mnist", "cifar-small", "paper"]
SCALES: tuple[Scale, ...] = ("toy", "digits", "mnist", "cifar-small", "paper")
#: the data set a scale is about, where it does not come with the package
DATA: dict[Scale, str] = {"mnist": "mnist", "cifar-small": "cifar10", "paper": "cifar10"}
#: core-seconds the quick set may cost in all
QUICK_BUDGET = 1500.0


@dataclass(frozen=True)
class Context:
    """What a check is told: its scale and a folder for run folders, which the claims share (kept between calls, or, if
    ``fresh``, a new one).
    """

    scale: Scale
    runs: Path
    fresh: bool = False


@dataclass(frozen=True)
class Result:
    """Measured and expected values by name, the tolerance of each in words, evidence (a line each), the verdict."""

    verdict: Verdict
    measured: dict[str, Any]
    expected: dict[str, Any]
    tolerance: dict[str, str]
    evidence: str


class Sheet:
    """Comparisons of one check. The claim fails if one fails, is undecided if one is, and an empty sheet decides
    nothing.
    """

    def __init__(self) -> None:
        self.measured: dict[str, Any] = {}
        self.expected: dict[str, Any] = {}
        self.tolerance: dict[str, str] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.notes: list[str] = []

    def close(
        self, name: str, measured: float, expected: float, *, rel: float = 0.0, abs: float = 0.0, se: float = 0.0
    ) -> Verdict:
        """``|measured - expected| <= rel |expected| + abs``. With a standard error: undecided where 2 s.e. reach over
        the edge.
        """
        allowed = rel * math.fabs(expected) + abs
        off = math.fabs(measured - expected)
        words = " + ".join([f"{100 * rel:g} %"] * (rel > 0) + [f"{abs:g}"] * (abs > 0)) or "0"
        verdict = _judge(off + 2 * se <= allowed, off - 2 * se <= allowed, se)
        return self._add(name, measured, expected, words + (f" (s.e. {se:.2g})" if se else ""), verdict)

    def at_most(self, name: str, measured: float, bound: float, *, se: float = 0.0) -> Verdict:
        """``measured <= bound``."""
        verdict = _judge(measured + 2 * se <= bound, measured - 2 * se <= bound, se)
        return self._add(name, measured, f"<= {bound:.6g}", f"s.e. {se:.2g}" if se else "none", verdict)

    def at_least(self, name: str, measured: float, bound: float, *, se: float = 0.0) -> Verdict:
        """``measured >= bound``."""
        verdict = _judge(measured - 2 * se >= bound, measured + 2 * se >= bound, se)
        return self._add(name, measured, f">= {bound:.6g}", f"s.e. {se:.2g}" if se else "none", verdict)

    def true(self, name: str, measured: Any, expected: Any) -> Verdict:
        """Equality of counts, words or booleans."""
        return self._add(name, measured, expected, "none", "holds" if measured == expected else "fails")

    def undecided(self, why: str) -> None:
        """The evidence does not decide, for a reason told."""
        self.verdicts[why] = "undecided"
        self.notes.append(why)

    def note(self, text: str) -> None:
        """A sentence of evidence that decides nothing."""
        self.notes.append(text)

    def _add(self, name: str, measured: Any, expected: Any, tolerance: str, verdict: Verdict) -> Verdict:
        if name in self.measured:
            raise RuntimeError(f"the sheet has {name!r} twice")
        if isinstance(measured, float) and math.isnan(measured):
            verdict = "fails"
        # numbers of numpy become plain ones: results travel between processes and into JSON
        measured, expected = (value.item() if hasattr(value, "item") else value for value in (measured, expected))
        self.measured[name], self.expected[name], self.tolerance[name] = measured, expected, tolerance
        self.verdicts[name] = verdict
        return verdict

    def result(self) -> Result:
        """The verdict over all comparisons; those that do not hold are named in the evidence."""
        found = set(self.verdicts.values())
        verdict: Verdict = "holds"
        if "fails" in found:
            verdict = "fails"
        elif "undecided" in found or not found:
            verdict = "undecided"
        wrong = [self._said(name) for name in self.measured if self.verdicts[name] != "holds"]
        count = len(self.measured)
        evidence = "\n".join([*wrong, *self.notes, f"{count} comparison{'s' * (count != 1)}"])
        return Result(verdict, self.measured, self.expected, self.tolerance, evidence)

    def _said(self, name: str) -> str:
        """``fails: name is 3, expected at most 1 (s.e. 0.2)``."""
        allowed = "" if self.tolerance[name] == "none" else f" ({self.tolerance[name]})"
        expected = _short(self.expected[name]).replace("<=", "at most").replace(">=", "at least")
        return f"{self.verdicts[name]}: {name} is {_short(self.measured[name])}, expected {expected}{allowed}"


def _judge(surely: bool, perhaps: bool, se: float) -> Verdict:
    """Within the bound by 2 s.e., or within 2 s.e. of it; undecided where nobody knows how sure the number is."""
    return "undecided" if math.isnan(se) else "holds" if surely else "undecided" if perhaps else "fails"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


Check = Callable[[Context], Result]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: ``scales`` maps each scale it can be checked at to the cost in core-seconds. Training that
    several claims share is counted once, at one of them.
    """

    id: str
    paper: str
    place: str
    statement: str
    scales: Mapping[Scale, float]
    check: Check
    quick: frozenset[Scale] = field(default_factory=frozenset)

    def is_quick(self, scale: Scale) -> bool:
        """Is this scale of the claim part of the quick set?"""
        return scale in ("toy", "digits") or scale in self.quick


_CLAIMS: dict[str, Claim] = {}
#: helpers of this package that hold no claim
_HELPERS = ("findings", "page", "registry", "verify")


def claim(
    id: str,
    *,
    paper: str,
    place: str,
    statement: str,
    scales: Mapping[Scale, float],
    quick: tuple[Scale, ...] = (),
) -> Callable[[Check], Check]:
    """Register the check of a claim under ``id``."""

    def add(check: Check) -> Check:
        if id in _CLAIMS:
            raise RuntimeError(f"claim {id!r} is registered twice")
        _CLAIMS[id] = Claim(id, paper, place, statement, dict(scales), check, frozenset(quick))
        return check

    return add


def claims() -> dict[str, Claim]:
    """All claims by id, in the order of their ids."""
    import scaleinv.claims as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _HELPERS:
            importlib.import_module(f"scaleinv.claims.{module.name}")
    return dict(sorted(_CLAIMS.items()))


def select(scale: str, only: tuple[str, ...] = ()) -> list[tuple[Claim, Scale]]:
    """The claims of a scale (``quick`` and ``all`` are sets of scales), or of ``only`` those ids; expensive ones
    first.
    """
    if scale not in (*SCALES, "quick", "all"):
        raise UserError(f"scale {scale!r} is not known; choose one of: quick, all, {', '.join(SCALES)}")
    known = claims()
    for id in only:
        if id not in known:
            raise UserError(f"unknown claim {id!r}; `scaleinv verify --list` shows those there are")
    wanted = [known[id] for id in dict.fromkeys(only)] if only else list(known.values())
    chosen = [
        (claim, name)
        for claim in wanted
        for name in claim.scales
        if scale == "all" or name == scale or (scale == "quick" and claim.is_quick(name))
    ]
    if not chosen:
        there = sorted({name for claim in wanted for name in claim.scales})
        raise UserError(f"no claim chosen has the scale {scale!r}; they have: {', '.join(there) or 'none'}")
    return sorted(chosen, key=lambda pair: (-pair[0].scales[pair[1]], pair[0].id))

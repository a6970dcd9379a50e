"""A claim of a paper as data, and the sheet of comparisons that its check fills.

The claims of a paper are listed in ``papers/PAPER/catalogue.ini``. A check is a function ``check(sheet, context)``: it
makes comparisons decided beforehand, states what data they need, and leaves notes. See docs/howto/extend.md.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from scaleinv.papers.scales import Scale

if TYPE_CHECKING:
    from scaleinv.papers.context import Context  # which needs torch; a list of claims does not

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Result:
    """The verdict of a check; by name what was measured, expected and tolerated (in words); evidence, a line each."""

    verdict: Verdict
    measured: dict[str, Any]
    expected: dict[str, Any]
    tolerance: dict[str, str]
    evidence: str


class Sheet:
    """The comparisons that one check makes, and the data they need.

    - A *comparison* (:meth:`close`, :meth:`at_most`, :meth:`at_least`, :meth:`true`, :meth:`answer`, :meth:`every`) is
      a statement of the paper. It holds or fails with a margin of two standard errors of what was measured, and is
      undecided within it. Where nothing scatters (the toy function, rounding) there is no margin.
    - A *prerequisite* (:meth:`needs`) is about how much data there is: events, seeds, ELRs compared, a start that was
      reached. Missed, it is undecided: more data would be needed. It says nothing about the paper.
    - A comparison that rests on a prerequisite is told so by ``given``; with ``given=False`` it is undecided whatever
      it shows.
    - Of several draws (seeds) of one training all have to miss for a failure (:meth:`every`, :meth:`draws`).
    - NaN is "not measured", hence undecided. Infinity is a number: a loss that overflowed is above every bound.

    The claim fails if a comparison fails: one that was given all it needs contradicts the paper, whatever another one
    lacks. Else it is undecided if anything is, and holds otherwise. An empty sheet decides nothing.
    """

    def __init__(self) -> None:
        self.measured: dict[str, Any] = {}
        self.expected: dict[str, Any] = {}
        self.tolerance: dict[str, str] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.notes: list[str] = []
        self._why: dict[str, str] = {}

    def close(
        self,
        name: str,
        measured: float,
        expected: float,
        *,
        rel: float = 0.0,
        abs: float = 0.0,
        se: float = 0.0,
        given: bool = True,
    ) -> Verdict:
        """Compare ``|measured - expected| <= rel |expected| + abs``; undecided where 2 s.e. reach over the edge."""
        allowed = rel * math.fabs(expected) + abs
        off = math.fabs(measured - expected)
        words = " + ".join([f"{100 * rel:g} %"] * (rel > 0) + [f"{abs:g}"] * (abs > 0)) or "0"
        known = se >= 0 and not any(map(math.isnan, (off - 2 * se, allowed)))
        verdict = _judge(off + 2 * se <= allowed, off - 2 * se <= allowed, known)
        return self._add(name, measured, expected, words + (f" (s.e. {se:.2g})" if se else ""), verdict, given)

    def at_most(
        self, name: str, measured: float, bound: float, *, se: float = 0.0, log_se: float = 0.0, given: bool = True
    ) -> Verdict:
        """Compare ``measured <= bound``. ``log_se``: standard error of log(measured), for what scatters by factors."""
        low, high = _reach(measured, se, log_se)
        verdict = _judge(high <= bound, low <= bound, not any(map(math.isnan, (low, high, bound))))
        return self._add(name, measured, f"<= {bound:.6g}", _scatter(se, log_se), verdict, given)

    def at_least(
        self, name: str, measured: float, bound: float, *, se: float = 0.0, log_se: float = 0.0, given: bool = True
    ) -> Verdict:
        """Compare ``measured >= bound``. ``log_se``: standard error of log(measured), for what scatters by factors."""
        low, high = _reach(measured, se, log_se)
        verdict = _judge(low >= bound, high >= bound, not any(map(math.isnan, (low, high, bound))))
        return self._add(name, measured, f">= {bound:.6g}", _scatter(se, log_se), verdict, given)

    def true(self, name: str, measured: Any, expected: Any, *, given: bool = True) -> Verdict:
        """Compare counts, words or booleans that do not scatter for equality; None is "not measured"."""
        verdict = _judge(bool(measured == expected), False, measured is not None)
        return self._add(name, measured, expected, "none", verdict, given)

    def answer(self, name: str, found: str, expected: str, *, open: tuple[str, ...] = ("undecided",)) -> Verdict:
        """Compare the one-word verdict of an analysis. ``open``: words that ask for more data, hence undecided."""
        if found in open:
            self._why[name] = "which decides nothing"
        return self._add(name, found, expected, "none", _judge(found == expected, False, found not in open))

    def every(self, name: str, outcomes: Sequence[bool | None], *, given: bool = True) -> Verdict:
        """Compare whether something is seen in every draw (seed); None: that draw does not decide.

        Holds if it is in all of them. Fails if it is in none of at least two: what one draw lacks another may show.
        """
        hits, misses = (sum(o is wanted for o in outcomes) for wanted in (True, False))
        all_of_them = bool(outcomes) and hits == len(outcomes)
        none_of_them = misses == len(outcomes) and misses >= FEWEST_DRAWS
        verdict = _judge(all_of_them, False, all_of_them or none_of_them)
        of = f"of {len(outcomes)}"
        return self._add(name, f"{hits} {of}", f"{len(outcomes)} {of}", "none", verdict, given)

    def needs(self, name: str, measured: float, *, at_least: float | None = None, at_most: float | None = None) -> bool:
        """Demand a prerequisite: at least or at most so much data. Returns whether it is met, for ``given`` of what
        rests on it; missed (or NaN) it is undecided.
        """
        if at_least is not None and at_most is None:
            met, bound = bool(measured >= at_least), f">= {at_least:.6g}"
        elif at_most is not None and at_least is None:
            met, bound = bool(measured <= at_most), f"<= {at_most:.6g}"
        else:
            raise RuntimeError(f"{name!r} needs one of at_least and at_most")
        self._add(name, measured, bound, "needed", _judge(met, False, met))
        return met

    def draws(self, names: Sequence[str]) -> None:
        """Declare that the comparisons of these names test one thing, each in one draw (seed). Those that fail become
        undecided unless all fail, and there are at least two: a miss that other draws do not share is one draw.
        """
        failed = [name for name in names if self.verdicts[name] == "fails"]
        if len(failed) < max(FEWEST_DRAWS, len(names)):
            for name in failed:
                self.verdicts[name] = "undecided"
                self._why[name] = f"in {len(failed)} of {len(names)} draws"

    def undecided(self, why: str) -> None:
        """Record that the evidence does not decide, and why."""
        self.verdicts[why] = "undecided"
        self.notes.append(why)

    def note(self, text: str) -> None:
        """Add a sentence of evidence that decides nothing."""
        self.notes.append(text)

    def _add(
        self, name: str, measured: Any, expected: Any, tolerance: str, verdict: Verdict, given: bool = True
    ) -> Verdict:
        if name in self.measured:
            raise RuntimeError(f"the sheet has {name!r} twice")
        # numbers of numpy become plain ones: results travel between processes and into JSON
        measured, expected = (value.item() if hasattr(value, "item") else value for value in (measured, expected))
        if measured is None or (isinstance(measured, float) and math.isnan(measured)):
            self._why[name], verdict = "not measured", "undecided"
        elif not given:
            self._why[name], verdict = "but it rests on what is not enough", "undecided"
        self.measured[name], self.expected[name], self.tolerance[name] = measured, expected, tolerance
        self.verdicts[name] = verdict
        return verdict

    def result(self) -> Result:
        """Return the verdict over all comparisons; those that do not hold are named in the evidence."""
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
        needed = self.tolerance[name] == "needed"
        allowed = "" if needed or self.tolerance[name] == "none" else f" ({self.tolerance[name]})"
        expected = _short(self.expected[name]).replace("<=", "at most").replace(">=", "at least")
        said = f"{self.verdicts[name]}: {name} is {_short(self.measured[name])}"
        why = f", {self._why[name]}" if name in self._why else ""
        return f"{said}{why}, {'needed' if needed else 'expected'} {expected}{allowed}"


#: draws (seeds) that must agree before something seen in none of them counts as absent
FEWEST_DRAWS = 2


def _judge(surely: bool, perhaps: bool, known: bool) -> Verdict:
    """Judge a bound: "holds" if met by 2 s.e., "undecided" within 2 s.e. or if a number or its error is not known."""
    return "undecided" if not known else "holds" if surely else "undecided" if perhaps else "fails"


def _reach(measured: float, se: float, log_se: float) -> tuple[float, float]:
    """Return what is measured less and plus 2 s.e., of itself or of its logarithm; NaN where an error is not known."""
    if not (se >= 0 and log_se >= 0):
        return math.nan, math.nan
    factor = math.exp(min(2 * log_se, 700.0))
    return measured / factor - 2 * se, measured * factor + 2 * se


def _scatter(se: float, log_se: float) -> str:
    return " ".join([f"s.e. {se:.2g}"] * bool(se) + [f"s.e. of the log {log_se:.2g}"] * bool(log_se)) or "none"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, as data.

    - ``id``: speaks, such as ``three-regimes``; ``was``: an id of an earlier version, still accepted.
    - ``place``: section, figure or equation of the paper.
    - ``tolerance``: what is compared and what is allowed, decided before any result was seen.
    - ``scales``: each scale it can be checked at to the cost in core-seconds. Training that several claims share is
      counted once, at one of them.
    - ``check``: ``"module:function"`` with ``function(sheet, context)``, which fills a :class:`Sheet`.
    - ``quick``: scales that are in the quick set besides toy and digits.
    - ``nightly``: scales that are left out of it, since the set as a whole has a bound.
    """

    id: str
    paper: str
    place: str
    statement: str
    tolerance: str
    scales: Mapping[Scale, float]
    check: str
    quick: tuple[Scale, ...] = ()
    nightly: tuple[Scale, ...] = ()
    was: str = ""

    def is_quick(self, scale: Scale) -> bool:
        """Say whether this scale of the claim is part of the quick set."""
        return scale not in self.nightly and scale in ("toy", "digits", *self.quick)

    def run(self, context: Context) -> Result:
        """Check the claim at the scale of the context."""
        sheet = Sheet()
        self.fill(sheet, context)
        return sheet.result()

    def fill(self, sheet: Sheet, context: Context) -> None:
        """Carry the check out on the sheet."""
        module, _, name = self.check.partition(":")
        getattr(importlib.import_module(module), name)(sheet, context)

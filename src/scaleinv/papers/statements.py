"""The dissertation, statement by statement: what it says, which claims and figures check it, and what they found.

The statements are in ``papers/statements.ini``; what was found is in the records of ``scaleinv verify --record``.
"""

from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.papers.records import StoredResult
from scaleinv.papers.scales import SCALES, Scale

#: from the strongest evidence to the weakest: the papers' data before small ones
_STRENGTH: tuple[Scale, ...] = tuple(reversed(SCALES))


@dataclass(frozen=True)
class Statement:
    """A statement of the dissertation. ``place``: its part of it. ``says``: in our words. ``claims`` and ``figures``:
    ids of what checks and draws it. ``missing``: what of it nothing checks. ``needs``: what nobody here has.
    """

    number: int
    place: str
    says: str
    claims: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    missing: str = ""
    needs: str = ""


@cache
def statements() -> tuple[Statement, ...]:
    """Read all statements, in the order of the dissertation.

    >>> statements()[1].says
    'The gradient of a scale-invariant function is orthogonal to the weights.'
    """
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.read_string((Path(__file__).parent / "statements.ini").read_text(encoding="utf-8"))
    every = []
    for section in parser.sections():
        entry = {key: " ".join(text.split()) for key, text in parser[section].items()}
        claims, figures = (tuple(filter(None, entry.pop(kind, "").split(", "))) for kind in ("claims", "figures"))
        every.append(Statement(number=int(section), claims=claims, figures=figures, **entry))
    return tuple(every)


@dataclass(frozen=True)
class OnRecord:
    """What is on record of a claim at a scale; ``words``: what was compared, with its scatter."""

    claim: str
    scale: Scale
    verdict: str
    words: str


def found(claim: str, records: Mapping[tuple[str, str], StoredResult]) -> list[OnRecord]:
    """List what the records say of a claim, the strongest scale first: the papers' data before small ones."""
    return [
        OnRecord(claim, scale, record.verdict, _said(record))
        for scale in _STRENGTH
        if (record := records.get((claim, scale))) is not None
    ]


def _said(record: StoredResult) -> str:
    """Say the comparison that decides: the first that is not held, else the first that is no mere prerequisite."""
    named = [name for name in record.measured if record.tolerance.get(name) != "needed"] or list(record.measured)
    wrong = [line.partition(": ")[2] for line in record.evidence if line.startswith(f"{record.verdict}: ")]
    if record.verdict != "holds" and wrong:
        return wrong[0]
    if not named:
        return ""
    name = named[0]
    scatter = f" ({record.tolerance[name]})" if record.tolerance[name].startswith("s.e.") else ""
    expected = _short(record.expected[name]).replace("<=", "at most").replace(">=", "at least")
    more = f"; and {len(named) - 1} more" if len(named) > 1 else ""
    return f"{name}: {_short(record.measured[name])}{scatter}, expected {expected}{more}"


def _short(value: object) -> str:
    return "not a number" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def check_ids(claims: Sequence[str], figures: Sequence[str]) -> None:
    """Raise :class:`UserError` where a statement names a claim or figure that is not there."""
    for one in statements():
        for kind, named, known in (("claim", one.claims, claims), ("figure", one.figures, figures)):
            for id in named:
                if id not in known:
                    raise UserError(f"statement {one.number} names the {kind} {id!r}, which is not there")

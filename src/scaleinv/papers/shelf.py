"""All claims and figures: those of this package, and those that installed packages add.

Those of this package are listed in ``papers/PAPER/catalogue.ini``: a section for each, ``claim ID`` or ``figure ID``,
whose keys are the fields of :class:`Claim` and :class:`FigureEntry`. ``${name}`` stands for a text of ``[DEFAULT]``;
``scales`` are names with their costs; ``module:function`` is one of the paper's folder. A package adds its own by an
entry point of the group ``scaleinv.papers`` that names a module with ``CLAIMS``, ``FIGURES`` or both::

    [project.entry-points."scaleinv.papers"]
    mypaper = "mypackage.catalogue"
"""

from collections.abc import Iterable, Sequence
from configparser import ConfigParser, ExtendedInterpolation
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scaleinv.errors import UserError
from scaleinv.papers.claim import Claim
from scaleinv.papers.figure import FigureEntry
from scaleinv.papers.scales import SCALES, Scale

GROUP = "scaleinv.papers"
_OWN = ("lobacheva2021", "kodryan2022", "nakhodnov2022", "others")
#: core-seconds the quick set may cost in all
QUICK_BUDGET = 1500.0


def catalogues() -> list[tuple[str, Any]]:
    """List (where it comes from, module or object with CLAIMS and FIGURES), this package's first."""
    found: list[tuple[str, Any]] = []
    for paper in _OWN:
        found.append((f"scaleinv.papers.{paper}.catalogue", _read(paper)))
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found.append((entry.value, entry.load()))
        except Exception as error:
            raise UserError(
                f"the claims and figures of {entry.value} (entry point {entry.name!r} of {GROUP}) cannot be loaded: "
                f"{type(error).__name__}: {error}; mend or uninstall that package"
            ) from error
    return found


@cache
def _read(paper: str) -> SimpleNamespace:
    """Read CLAIMS and FIGURES of a paper of this package from its ``catalogue.ini``."""
    parser = ConfigParser(interpolation=ExtendedInterpolation(), delimiters=("=",), comment_prefixes=("#",))
    parser.read_string((Path(__file__).parent / paper / "catalogue.ini").read_text(encoding="utf-8"))
    found: dict[str, list[Any]] = {"claim": [], "figure": []}
    for section in parser.sections():
        kind, _, id = section.partition(" ")
        of = Claim if kind == "claim" else FigureEntry
        own = [key for key in parser[section] if key == "paper" or key not in parser.defaults()]
        entry: dict[str, Any] = {key: " ".join(parser[section][key].split()) for key in own}
        costs = [one.split() for one in entry["scales"].split(",")]
        entry["scales"] = {scale: int(cost) if cost.isdigit() else float(cost) for scale, cost in costs}
        entry |= {k: tuple(entry[k].split(", ")) for k in ("quick", "nightly") if k in entry}
        entry |= {k: f"scaleinv.papers.{paper}.{entry[k]}" for k in ("check", "numbers", "draw") if k in entry}
        found[kind].append(of(id=id, **entry))
    return SimpleNamespace(CLAIMS=found["claim"], FIGURES=found["figure"])


def claims() -> dict[str, Claim]:
    """Return all claims by id, in the order of their ids."""
    return _collected("CLAIMS", Claim)


def figures() -> dict[str, FigureEntry]:
    """Return all figures by id, in the order of their ids."""
    return _collected("FIGURES", FigureEntry)


def _collected(name: str, kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    where: dict[str, str] = {}
    for source, catalogue in catalogues():
        for one in getattr(catalogue, name, ()):
            if not isinstance(one, kind):
                raise UserError(f"{source}: {name} holds {one!r}, not a {kind.__name__}")
            if one.id in found:
                raise UserError(f"{source} has the id {one.id!r}, as has {where[one.id]}; one of them needs another")
            found[one.id], where[one.id] = one, source
    return dict(sorted(found.items()))


def find_figure(id: str) -> FigureEntry:
    """Return the figure of that id; UserError names those there are."""
    known = figures()
    if id not in known:
        raise UserError(f"unknown figure {id!r}; choose one of: {', '.join(known)}")
    return known[id]


def present_ids(ids: Iterable[str]) -> dict[str, str]:
    """Map every id given to the present id of that claim; they differ for an id of an earlier version."""
    known = claims()
    former = {claim.was: id for id, claim in known.items() if claim.was}
    found = {}
    for id in ids:
        if id not in known and id not in former:
            raise UserError(f"unknown claim {id!r}; `scaleinv verify --list` shows those there are")
        found[id] = id if id in known else former[id]
    return found


def select(scale: str, only: Sequence[str] = ()) -> list[tuple[Claim, Scale]]:
    """Choose the claims of a scale (``quick``, ``all``: several), or of ``only`` those ids; expensive ones first."""
    if scale not in (*SCALES, "quick", "all"):
        raise UserError(f"scale {scale!r} is not known; choose one of: quick, all, {', '.join(SCALES)}")
    known = claims()
    wanted = [known[id] for id in dict.fromkeys(present_ids(only).values())] if only else list(known.values())
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

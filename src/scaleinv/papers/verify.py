"""Run checks side by side in processes, keep their results, and say how it went.

A result is kept under a key of the claim's id, its scale, the package's sources and the versions of what computes:
change any of them and the check runs again. Checks that use run folders keep those in ``CACHE/runs``, where they are
found again by their config's hash whatever the sources are, so that claims share them; ``--fresh`` ignores both: the
checks of that call share runs in a folder of their own, which is removed at the end.
"""

import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scaleinv import __version__
from scaleinv.errors import UserError
from scaleinv.lab.data.source import find
from scaleinv.lab.launch.choose import LOCAL, Choice
from scaleinv.lab.launch.crew import Crew, Report
from scaleinv.papers.claim import Claim
from scaleinv.papers.context import Context
from scaleinv.papers.scales import Scale, data_of
from scaleinv.runfolder.files import plain, refuse_links
from scaleinv.runfolder.seal import read_sealed, write_sealed
from scaleinv.studies.obtain import remove_left

#: folders of runs that are trained anew, below the cache
_FRESH = "fresh-"
#: rooms that no check's number depends on
_NO_MATTER = ("cli", "report", "plots")


@dataclass(frozen=True)
class Outcome:
    """What became of one claim at one scale. ``broke``: the check itself raised, or its process died each time it was
    tried, so nothing is known of the claim; its verdict is the word "broke", and it is not kept.
    """

    id: str
    scale: Scale
    verdict: str
    measured: dict[str, Any]
    expected: dict[str, Any]
    tolerance: dict[str, str]
    evidence: str
    seconds: float
    runs: list[str] = field(default_factory=list)  # identities of the runs it rests on
    cached: bool = False
    broke: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN and infinities become null."""
        values: dict[str, Any] = plain(asdict(self))
        return values


def source_hash() -> str:
    """Hash the sources that can change a number, Python's minor version and numpy's, torch's and numba's versions."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(__version__.encode())
    for path in sorted([*root.rglob("*.py"), *root.rglob("catalogue.ini")]):
        inside = path.relative_to(root)
        if inside.parts[0] not in _NO_MATTER and inside.name != "findings.py":  # what is said of a failure afterwards
            digest.update(str(inside).encode() + b"\0" + path.read_bytes() + b"\0")
    for name in ("numpy", "torch", "numba"):
        try:
            digest.update(f"{name} {importlib.metadata.version(name)}".encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(f"{name} absent".encode())
    digest.update(".".join(map(str, sys.version_info[:2])).encode())
    return digest.hexdigest()[:16]


def runs_folder(cache: Path) -> Path:
    """Return the folder of the runs that checks need."""
    return cache / "runs"


def run(
    chosen: Sequence[tuple[Claim, Scale]],
    cache: Path,
    *,
    fresh: bool = False,
    workers: int | None = None,
    launch: Choice = LOCAL,
    device: str = "cpu",
    seed_offset: int = 0,
    started: Callable[[Claim, Scale], None] = lambda claim, scale: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Check all, at most ``workers`` at a time (default: one a core), each on one thread; in the order given.
    ``launch`` and ``device``: where the runs that checks need are trained. ``seed_offset``: added to the seeds of all
    training.

    ``started`` and ``ended`` are told as it goes. Interrupted, what has ended is kept. Raises :class:`UserError` where
    a claim needs what only the user can give, such as the folder of a data set: nothing is said of the claim then.
    """
    kind = device.partition(":")[0]
    key = source_hash() + (f"+{seed_offset}" if seed_offset else "") + (f"-{kind}" if kind != "cpu" else "")
    outcomes = dict[tuple[str, str], Outcome]()
    waiting: list[tuple[Claim, Scale]] = []
    for claim, scale in chosen:
        kept = None if fresh else _load(_place(cache, claim.id, scale, key), claim.id, scale)
        if kept is None:
            waiting.append((claim, scale))
        else:
            outcomes[claim.id, scale] = kept
            ended(kept)
    for name in sorted({data for _, scale in waiting if (data := data_of(scale)) is not None}):
        find(name)
    runs = runs_folder(cache)
    if fresh:
        cache.mkdir(parents=True, exist_ok=True)
        remove_left(cache, _FRESH)
        runs = Path(tempfile.mkdtemp(prefix=f"{_FRESH}{os.getpid()}-", dir=cache))
    crew = Crew(partial(_check, runs, launch, device, seed_offset), workers or os.cpu_count() or 1)
    try:
        for answer in crew.run(waiting, started=lambda pair: started(*pair)):
            claim, scale = answer.item
            if isinstance(answer.error, UserError):
                raise answer.error
            outcome = answer.result or _broken(claim.id, scale, str(answer.error), 0.0)
            outcomes[claim.id, scale] = outcome
            if not outcome.broke:
                _store(_place(cache, claim.id, scale, key), outcome)
            ended(outcome)
    finally:
        crew.close()
        if fresh:
            shutil.rmtree(runs, ignore_errors=True)
    return [outcomes[claim.id, scale] for claim, scale in chosen]


def _check(
    runs: Path, launch: Choice, device: str, seed_offset: int, pair: tuple[Claim, Scale], report: Report
) -> Outcome:
    """Run one check in a process of the crew."""
    claim, scale = pair
    start = time.perf_counter()
    context = Context(scale, runs, launch=launch, device=device, seed_offset=seed_offset)
    try:
        result = claim.run(context)
    except UserError as error:
        raise UserError(f"{claim.id} ({scale}): {error}") from error
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"the check broke: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return _broken(claim.id, scale, " ".join(what.split()), time.perf_counter() - start)
    spent = time.perf_counter() - start
    return Outcome(claim.id, scale, **asdict(result), seconds=spent, runs=list(context.used))


def _broken(id: str, scale: Scale, why: str, seconds: float) -> Outcome:
    return Outcome(id, scale, "broke", {}, {}, {}, why, seconds, broke=True)


def _place(cache: Path, id: str, scale: str, key: str) -> Path:
    return cache / "claims" / f"{id}@{scale}-{key}.json"


def _load(path: Path, id: str, scale: str) -> Outcome | None:
    """Read the kept result of a claim; anything unreadable, or another claim's, counts as absent."""
    try:
        found = Outcome(**{**read_sealed(path), "cached": True}) if path.exists() else None
    except (OSError, ValueError, TypeError):
        return None
    return found if found is not None and (found.id, found.scale) == (id, scale) else None


def _store(path: Path, outcome: Outcome) -> None:
    refuse_links(path.parent)
    write_sealed(path, outcome.to_dict(), parents=True, advice="choose another folder with --cache")

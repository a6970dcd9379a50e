"""Run checks side by side in processes, keep their results, and say how it went.

A result is kept under a key of the claim's id, its scale, the package's sources and the versions of what computes:
change any of them and the check runs again. Checks that use run folders keep those in ``CACHE/runs``, where they are
found again by their config's hash whatever the sources are, so that claims share them; ``--fresh`` ignores both: the
checks of that call share runs in a folder of their own, which is removed at the end.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaleinv import __version__
from scaleinv.errors import UserError
from scaleinv.lab.data.source import find
from scaleinv.lab.launch.processes import leave_with_parent
from scaleinv.papers.claim import Claim
from scaleinv.papers.context import Context
from scaleinv.papers.scales import Scale, data_of
from scaleinv.papers.shelf import claims

#: rooms that no check's number depends on
_NO_MATTER = ("cli", "report", "plots")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What became of one claim at one scale. ``broke``: the check itself raised, so nothing is known of the claim; its
    verdict is the word "broke", and it is not kept.
    """

    id: str
    scale: Scale
    verdict: str
    measured: dict[str, Any]
    expected: dict[str, Any]
    tolerance: dict[str, str]
    evidence: str
    seconds: float
    cached: bool = False
    broke: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN and infinities become null."""
        values = asdict(self)
        for side in ("measured", "expected"):
            values[side] = {name: _finite(value) for name, value in values[side].items()}
        return values


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def source_hash() -> str:
    """Hash of the sources that can change a number, of Python's minor version and of numpy's, torch's and numba's
    versions.
    """
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(root.rglob("*.py")):
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


def run(
    chosen: Sequence[tuple[Claim, Scale]],
    cache: Path,
    *,
    fresh: bool = False,
    workers: int | None = None,
    started: Callable[[Claim, Scale], None] = lambda claim, scale: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Check all, at most ``workers`` at a time (default: one a core), each on one thread; in the order given.

    ``started`` and ``ended`` are told as it goes. Interrupted, what has ended is kept. Raises :class:`UserError` where
    a claim needs what only the user can give, such as the folder of a data set: nothing is said of the claim then.
    """
    key, outcomes = source_hash(), dict[tuple[str, str], Outcome]()
    waiting: list[tuple[Claim, Scale]] = []
    for claim, scale in chosen:
        kept = None if fresh else _load(_place(cache, claim.id, scale, key))
        if kept is None:
            waiting.append((claim, scale))
        else:
            outcomes[claim.id, scale] = kept
            ended(kept)
    for name in sorted({data for _, scale in waiting if (data := data_of(scale)) is not None}):
        find(name)
    runs = cache / "runs"
    if fresh:
        cache.mkdir(parents=True, exist_ok=True)
        runs = Path(tempfile.mkdtemp(prefix="fresh-", dir=cache))
    try:
        for outcome in _run_all(waiting, runs, workers or os.cpu_count() or 1, started) if waiting else ():
            outcomes[outcome.id, outcome.scale] = outcome
            if not outcome.broke:
                _store(_place(cache, outcome.id, outcome.scale, key), outcome)
            ended(outcome)
    finally:
        if fresh:
            shutil.rmtree(runs, ignore_errors=True)
    return [outcomes[claim.id, scale] for claim, scale in chosen]


def _run_all(
    waiting: list[tuple[Claim, Scale]], runs: Path, workers: int, started: Callable[[Claim, Scale], None]
) -> Any:
    queue, running = list(waiting), dict[Future[Outcome], tuple[Claim, Scale]]()
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by the children when they load numpy and torch
    # spawn: a fork of a process with threads (torch, a live display) may hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context, initializer=leave_with_parent)
    try:
        while queue or running:
            while queue and len(running) < workers:
                claim, scale = queue.pop(0)
                running[pool.submit(_check, claim.id, scale, str(runs))] = (claim, scale)
                started(claim, scale)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                claim, scale = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost = [(claim, scale), *running.values(), *queue]
                    queue, running = [], {}
                    for other, its_scale in lost:
                        yield _broken(other.id, its_scale, "a process of the pool died (killed, or out of memory)", 0.0)
                    break
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check(id: str, scale: Scale, runs: str) -> Outcome:
    """In a process of the pool."""
    start = time.perf_counter()
    try:
        result = claims()[id].run(Context(scale, Path(runs)))
    except UserError as error:
        raise UserError(f"{id} ({scale}): {error}") from error
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"the check broke: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return _broken(id, scale, " ".join(what.split()), time.perf_counter() - start)
    return Outcome(id, scale, **asdict(result), seconds=time.perf_counter() - start)


def _broken(id: str, scale: Scale, why: str, seconds: float) -> Outcome:
    return Outcome(id, scale, "broke", {}, {}, {}, why, seconds, broke=True)


def _place(cache: Path, id: str, scale: str, key: str) -> Path:
    return cache / "claims" / f"{id}@{scale}-{key}.json"


def _load(path: Path) -> Outcome | None:
    """A kept result; anything unreadable counts as absent."""
    try:
        return Outcome(**{**json.loads(path.read_text(encoding="utf-8")), "cached": True})
    except (OSError, ValueError, TypeError):
        return None


def _store(path: Path, outcome: Outcome) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(outcome.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another folder with --cache") from None

"""What was measured of a claim, kept in the repository: one small file for each claim and scale.

Run folders are too large to keep; what a check compared is not. ``scaleinv verify --record FOLDER`` writes
``FOLDER/CLAIM-SCALE.json``: the verdict, everything compared, and what it takes to do it again: the identities of the
runs, the commit, the versions of what computes and the processor. The tables of docs/results are made from these files.
"""

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.papers.verify import Outcome, source_hash
from scaleinv.runfolder.environment import environment, hardware
from scaleinv.runfolder.files import json_text, write_bytes

#: what of the environment decides numbers or says where the code was
_KEPT = ("git", "scaleinv", "python", "torch", "numpy")


@dataclass(frozen=True)
class StoredResult:
    """What was found of a claim at a scale: ``verdict`` and what was compared by name, as in :class:`Outcome`.

    ``runs``: identities of the runs it rests on. ``seed_offset``: what was added to their seeds. ``made``: commit (with
    ``+`` if it had changes), hash of the sources, versions and processor.
    """

    claim: str
    scale: str
    verdict: str
    measured: Mapping[str, Any]
    expected: Mapping[str, Any]
    tolerance: Mapping[str, str]
    evidence: tuple[str, ...]
    seconds: float
    seed_offset: int
    runs: tuple[str, ...]
    made: Mapping[str, Any]


def processor() -> str:
    """Name the processor, with the instruction set that torch's own kernels are chosen by.

    >>> processor().endswith(")")
    True
    """
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{found[0] if found else name} ({hardware()['cpu']})"


def write_records(outcomes: Iterable[Outcome], folder: Path, *, seed_offset: int = 0) -> list[Path]:
    """Write a file for every outcome that says something of its claim; return their paths.

    Raises :class:`UserError` where the folder cannot be written to.
    """
    around = environment(1)
    made = {name: around[name] for name in _KEPT} | {"sources": source_hash(), "processor": processor()}
    paths = []
    for one in outcomes:
        if one.broke:
            continue
        values = {
            "claim": one.id,
            "scale": one.scale,
            "verdict": one.verdict,
            "measured": one.measured,
            "expected": one.expected,
            "tolerance": one.tolerance,
            "evidence": one.evidence.splitlines(),
            "seconds": round(one.seconds, 1),
            "seed_offset": seed_offset,
            "runs": list(one.runs),
            "made": made,
        }
        paths.append(folder / f"{one.id}-{one.scale}.json")
        text = json_text(values, indent=1) + "\n"
        write_bytes(paths[-1], text.encode(), parents=True, advice="choose another folder with --record")
    return paths


def read_records(folder: Path) -> dict[tuple[str, str], StoredResult]:
    """Read every record of a folder by claim and scale; raises :class:`UserError` where one is not readable."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values |= {"evidence": tuple(values["evidence"]), "runs": tuple(values["runs"])}
            record = StoredResult(**values)
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise UserError(f"{path} is no record of a claim ({error}); write it again with --record") from error
        found[record.claim, record.scale] = record
    return found

"""Check a whole folder: which files are as they were written, and what can still be used of a run with damaged ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.runfolder.checkpoint import FILES, DamagedCheckpoint, list_checkpoints, read_checkpoint_manifest
from scaleinv.runfolder.files import content_of, read_json, sha256
from scaleinv.runfolder.layout import CONFIG, LANDSCAPE, LINES, PARTS, PROGRESS, RESULT, STEPS, SWEEP_CONFIG, SWEEP_MAP
from scaleinv.runfolder.manifest import MANIFEST, Manifest, matching, read_manifest
from scaleinv.runfolder.rows import read_part
from scaleinv.runfolder.seal import SEAL, fault_of

_TRIES = 5
_KEPT_RESULTS = "claims"  # of the claims of papers


@dataclass
class Inspected:
    """What was found of one folder. Paths are relative to it."""

    folder: Path
    kind: str  # run, sweep, kept results
    whole: int = 0  # files compared with a checksum
    damaged: dict[str, str] = field(default_factory=dict)  # file to what is wrong
    unguarded: list[str] = field(default_factory=list)  # readable, and without a checksum
    usable: list[str] = field(default_factory=list)  # of a folder with damage

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "whole": self.whole,
            "damaged": self.damaged,
            "unguarded": self.unguarded,
            "usable": self.usable,
        }


def inspect(folder: Path) -> list[Inspected]:
    """Check a run, a monitored run, a sweep with its runs, a cache of claims, or all of these below a folder.

    Errors: UserError where there is no such folder, or nothing of scaleinv in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name that of a run, a sweep or a cache of `scaleinv verify`")
    found = list(_below(folder))
    if not found:
        raise UserError(f"{folder} holds no run, no sweep and no kept results of scaleinv")
    return found


def _below(folder: Path) -> Iterator[Inspected]:
    """Inspect the folder, and folders below it until one is a run; links are not followed."""
    names = {path.name for path in folder.iterdir()}
    if SWEEP_CONFIG in names or SWEEP_MAP in names:
        yield _sweep(folder)
    elif names & {CONFIG, MANIFEST, RESULT, LINES} or {"metrics", "checkpoints"} <= names:
        yield _run(folder)
        return
    elif folder.name == _KEPT_RESULTS:
        yield _kept_results(folder)
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _below(path)


def _sweep(folder: Path) -> Inspected:
    found = Inspected(folder, "sweep")
    for name in (SWEEP_CONFIG, SWEEP_MAP, LANDSCAPE):
        _sealed(found, name, needed=name == SWEEP_CONFIG)
    if SWEEP_CONFIG in found.damaged:
        found.usable.append("its runs, one by one; the sweep's own command, in another --out with runs/ copied there")
    elif found.damaged:
        found.usable.append("all runs: remove the damaged files and make them anew by the same commands")
    return found


def _kept_results(folder: Path) -> Inspected:
    found = Inspected(folder, "kept results")
    for path in sorted(folder.glob("*.json")):
        _sealed(found, path.name)
    if found.damaged:
        found.usable.append("all: a damaged result is measured again")
    return found


def _run(folder: Path) -> Inspected:
    """Inspect a run; one that is written meanwhile may have replaced what was listed, and is looked at again."""
    for _ in range(_TRIES):
        before = _written(folder)
        found = _run_as_it_is(folder)
        if not found.damaged or _written(folder) == before:
            break
    return found


def _written(folder: Path) -> list[tuple[str, int, int]]:
    """What changes when a run writes: its list and its checkpoints."""
    paths = [path for path in (folder / MANIFEST, folder / RESULT, folder / "checkpoints") if path.exists()]
    return [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


def _run_as_it_is(folder: Path) -> Inspected:
    found = Inspected(folder, "run")
    for name in (CONFIG, RESULT, LANDSCAPE):
        _sealed(found, name, needed=name == CONFIG)
    try:
        manifest = read_manifest(folder)
        found.whole += manifest is not None
    except UserError as error:
        found.damaged[MANIFEST] = _why(error)
        manifest = None
    if manifest is not None:
        _listed(found, manifest)
    elif MANIFEST not in found.damaged:
        _old_metrics(found)
    whole = [path for path in list_checkpoints(folder / "checkpoints") if _checkpoint(found, path)]
    if (folder / PROGRESS).is_dir():  # a run that ends removes the file, and no folder of others
        found.damaged[PROGRESS] = "is a folder: remove it"
    if found.damaged:
        found.usable += _usable(found, manifest, whole)
    return found


def _sealed(found: Inspected, name: str, *, needed: bool = False) -> None:
    path = found.folder / name
    if not path.exists():
        if needed:
            found.damaged[name] = "is gone"
        return
    try:
        content = read_json(path, nan=True)
    except UserError as error:
        found.damaged[name] = _why(error)
        return
    if not isinstance(content, dict):
        found.damaged[name] = "is no JSON object"
    elif fault := fault_of(path, content):
        found.damaged[name] = fault.short
    elif content.get(SEAL) is None:
        found.unguarded.append(name)
    else:
        found.whole += 1


def _why(error: UserError) -> str:
    return str(error).partition(": ")[0].partition("; ")[0]


def _listed(found: Inspected, manifest: Manifest) -> None:
    for name, states in sorted(manifest.files.items()):
        try:
            data = content_of(found.folder / name)
        except UserError as error:
            found.damaged[name] = _why(error)
            continue
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and None in states):
                found.damaged[name] = "is gone" if isinstance(error, FileNotFoundError) else str(error.strerror)
            continue
        if matching(name, data, states, thorough=True) is None:
            found.damaged[name] = "has other content than was written"
        else:
            found.whole += 1


def _old_metrics(found: Inspected) -> None:
    metrics = found.folder / "metrics"
    for path in sorted({*metrics.glob(PARTS), *metrics.glob(STEPS)}):
        name = f"{metrics.name}/{path.name}"
        try:
            read_part(path)
            found.unguarded.append(name)
        except (UserError, OSError) as error:
            found.damaged[name] = _why(UserError(str(error)))
    found.unguarded += [f"weights/{path.name}" for path in sorted((found.folder / "weights").glob("epoch-*"))]


def _checkpoint(found: Inspected, path: Path) -> bool:
    """Whether a checkpoint is whole; its files are compared."""
    name = f"{path.parent.name}/{path.name}"
    try:
        sums = read_checkpoint_manifest(path)["sha256"]
        for file in FILES:
            if sha256(path / file) != sums[file]:
                raise DamagedCheckpoint(f"{file} has other content than was written")
    except (DamagedCheckpoint, UserError, OSError) as error:
        found.damaged[name] = str(error).partition(": ")[0]
        return False
    found.whole += 1 + len(FILES)
    return True


def _usable(found: Inspected, manifest: Manifest | None, checkpoints: list[Path]) -> list[str]:
    if CONFIG in found.damaged:
        return ["nothing without its config.json: restore it, or train the run again"]
    usable = []
    if manifest is not None:
        if not any(name.startswith("metrics") for name in found.damaged):
            usable.append("its metrics")
        kept = [name for name in manifest.names("weights/*") if name not in found.damaged]
        if kept:
            usable.append(f"the weights kept at {len(kept)} epochs (RUN@EPOCH)")
    if checkpoints:
        usable.append(f"its weights at step {int(checkpoints[0].name.removeprefix('step-'))}")
    if RESULT in found.damaged and checkpoints:
        usable.append("the same command writes result.json anew")
    return usable or ["nothing: remove the folder and train the run again"]

"""Write and read the two files that frame a run: config.json, written first, and result.json, written last."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.runfolder.layout import CONFIG, FORMAT
from scaleinv.runfolder.manifest import MANIFEST, Manifest, read_manifest
from scaleinv.runfolder.seal import Damaged, read_sealed, rewrite_sealed, token_of, write_sealed

#: what result.json must hold to count
_RESULT = {"status": str, "message": str, "steps": int, "epochs": float, "steps_per_epoch": int, "timing": dict}


def read_result(path: Path) -> dict[str, Any]:
    """Read result.json of a run that has ended; a :class:`UserError` if it is damaged."""
    content = read_sealed(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not the result of a run")
    for name, kind in _RESULT.items():
        if not isinstance(content.get(name), (int, float) if kind is float else kind):
            raise UserError(f"{path} is damaged ({name} is {content.get(name)!r})")
    return content


def write_head(
    folder: Path,
    config: Mapping[str, Any],
    identity: str,
    environment: Mapping[str, Any],
    lineage: Mapping[str, Any] | None = None,
    problem: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
) -> None:
    """Write config.json, whole or not at all, after a list of files; ``problem``: how one's own is made again.

    ``token``: what tells this run from others of the same identity (default: nothing does, since its numbers are the
    same).
    """
    head = {"format": FORMAT, "config": config, "identity": identity, "environment": environment}
    more = {"lineage": lineage, "problem": problem}
    token = token_of(folder / MANIFEST) if (folder / CONFIG).exists() else token or identity
    listed = None
    with suppress(Damaged):  # of a process that was killed before config.json was there
        listed = read_manifest(folder)
    (listed or Manifest(folder)).write(token=token)
    head |= {name: value for name, value in more.items() if value is not None}
    write_sealed(folder / CONFIG, head, token=token)


def recorded_environment(folder: Path) -> Mapping[str, Any]:
    """Read where a run was made, from its config.json; empty where it does not say."""
    head = read_sealed(folder / CONFIG, quiet=True)
    found = head.get("environment") if isinstance(head, dict) else None
    return found if isinstance(found, dict) else {}


def complete_head(folder: Path, problem: Mapping[str, Any]) -> None:
    """Add to config.json, where a sweep has prepared it, what is known of a problem once it was built."""
    head = read_sealed(folder / CONFIG)
    held = head.get("problem") if isinstance(head, dict) else None
    if isinstance(held, Mapping) and set(problem) - set(held):
        rewrite_sealed(folder / CONFIG, {**head, "problem": {**held, **problem}})

"""Write and read the two files that frame a run: config.json, written first, and result.json, written last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.runfolder.files import read_json, write_json
from scaleinv.runfolder.layout import CONFIG, FORMAT

#: what result.json must hold to count
_RESULT = {"status": str, "message": str, "steps": int, "epochs": float, "steps_per_epoch": int, "timing": dict}


def read_result(path: Path) -> dict[str, Any]:
    """Read result.json of a run that has ended; a :class:`UserError` if it is damaged."""
    content = read_json(path)
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
) -> None:
    """Write config.json, whole or not at all; ``problem``: how a problem of one's own is made again."""
    head = {"format": FORMAT, "config": config, "identity": identity, "environment": environment}
    more = {"lineage": lineage, "problem": problem}
    write_json(folder / CONFIG, head | {name: value for name, value in more.items() if value is not None})


def complete_head(folder: Path, problem: Mapping[str, Any]) -> None:
    """Add to config.json, where a sweep has prepared it, what is known of a problem once it was built."""
    head = read_json(folder / CONFIG)
    held = head.get("problem") if isinstance(head, dict) else None
    if isinstance(held, Mapping) and set(problem) - set(held):
        write_json(folder / CONFIG, {**head, "problem": {**held, **problem}})

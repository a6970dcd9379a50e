"""Compare what was found with a saved answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError
from scaleinv.symmetry.result import Symmetries

_KEYS: dict[str, Callable[[Any], Any]] = {
    "single": str,
    "row": str,
    "joint": lambda names: tuple(sorted(names)),
    "rescaling": lambda pair: tuple(sorted(pair.items())),
    "dead": str,
    "fixed": str,
    "partial": lambda p: (p["name"], p["dim"], tuple(tuple(r) for r in p["ranges"])),
}


def read_expected(path: str | Path) -> dict[str, Any]:
    """Read the groups from a file written by ``scaleinv doctor --json``; UserError if it is not such a file."""
    save = f"save one with: scaleinv doctor ... --json > {path}"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {save}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; {save}") from error
    if not isinstance(content, dict) or not set(content) & set(_KEYS):
        raise UserError(f"{path} holds no groups; {save}")
    return content


def differences(found: Symmetries, expected: Mapping[str, Any]) -> list[str]:
    """List the groups that only one of the two has, one line each; keys that ``expected`` lacks are not compared."""
    actual = found.to_dict()
    lines = [found.headline()] if found.verdict != "clear" else []
    for key, form in ((key, form) for key, form in _KEYS.items() if key in expected):
        try:
            wanted = {form(item) for item in expected[key]}
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(f"the expected groups under {key!r} have another form: {error}") from error
        have = {form(item) for item in actual[key]}
        lines += [f"{key}: expected, not found: {_words(item)}" for item in sorted(wanted - have, key=str)]
        lines += [f"{key}: found, not expected: {_words(item)}" for item in sorted(have - wanted, key=str)]
    return lines


def _words(item: Any) -> str:
    if isinstance(item, str):
        return item
    return ", ".join(
        f"{part[0]}^{part[1]:+d}" if isinstance(part, tuple) and len(part) == 2 else str(part) for part in item
    )

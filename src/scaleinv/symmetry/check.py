"""Check the symmetries of a model against what is expected: named tensors in a test suite, or a saved answer."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scaleinv.errors import UserError
from scaleinv.reading import parse_json, read_text
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.result import Symmetries

_KEYS: dict[str, Callable[[Any], Any]] = {
    "single": str,
    "row": str,
    "joint": lambda names: tuple(sorted(names)),
    "rescaling": lambda pair: tuple(sorted(pair.items())),
    "weighted": lambda pair: tuple(sorted(pair.items())),
    "dead": str,
    "unreached": str,
    "fixed": str,
    "partial": lambda p: (p["name"], p["dim"], tuple(tuple(r) for r in p["ranges"])),
}


def assert_scale_invariant(
    model: nn.Module, inputs: Any, names: Iterable[str | Iterable[str]] | None = None, *, seed: int = 0
) -> Symmetries:
    """Raise AssertionError unless the named tensors have no scale; return what was found.

    names: parameter names; a name alone must be scale-invariant alone or be a member of a joint group, a tuple of names
    must be scale-invariant as a set: a joint group, or made of whole ones. None: every trained tensor must be
    scale-invariant, alone, jointly or dead. Raises UserError for a name the model does not have.

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> assert_scale_invariant(net, torch.randn(5, 4), ["0.weight"]).single
    ('0.weight',)
    """
    found = find_symmetries(model, inputs, seed=seed)
    if found.verdict != "clear":
        raise AssertionError(found.headline())
    free = set(found.single) | {name for tensors in (*found.joint, *found.weighted) for name in tensors}
    if names is None:
        gone = {*free, *found.dead, *found.frozen, *found.unreached}
        kept = [n for n in found.shapes if n not in gone]
        if kept:
            said = f"these trained tensors have a scale of their own: {', '.join(kept)}"
            raise AssertionError(f"{said}; {found.headline()}")
        return found
    for wanted in [names] if isinstance(names, str) else names:
        tensors = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for name in tensors:
            if name not in found.shapes:
                raise UserError(f"the model has no floating parameter {name!r}; see model.named_parameters()")
        if isinstance(wanted, str):
            if wanted not in free:
                raise AssertionError(f"{wanted} is {_kind(found, wanted)}, not scale-invariant; {found.headline()}")
            continue
        left = set(tensors)
        for group in [(n,) for n in (*found.single, *found.dead)] + list(found.joint):
            if left.issuperset(group):
                left.difference_update(group)
        if left:
            said = ", ".join(sorted(left))
            raise AssertionError(f"{said}: not scale-invariant as part of this set; {found.headline()}")
    return found


def _kind(found: Symmetries, name: str) -> str:
    if name in found.dead:
        return "dead"
    if name in found.unreached:
        return "not reached by the gradient"
    pairs = any(name in pair for pair in found.rescaling)
    return "part of a rescaling symmetry" if pairs else "of a scale of its own"


def read_expected(path: str | Path) -> dict[str, Any]:
    """Read the groups from a file written by ``scaleinv doctor --json``; UserError if it is not such a file."""
    save = f"save one with: scaleinv doctor ... --json > {path}"
    try:
        content = parse_json(read_text(Path(path)))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {save}") from error
    except UserError as error:
        raise UserError(f"{error}; {save}") from error
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

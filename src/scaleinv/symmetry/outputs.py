"""Choose which of a model's results count: what the loss sees, or what the user names."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scaleinv.errors import UserError

#: a name (``logits``), a place (0), several of them, or a function from the model's result to what counts
Outputs = str | int | Sequence[str | int] | Callable[[Any], Any] | None
#: outputs that are caches of inner states, not results
_CACHES = frozenset({"past_key_values", "mems", "cache_params"})
#: what a loss is made of, where a result has names
_LOSS = ("loss", "logits")


def output_tensors(value: Any) -> list[Tensor]:
    """List the floating tensors of a model's result in order: of tuples, lists, dicts, dataclasses (ModelOutput)."""
    if isinstance(value, Tensor):
        if value.is_complex():
            return [torch.view_as_real(value)]
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        return [t for k, v in value.items() if k not in _CACHES for t in output_tensors(v)]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in output_tensors(v)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [t for f in dataclasses.fields(value) for t in output_tensors(getattr(value, f.name))]
    return []


def _items(value: Any) -> dict[str, Any] | None:
    """Give the named parts of a result, None where it has no names."""
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return None


def chosen(value: Any, outputs: Outputs = None) -> tuple[list[Tensor], tuple[str, ...], tuple[str, ...]]:
    """Take the floating tensors that count from a model's result: (tensors, their names, names of those left out).

    outputs: None takes those the loss sees: of a result with names those called ``loss`` or ``*logits`` if there are
    any, else all. A name, a place or several of them take these; a function is applied to the result.

    >>> chosen({"logits": torch.ones(2), "encoder_last_hidden_state": torch.ones(3)})[1:]
    (('logits',), ('encoder_last_hidden_state',))
    """
    items = _items(value)
    if outputs is not None and callable(outputs):
        return output_tensors(outputs(value)), ("chosen by a function",), ()
    if outputs is not None:
        wanted = [outputs] if isinstance(outputs, (str, int)) else list(outputs)
        parts = items if items is not None else {}
        if isinstance(value, (tuple, list)) or items is not None:
            parts = {**dict(zip(map(str, range(len(value))), _sequence(value))), **parts}
        missing = [str(w) for w in wanted if str(w) not in parts]
        if missing:
            has = ", ".join(k for k, v in (items or parts).items() if output_tensors(v)) or "one tensor without a name"
            raise UserError(f"the model has no output {missing[0]!r}; it gives: {has}")
        tensors = [t for w in wanted for t in output_tensors(parts[str(w)])]
        left = tuple(k for k, v in (items or parts).items() if k not in map(str, wanted) and output_tensors(v))
        return tensors, tuple(map(str, wanted)), left
    if items is not None:
        floating = {k: v for k, v in items.items() if k not in _CACHES and output_tensors(v)}
        seen = [k for k in floating if any(k == word or k.endswith(word) for word in _LOSS)]
        if seen:
            tensors = [t for k in seen for t in output_tensors(floating[k])]
            return tensors, tuple(seen), tuple(k for k in floating if k not in seen)
        return output_tensors(value), tuple(floating), ()
    return output_tensors(value), (), ()


def _sequence(value: Any) -> list[Any]:
    items = _items(value)
    return list(items.values()) if items is not None else list(value)

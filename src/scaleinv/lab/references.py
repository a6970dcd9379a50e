"""Name objects so that another process, or a later one, finds them again: ``module:name``, ``file.py:name``."""

import functools
import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scaleinv.errors import UserError
from scaleinv.plugins import load_object

#: a text ``module:name``, or {"ref": text, "args": [...], "kwargs": {...}} to be called; None: it cannot be named
Reference = str | dict[str, Any] | None


def reference_to(thing: Any) -> Reference:
    """Name a function, a class or a ``functools.partial`` of them; None where an import would not find it.

    >>> reference_to(functools.partial(torch.nn.Linear, 3, bias=False))
    {'ref': 'torch.nn.modules.linear:Linear', 'args': [3], 'kwargs': {'bias': False}, 'partial': True}
    """
    if isinstance(thing, functools.partial):
        inner = reference_to(thing.func)
        if not isinstance(inner, str) or not _is_json((thing.args, thing.keywords)):
            return None
        return {"ref": inner, "args": list(thing.args), "kwargs": dict(thing.keywords), "partial": True}
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    where = sys.modules.get(module)
    file = getattr(where, "__file__", None)
    if module in ("__main__", "__mp_main__") or module.startswith("model_file_"):
        return f"{Path(file).resolve()}:{name}" if file and Path(file).is_file() and file.endswith(".py") else None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if found is thing else None


def object_of(reference: Any) -> Any:
    """Find what a reference names; a dict is called, or made a partial."""
    if isinstance(reference, str):
        return load_object(reference)
    if not isinstance(reference, Mapping) or not isinstance(reference.get("ref"), str):
        raise UserError(f"{reference!r} does not name an object; give PACKAGE.MODULE:NAME or FILE.py:NAME")
    found, args, kwargs = load_object(reference["ref"]), reference.get("args", []), dict(reference.get("kwargs", {}))
    if reference.get("partial"):
        return functools.partial(found, *args, **kwargs)
    if reference["ref"].startswith("torch.nn:"):
        kwargs = {k: torch.tensor(v, device="cpu") if k.endswith("weight") else v for k, v in kwargs.items()}
    return found(*args, **kwargs)


def short_name(thing: Any) -> str:
    """Name a factory in titles: ``make_net``."""
    if isinstance(thing, functools.partial):
        inner = short_name(thing.func)
        first = next((a for a in thing.args if isinstance(a, str)), None)
        return first if inner == "create_model" and first else inner
    if isinstance(thing, str):
        return thing.rpartition(":")[2]
    return str(getattr(thing, "__name__", type(thing).__name__))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True

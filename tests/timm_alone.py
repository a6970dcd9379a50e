"""The real timm where there is no torchvision that fits torch (PyPI's is built for CUDA).

timm imports torchvision for its image transforms, its data sets and a frozen batch norm; its models use none of it. So
empty classes stand in for what it imports, and everything that is tested is timm's own.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

_MODULES = (
    "", ".datasets", ".models", ".models.feature_extraction", ".ops", ".ops.misc", ".transforms",
    ".transforms.functional", ".utils",
)  # fmt: skip


class _Named(type):
    """A class whose attributes are their own names (timm makes a dict of the members of an enumeration)."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(ModuleType):
    """Every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Named(name, (), {})
        setattr(self, name, made)
        return made


def load_timm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """timm, with the real torchvision if that can be imported; skips where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    if "timm" not in sys.modules:
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError):
            for name in _MODULES:
                full = f"torchvision{name}"
                monkeypatch.setitem(sys.modules, full, _Empty(full))
                parent, _, last = full.rpartition(".")
                if parent:
                    setattr(sys.modules[parent], last, sys.modules[full])
    return importlib.import_module("timm")

"""The real timm, also where there is no torchvision that fits torch (PyPI's is built for CUDA): as users load it."""

import importlib.util
from typing import Any

import pytest

from scaleinv.plugins import load_object


def load_timm() -> Any:
    """timm, with the real torchvision if that can be imported; skips where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    load_object("timm:create_model")
    return importlib.import_module("timm")

"""The examples in the docstrings of this room run."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["surface", "spectrum", "sharpness", "paths"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"scaleinv.landscape.{name}"))
    assert found.failed == 0
    assert found.attempted > 0

"""Every example in the docstrings of the formulas and simulators runs."""

import doctest
import importlib
import pkgutil

import pytest

import scaleinv.theory

MODULES = [name for _, name, _ in pkgutil.walk_packages(scaleinv.theory.__path__, "scaleinv.theory.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    assert doctest.testmod(importlib.import_module("scaleinv.theory.lobacheva2021")).attempted >= 10

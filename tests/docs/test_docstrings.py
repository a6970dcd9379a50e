"""Every example in a docstring of the package runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

import scaleinv
from scaleinv.cli import run

PACKAGE = Path(scaleinv.__file__).parent
MODULES = [
    ".".join(("scaleinv", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs the examples name; they may write beside them."""
    place = tmp_path_factory.mktemp("examples")
    small = ["--data", "digits", "--model", "mlp", "--width", "4", "--quiet"]
    assert run(["sweep", *small, "--elr", "0.01", "--epochs", "2", "--out", str(place / "runs/demo")]) == 0
    (one,) = (place / "runs/demo/runs").iterdir()
    shutil.copytree(one, one.with_name("0123abcd"))
    whole = ["--lr", "0.1", "--weight-decay", "0.001", "--steps", "100"]
    assert run(["train", *small, *whole, "--out", str(place / "runs/one")]) == 0
    return place


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_all_rooms_have_examples() -> None:
    rooms = {name.split(".")[1] for name in MODULES}
    assert {"analysis", "geometry", "lab", "landscape", "monitor", "sphere", "symmetry", "theory"} <= rooms

"""One name, one thing: no two classes of the package share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "scaleinv"
#: the callback of a trainer is called so by both trainers' users, who import one of the two
SHARED = {"MonitorCallback"}


def shared_names(files: dict[str, str]) -> dict[str, list[str]]:
    """The files that define a class of each name that several define."""
    where: dict[str, list[str]] = defaultdict(list)
    for file, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(file)
    return {name: found for name, found in where.items() if len(found) > 1}


def test_a_name_is_one_class() -> None:
    files = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}
    found = {name: places for name, places in shared_names(files).items() if name not in SHARED}
    assert found == {}


def test_a_shared_name_is_seen() -> None:
    assert shared_names({"a.py": "class A: 0\nclass B: 0", "b.py": "def f():\n    class A: 0"}) == {
        "A": ["a.py", "b.py"]
    }

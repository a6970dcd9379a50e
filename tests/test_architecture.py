"""The rooms import one way only, and the core loads without any extra."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "scaleinv"
#: a room may import from rooms above it
ROOMS = "errors geometry theory symmetry sphere monitor lab landscape analysis claims figures report cli".split()  # noqa: SIM905
CORE = {"errors", "geometry", "theory", "symmetry", "sphere", "monitor"}
ALLOWED_IN_CORE = {"torch", "numpy", "scaleinv"} | set(sys.stdlib_module_names)
NO_TORCH = {"analysis", "report"}


def room_of(path: Path) -> str:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "sphere" if room == "_sphere_units" else room  # the private half of sphere/optimizer.py


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "scaleinv":
                found |= {f"scaleinv.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


FILES = sorted(p for p in SOURCE.rglob("*.py") if room_of(p) in ROOMS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_one_way_imports(path: Path) -> None:
    here = ROOMS.index(room_of(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "scaleinv" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= here, f"{room_of(path)} imports {name}, a room below it"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) in CORE], ids=name_of)
def test_core_needs_torch_and_numpy_only(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(path, top_level_only=True)} - ALLOWED_IN_CORE
    assert not foreign, f"{path.name} needs {foreign} at import"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) in NO_TORCH], ids=name_of)
def test_readers_need_no_torch(path: Path) -> None:
    assert not {name for name in imports(path, top_level_only=True) if name.split(".")[0] == "torch"}


def test_import_loads_no_extra() -> None:
    code = (
        "import sys, scaleinv; scaleinv.Sphere; "
        "extras = {'tyro', 'rich', 'pyarrow', 'matplotlib', 'sklearn', 'safetensors', 'numba', 'pandas', 'scipy'}; "
        "print(sorted(extras & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    import scaleinv

    for name in scaleinv.__all__:
        assert getattr(scaleinv, name) is not None
    with pytest.raises(AttributeError):
        scaleinv.no_such_name  # noqa: B018

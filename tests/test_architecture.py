"""The rooms import one way only, the core loads without any extra, and the law of the ELR stands in one place."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import structure

SOURCE = structure.SOURCE
CORE = {"errors", "_version", "geometry", "text", "reading", "plugins", "theory", "symmetry", "sphere", "monitor"}
ALLOWED_IN_CORE = {"torch", "numpy", "scaleinv"} | set(sys.stdlib_module_names)
#: of the run folder, what the core uses
LIGHT_FILES = {f"runfolder/{name}.py" for name in ("files", "layout", "rows", "write", "environment")} | {
    f"plots/{name}.py" for name in ("regimes", "style", "tables")
}
NO_TORCH = {"analysis", "report"}
#: former places, kept for one release
ALIASES = {"analysis/runs.py", "monitor/huggingface.py", "monitor/lightning.py"}
FILES = structure.sources()


def module_of(name: str) -> str:
    return "scaleinv." + name.removesuffix(".py").replace("/", ".")


def top_level(path: Path) -> set[str]:
    tree = FILES[path]
    skipped = structure.for_types_alone(tree)
    inner = {line.partition("  ")[0] for line in structure.inner_imports({path: tree})}
    found = [(node.lineno, module) for node, module, _ in structure.imported(tree)]  # type: ignore[attr-defined]
    name = structure.name_of(path)
    return {module for line, module in found if line not in skipped and f"{name}:{line}" not in inner}


def test_every_room_imports_from_rooms_above_it_alone() -> None:
    assert structure.against_the_order(FILES) == []


def test_no_files_import_one_another() -> None:
    assert structure.circles(FILES) == []


def test_imports_stand_at_the_top() -> None:
    """Inside functions are those alone that guard an extra."""
    inner = structure.inner_imports(FILES)
    assert len(inner) <= 40, "\n".join(inner)
    own = [line for line in inner if "scaleinv" in line.partition("  ")[2]]
    # __main__.py sets the environment of worker processes before it imports the rest
    assert [line for line in own if not line.startswith("__main__.py:")] == []


def test_the_law_of_the_elr_stands_in_one_place() -> None:
    places = structure.laws(FILES)
    assert places
    assert {place.partition(":")[0] for place in places} == {structure.LAW}, places


def test_the_search_for_laws_finds_one() -> None:
    import ast

    for text in ("lr / rho**2", "a.lr / norms ** 2", "lr / rho_sq", "g['lr'] * 2 * lr / self.rho", "elr * rho**2"):
        assert structure.laws({SOURCE / "x.py": ast.parse(text)}), text
    for text in ("loss / rho", "lr * wd", "g * rho", "lr * (1 - wd)"):
        assert not structure.laws({SOURCE / "x.py": ast.parse(text)}), text


def test_the_papers_are_cited_by_their_own_numbers() -> None:
    """No section of a digest that a reader does not have."""
    root = SOURCE.parents[1]
    files = [p for top in ("src", "docs", "tests", "benchmarks", "examples") for p in (root / top).rglob("*")]
    private = re.compile("PAPERS" + r"(\.md| \d| [A-Z]\d)")
    found = [p for p in files if p.suffix in (".py", ".md") and private.search(p.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize("path", [p for p in FILES if structure.room_of(p) in CORE], ids=structure.name_of)
def test_core_needs_torch_and_numpy_only(path: Path) -> None:
    foreign = {name.split(".")[0] for name in top_level(path)} - ALLOWED_IN_CORE
    assert not foreign, f"{path.name} needs {foreign} at import"
    extra = {name for name in top_level(path) if name.startswith("scaleinv.")}
    rooms = {name.split(".")[1] for name in extra}
    assert rooms <= CORE | {"runfolder", "plots"}
    assert not {name for name in extra if name.startswith("scaleinv.plots")} - {module_of(name) for name in LIGHT_FILES}


@pytest.mark.parametrize("name", sorted(LIGHT_FILES))
def test_what_the_core_uses_of_the_run_folder_needs_filelock_alone(name: str) -> None:
    foreign = {module.split(".")[0] for module in top_level(SOURCE / name)} - ALLOWED_IN_CORE
    assert foreign <= {"filelock"}


@pytest.mark.parametrize("path", [p for p in FILES if structure.room_of(p) in NO_TORCH], ids=structure.name_of)
def test_readers_need_no_torch(path: Path) -> None:
    assert not {name for name in top_level(path) if name.split(".")[0] == "torch"}


def loaded(code: str, among: set[str]) -> set[str]:
    script = f"import sys; {code}; print(*sorted({among!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_no_extra() -> None:
    extras = {"tyro", "rich", "pyarrow", "matplotlib", "sklearn", "safetensors", "numba", "pandas", "scipy", "jinja2"}
    assert loaded("import scaleinv; scaleinv.Sphere; scaleinv.Monitor", extras) == set()


@pytest.mark.parametrize(
    "module",
    ["lab.config", "papers.shelf", "papers.scales", "plugins", "text", "studies.grid"]
    + [f"cli.{p.stem}" for p in (SOURCE / "cli").glob("*.py") if (SOURCE / "cli" / "actions" / p.name).exists()],
)
def test_config_tables_and_parser_load_no_torch(module: str) -> None:
    """So that --help and every usage error answer at once."""
    assert loaded(f"import scaleinv.{module}", {"torch", "pyarrow", "matplotlib", "sklearn", "scipy"}) == set()


def test_every_public_name_resolves() -> None:
    import scaleinv

    for name in scaleinv.__all__:
        assert getattr(scaleinv, name) is not None
    with pytest.raises(AttributeError):
        scaleinv.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_former_places_still_import(name: str) -> None:
    module = module_of(name)
    if "lightning" in name:
        pytest.importorskip("lightning")
    if "huggingface" in name:
        pytest.importorskip("transformers")
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match=f"{re.escape(module)} is now"):
        importlib.import_module(module)

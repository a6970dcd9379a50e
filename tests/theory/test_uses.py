"""Every formula of theory/ is called by something that runs, and says of itself what a reader needs."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import scaleinv
from scaleinv.theory import _formula

SOURCE = Path(scaleinv.__file__).parent
Name = tuple[str, str]  # module below scaleinv.theory, name in it
FORMULAS = [
    getattr(importlib.import_module(f"scaleinv.theory.{path.stem}"), name)
    for path in sorted((SOURCE / "theory").glob("[a-z]*.py"))
    for name, value in vars(importlib.import_module(f"scaleinv.theory.{path.stem}")).items()
    if isinstance(value, _formula.Formula) and value.function.__module__.endswith(path.stem) and name[0] != "_"
]


def sources() -> dict[str, str]:
    return {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}


def unused(files: dict[str, str]) -> set[str]:
    """Public functions of theory/ that nothing outside it calls, nor a function of theory/ that is used itself."""
    inside = {
        file.removeprefix("theory/").removesuffix(".py").replace("/", "."): ast.parse(text)
        for file, text in files.items()
        if file.startswith("theory/")
    }
    functions = {
        (module, node.name)
        for module, tree in inside.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    exported = {alias: target for alias, target in imported(inside["__init__"], inside).items() if target in functions}
    calls: dict[Name, set[Name]] = {}
    for module, tree in inside.items():
        here = {name: (module, name) for owner, name in functions if owner == module}
        for node in tree.body:
            owner = node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else "<module>"
            found = called(node, imported(tree, inside) | here, exported)
            calls.setdefault((module, owner), set()).update(found)
    used: set[Name] = set()
    for file, text in files.items():
        if not file.startswith("theory/"):
            tree = ast.parse(text)
            used |= set().union(*(called(node, imported(tree, inside), exported) for node in tree.body))
    while (
        more := set().union(*(calls.get(name, set()) | calls.get((name[0], "<module>"), set()) for name in used)) - used
    ):
        used |= more
    return {f"{module}.{name}" for module, name in functions - used if name[0] != "_"}


def imported(tree: ast.Module, inside: dict[str, ast.Module]) -> dict[str, Name]:
    """What the names that a file imports from theory/ stand for: ("kodryan2022", "") is a module."""
    found: dict[str, Name] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scaleinv.theory"):
            module = (node.module or "").removeprefix("scaleinv.theory").removeprefix(".")
            for alias in node.names:
                whole = f"{module}.{alias.name}".removeprefix(".")
                found[alias.asname or alias.name] = (whole, "") if whole in inside else (module, alias.name)
    return found


def called(node: ast.AST, known: dict[str, Name], exported: dict[str, Name]) -> set[Name]:
    """The functions of theory/ that a piece of code names, not those hidden by its own arguments."""
    own = {
        a.arg
        for f in ast.walk(node)
        if isinstance(f, ast.FunctionDef)
        for a in ast.walk(f.args)
        if isinstance(a, ast.arg)
    }
    found: set[Name] = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name):
            module, name = known.get(one.value.id, ("", "?"))
            if not name:
                found.add((module, one.attr))
        elif isinstance(one, ast.Name) and one.id in known and one.id not in own:
            found.add(known[one.id])
    return {exported.get(name, (module, name)) if not module else (module, name) for module, name in found if name}


def test_every_formula_is_called_by_what_runs() -> None:
    by_users = {f"optimizers.{name}" for name in scaleinv.__all__}  # register_optimizer
    left = {name for name in unused(sources()) - by_users if not name.startswith("simulators.")}
    assert left == set(), "call it from what runs, or delete it"


def test_an_unused_formula_is_seen() -> None:
    files = {
        "theory/__init__.py": "from scaleinv.theory.a import shown",
        "theory/a.py": "def shown(): return helper()\ndef helper(): 0\ndef lonely(): return pair()\ndef pair(): 0",
        "theory/b.py": "from scaleinv.theory import a\ndef f(g): return a.helper() + g\ndef g(): 0\ndef h(): 0",
        "lab/x.py": "from scaleinv.theory import b as t, shown\nfrom scaleinv.theory.b import h\nh() + t.f(shown())",
    }
    assert unused(files) == {"a.lonely", "a.pair", "b.g"}
    assert unused(files | {"lab/x.py": ""}) == {"a.shown", "a.helper", "a.lonely", "a.pair", "b.f", "b.g", "b.h"}


@pytest.mark.parametrize("one", FORMULAS, ids=lambda one: f"{one.__module__.split('.')[-1]}.{one.__name__}")
def test_docstrings_are_complete(one: _formula.Formula) -> None:
    """A line that says what it computes, the formula on a line of its own, every symbol, errors, example, source."""
    lines = (inspect.getdoc(one) or "").splitlines()
    assert lines[0].endswith((".", ":"))
    assert lines[0].split()[0] in ("Compute", "Tell")
    assert lines[2].startswith("    "), "the formula stands on a line of its own"
    text = " ".join(" ".join(lines).split())
    assert ">>> " in text
    assert "Source: " in text
    assert "errors as for :func:" in text or "Raises :class:" in text
    listed = text.count("as for :func:") or all(f"``{name}``" in text for name in one.signature.parameters)
    assert listed, "every symbol has a line"


def test_every_domain_is_that_of_an_argument() -> None:
    conditions = [condition for one in FORMULAS for condition in one.requires]
    names = {name for one in FORMULAS for name in one.signature.parameters}
    assert set(_formula._DOMAINS) <= names | {name for one in conditions for name in one.parameters}

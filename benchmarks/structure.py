"""Structure of the package, measured from its source.

    python benchmarks/structure.py

Prints the lines of source, circles of imports, imports against the order of the rooms, imports inside functions (each
with its place, with ``--places``), and the places where a learning rate is divided by a norm: the law of the ELR, which
stands in theory/rates.py alone.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "scaleinv"
#: a room may import from rooms before it
_ABOVE = "errors _version geometry text reading plugins plots theory symmetry sphere runfolder"
_BELOW = "monitor lab analysis landscape studies report papers cli"
ROOMS = [*_ABOVE.split(" "), *_BELOW.split(" ")]
#: where the law stands
LAW = "theory/rates.py"
_RATES = re.compile(r"(^|_)(lr|lrs|rate|rates|elr|elrs)$", re.IGNORECASE)
_NORMS = re.compile(r"(^|_)(rho|rhos|norm|norms|radius|radii|rho_sq)$", re.IGNORECASE)


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def sources() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """(node, module, name) of every import; the name is empty for ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node, node.module, alias.name) for alias in node.names)


def for_types_alone(tree: ast.Module) -> set[int]:
    """Lines under ``if TYPE_CHECKING``."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {line for block in blocks for line in range(block.lineno, (block.end_lineno or 0) + 1)}


def inner_imports(files: dict[Path, ast.Module]) -> list[str]:
    found = []
    for path, tree in files.items():
        functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        nodes = {
            n.lineno: ast.unparse(n)
            for f in functions
            for n in ast.walk(f)
            if isinstance(n, (ast.Import, ast.ImportFrom))
        }
        found += [f"{name_of(path)}:{line}  {text}" for line, text in sorted(nodes.items())]
    return found


def against_the_order(files: dict[Path, ast.Module]) -> list[str]:
    found = []
    for path, tree in files.items():
        here = room_of(path)
        if here in ("__init__", "__main__"):
            continue
        if here not in ROOMS:
            found.append(f"{name_of(path)} lies in no room")
            continue
        for node, module, name in imported(tree):
            parts = f"{module}.{name}".split(".") if module == "scaleinv" else module.split(".")
            if parts[0] == "scaleinv" and len(parts) > 1 and parts[1] in ROOMS[ROOMS.index(here) + 1 :]:
                found.append(f"{name_of(path)}:{node.lineno} imports {module}, a room below it")
    return found


def circles(files: dict[Path, ast.Module]) -> list[list[str]]:
    """Groups of files that import one another, be it for their types alone."""
    names = {}
    for path in files:
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    edges: dict[Path, set[Path]] = {path: set() for path in files}
    for path, tree in files.items():
        for _, module, name in imported(tree):
            target = names.get(f"{module}.{name}") or names.get(module)
            if target not in (None, path) and target.name != "__init__.py":
                edges[path].add(target)
    reached: dict[Path, set[Path]] = {}
    for path in files:
        seen, waiting = set(), [path]
        while waiting:
            for other in edges[waiting.pop()] - seen:
                seen.add(other)
                waiting.append(other)
        reached[path] = seen
    found, told = [], set()
    for path in files:
        if path in reached[path] and path not in told:
            together = [other for other in files if other in reached[path] and path in reached[other]]
            told.update(together)
            found.append([name_of(other) for other in together])
    return found


def laws(files: dict[Path, ast.Module]) -> list[str]:
    """Where a rate is divided by a norm or its square, or an ELR multiplied by one."""
    found = []
    for path, tree in files.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.Mult)):
                left = ast.unparse(_last_factor(node.left)).rpartition(".")[2]
                right = (
                    node.right.left
                    if isinstance(node.right, ast.BinOp) and isinstance(node.right.op, ast.Pow)
                    else node.right
                )
                rate = "elr" in left.lower() if isinstance(node.op, ast.Mult) else bool(_RATES.search(left))
                if rate and _NORMS.search(ast.unparse(right).rpartition(".")[2]):
                    found.append(f"{name_of(path)}:{node.lineno}  {ast.unparse(node)}")
    return found


def _last_factor(node: ast.expr) -> ast.expr:
    return node.right if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) else node


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", action="store_true", help="list every place that is counted")
    chosen = parser.parse_args()
    files = sources()
    lines = sum(len(path.read_text().splitlines()) for path in files)
    places = laws(files)
    found = {
        "circles of imports": [" <-> ".join(circle) for circle in circles(files)],
        "imports against the order of rooms": against_the_order(files),
        "imports inside functions": inner_imports(files),
        "files with the law of the ELR": sorted({place.partition(":")[0] for place in places}),
    }
    print(f"{len(files)} files, {lines} lines of source")
    for what, which in found.items():
        print(f"{what}: {len(which)}")
        if chosen.places:
            print("".join(f"    {one}\n" for one in which), end="")
    if chosen.places:
        print("".join(f"    {place}\n" for place in places), end="")


if __name__ == "__main__":
    main()

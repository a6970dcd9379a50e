"""The notebooks of the docs run, and show what they say they show."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs").rglob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text("utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first-regime-map.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_shows_what_is_stored(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cell by cell in one namespace, as a notebook does; every cell that shows something shows it again."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "__notebook__"}
    for cell in cells(notebook, "code"):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(notebook), "exec"), space)
        if last is None:
            assert cell["outputs"] == []
            continue
        value = eval(compile(ast.Expression(last.value), str(notebook), "eval"), space)  # type: ignore[attr-defined]
        (output,) = cell["outputs"]
        assert type(value).__name__ in ("Sweep", "dict", "DataFrame", "Figure")
        if hasattr(value, "_repr_html_") and value._repr_html_():
            assert "text/html" in output["data"]
    regimes = {row["regime"] for row in space["sweep"].summary["runs"]}
    assert {1, 2, 3} <= regimes
    assert all(bound["decided"] for bound in space["sweep"].boundaries.values())


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_the_stored_picture_and_the_stored_boundaries_are_there(notebook: Path) -> None:
    shown = "".join(json.dumps(cell["outputs"]) for cell in cells(notebook, "code"))
    assert "<svg" in shown
    assert "'decided': True" in shown
    for name in ("convergence", "chaotic equilibrium", "divergence"):
        assert name in shown

"""Whatever needs a package that is not installed says so in one line, with what to type; never Python's own error."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scaleinv
from scaleinv.errors import MissingPackage, UserError, needs

SOURCE = Path(scaleinv.__file__).parent
ROOT = Path(__file__).parents[1]
OPTIONAL = {
    "pyarrow", "scipy", "matplotlib", "jinja2", "markupsafe", "safetensors", "rich", "pandas", "sklearn", "numba",
    "filelock", "tensorboard", "wandb", "mlflow", "trackio", "lightning", "transformers", "submitit", "ray",
}  # fmt: skip
#: calls of a user, and the packages without which they must fail; the rest must work
CALLS: dict[str, set[str]] = {}


def _call(text: str, *packages: str) -> None:
    CALLS[text] = set(packages)


_call("[getattr(scaleinv, name) for name in ('Monitor', 'Sphere', 'find_symmetries', 'equilibrium')]", "filelock")
_call("scaleinv.load", "pyarrow", "scipy", "filelock")
_call("scaleinv.sweep", "rich", "pyarrow", "scipy", "safetensors", "filelock")
_call(
    "scaleinv.classification(lambda: torch.nn.Linear(2, 2), (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])))",
    "filelock",
)
_call(
    "importlib.import_module('scaleinv.analysis.periods').find_periods(LOG, lr=0.5, wd=0.005)",
    "pyarrow",
    "scipy",
    "filelock",
)
_call("importlib.import_module('scaleinv.analysis.periods').find_periods(FOLDER)", "pyarrow", "scipy", "filelock")
_call("importlib.import_module('scaleinv.analysis.periods').find_periods(LOG, lr=0.5, wd=0.005).to_pandas()",
      "pyarrow", "scipy", "filelock", "pandas")  # fmt: skip
_call("importlib.import_module('scaleinv.analysis.periods').find_periods(LOG, lr=0.5, wd=0.005).plot()",
      "pyarrow", "scipy", "filelock", "matplotlib")  # fmt: skip
_call("importlib.import_module('scaleinv.analysis.regimes')", "pyarrow", "scipy", "filelock")
_call("importlib.import_module('scaleinv.analysis.double_descent')", "pyarrow", "scipy", "filelock")
_call("importlib.import_module('scaleinv.runfolder.read').load_run(FOLDER)", "pyarrow", "filelock")
_call(
    "importlib.import_module('scaleinv.runfolder.read').load_run(FOLDER).to_pandas()", "pyarrow", "filelock", "pandas"
)
_call("importlib.import_module('scaleinv.runfolder.read').load_run(FOLDER).plot(['rho'])",
      "pyarrow", "filelock", "matplotlib")  # fmt: skip
_call("importlib.import_module('scaleinv.report').write_report", "pyarrow", "scipy", "jinja2", "matplotlib", "filelock")
_call("importlib.import_module('scaleinv.landscape.sharpness').sharpness", "safetensors", "filelock")
_call("importlib.import_module('scaleinv.papers.verify').run", "pyarrow", "safetensors", "filelock")
_call("importlib.import_module('scaleinv.monitor').Monitor(*parts(), sinks=importlib.import_module("
      "'scaleinv.monitor.sinks').TensorBoard(HERE))", "tensorboard", "filelock")  # fmt: skip
_call("importlib.import_module('scaleinv.monitor').Monitor(*parts(), sinks=importlib.import_module("
      "'scaleinv.monitor.sinks').Wandb(project='x', mode='disabled'))", "wandb", "filelock")  # fmt: skip
_call("importlib.import_module('scaleinv.monitor').Monitor(*parts()).to_pandas()", "pandas", "filelock")
_call("scaleinv.equilibrium('adamw', lr=1e-3, wd=0.1, dimension=100).to_pandas()", "pandas")
_call("scaleinv.equilibrium('adamw', lr=1e-3, wd=0.1, dimension=100).plot()", "matplotlib")

_SCRIPT = """
import importlib, json, sys, torch
from importlib.machinery import PathFinder

blocked = set(sys.argv[1].split(","))

find = PathFinder.find_spec  # not installed: found nowhere, also by those who only look
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in blocked else find(name, *more)
for name in [n for n in sys.modules if n.partition(".")[0] in blocked]:
    del sys.modules[name]
import scaleinv

LOG, FOLDER, HERE = sys.argv[2], sys.argv[3], sys.argv[4]

def parts():
    model = torch.nn.Linear(2, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)

for call in json.load(sys.stdin):
    try:
        eval(call)
        print(json.dumps([call, "done", ""]))
    except Exception as error:
        print(json.dumps([call, [c.__name__ for c in type(error).__mro__], str(error)]))
"""


def monitored(place: Path) -> Path:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.LayerNorm(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with scaleinv.Monitor(model, optimizer, groups=["0.weight"], every=1, sinks=place / "run") as monitor:
        for _ in range(40):
            loss = (model(torch.randn(8, 4)) - 1).pow(2).mean()
            loss.backward()
            monitor.loss(loss)
            optimizer.step()
            optimizer.zero_grad()
    return place / "run"


def tried(blocked: set[str], place: Path) -> None:
    import json

    folder = monitored(place)
    asked = [
        sys.executable,
        "-c",
        _SCRIPT,
        ",".join(blocked),
        str(ROOT / "examples/spikes.csv"),
        str(folder),
        str(place),
    ]
    done = subprocess.run(asked, input=json.dumps(list(CALLS)), capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(CALLS), done.stderr
    wrong = []
    for call, kinds, said in lines:
        missing = CALLS[call] & blocked
        names = any(f"pip install {name}" in said for name in missing) and "\n" not in said
        if not ("UserError" in kinds and names if missing else kinds == "done"):
            wrong.append((call, kinds, said))
    assert wrong == [], "\n".join(map(str, wrong))


def test_without_any_optional_package_every_call_says_what_to_install(tmp_path: Path) -> None:
    tried(OPTIONAL - {"filelock"}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "package",
    ["pyarrow", "scipy", "matplotlib", "jinja2", "safetensors", "rich", "pandas", "tensorboard", "wandb", "filelock"],
)
def test_without_one_package_its_name_is_said(package: str, tmp_path: Path) -> None:
    tried({package}, tmp_path)


def at_import(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when a module is imported, without those within ``with needs``, ``try`` and for types."""
    found, waiting = [], list(tree.body)
    while waiting:
        node = waiting.pop()
        guarded = isinstance(node, ast.With) and "needs(" in ast.unparse(node.items[0])
        types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if guarded or isinstance(node, (ast.Try, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        waiting += node.orelse if types else [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]  # type: ignore[attr-defined]
        found.append(node)
    return found


def test_every_optional_package_is_imported_with_a_word_for_where_it_is_missing() -> None:
    unguarded = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("cli/"):  # its end tells it (cli/ending.py)
            continue
        for node in at_import(ast.parse(path.read_text("utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            unguarded += [f"{name}: {m}" for m in modules if m.partition(".")[0] in OPTIONAL]
    assert unguarded == []


def test_a_missing_package_is_an_import_error_and_a_users_error() -> None:
    told = "needs nowhere_at_all, which is missing: pip install nowhere_at_all"
    with pytest.raises(MissingPackage, match=told), needs("lab"):
        import nowhere_at_all.inside  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(ModuleNotFoundError) as caught, needs("lab"):
        raise ModuleNotFoundError("No module named 'scaleinv.nowhere'", name="scaleinv.nowhere")
    assert not isinstance(caught.value, UserError)  # a bug of ours stays one
    with pytest.raises(ImportError) as again, needs("lab"), needs("cli"):
        raise ModuleNotFoundError("No module named 'x'", name="x")
    assert again.value.name == "x"
    assert ".[cli]" in str(again.value)

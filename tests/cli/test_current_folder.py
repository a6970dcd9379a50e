"""What lies in the current folder is not taken for a library; a user's own module there is found all the same."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from scaleinv.cli import COMMANDS

#: what Python and this environment have, and what a library asks for without needing it
NAMES = {name.partition(".")[0] for name in (*sys.stdlib_module_names, *packages_distributions())}
NAMES |= {
    "torchvision",
    "lion_pytorch",
    "cupy",
    "numexpr",
    "yaml",
    "tomllib",
    "apex",
    "triton",
    "xformers",
    "sitecustomize",
}
NAMES = {name for name in NAMES if name.isidentifier()} - {"scaleinv", "__main__"}
#: what Python loads to find the module of `python -m`
RUNPY = set(
    subprocess.run(
        [sys.executable, "-c", "import runpy, pkgutil, sys; print(*{m.partition('.')[0] for m in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
)
_NET = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2))
"""
#: a quick use of every command
USES = {
    "demo": "demo",
    "sweep": "sweep --data digits --model mlp --elr 0.01,0.1 --steps 2 --workers 2 --out s",
    "train": "train --data digits --model mlp --elr 0.01 --steps 2 --out t",
    "run": "run nowhere",
    "periods": "periods log.csv --lr 0.1 --wd 0.01",
    "landscape": "landscape nowhere",
    "report": "report nowhere",
    "check": "check nowhere",
    "data": "data",
    "doctor": "doctor mynet:make --input 4,6",
    "toy": "toy --elr 0.02:1:2 --steps 200 --seeds 1",
    "verify": "verify --only li2020-none",
    "reproduce": "reproduce --list",
    "completion": "completion bash",
}
#: the others end with 0
CODES = {"run": 2, "landscape": 2, "report": 2, "check": 2, "verify": 2}


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with files of these names, each of which leaves a mark where it is executed; and a net, and a log."""
    for name in sorted(NAMES):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write('{name} ')\n")
    (tmp_path / "mynet.py").write_text(_NET)
    (tmp_path / "log.csv").write_text("step,loss,rho\n" + "".join(f"{k},{1 / (k + 1)},2\n" for k in range(60)))
    return tmp_path


def executed(folder: Path) -> str:
    mark = folder / "mark"
    return mark.read_text() if mark.exists() else ""


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_every_command_has_a_use() -> None:
    assert list(USES) == list(COMMANDS)


def test_no_command_loads_what_lies_here(trapped: Path) -> None:
    """As the console script does it: the folder of the script stands first. All commands in one process."""
    (trapped / "bin").mkdir()
    script = trapped / "bin" / "all_commands.py"
    script.write_text(
        "import sys\nfrom scaleinv.cli import run\n"
        f"for name in {list(COMMANDS)!r}:\n"
        "    try:\n        run([name, '--help'])\n    except SystemExit:\n        pass\n"
        f"for line in {[USES[name] for name in ('data', 'periods', 'doctor', 'report')]!r}:\n"
        "    run(line.split())\n"
        "run(['doctor', 'mynet.py:make', '--input', '4,6'])\n"
        "import copy, json, random\n"
        "assert all(m.__file__ != f'{m.__name__}.py' for m in (copy, json, random))\n"
    )
    done = call(trapped, sys.executable, str(script))
    assert done.returncode == 0, done.stderr
    assert executed(trapped) == ""
    assert done.stdout.count("0.weight") >= 2  # both forms of naming a net


@pytest.mark.parametrize("name", [n if n == "data" else pytest.param(n, marks=pytest.mark.slow) for n in USES])
def test_nor_does_python_m(name: str, trapped: Path) -> None:
    for loaded in RUNPY:  # `python -m` itself takes these from the current folder, before any code of ours
        (trapped / f"{loaded}.py").unlink(missing_ok=True)
    done = call(trapped, sys.executable, "-m", "scaleinv", *USES[name].split())
    assert executed(trapped) == ""
    assert done.returncode == CODES.get(name, 0), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_file_named_like_a_library_can_hold_a_net(trapped: Path) -> None:
    for loaded in RUNPY:
        (trapped / f"{loaded}.py").unlink(missing_ok=True)
    (trapped / "copy.py").write_text(_NET)
    done = call(trapped, sys.executable, "-m", "scaleinv", "doctor", "copy.py:make", "--input", "4,6")
    assert done.returncode == 0, done.stderr
    assert "0.weight" in done.stdout
    wrong = call(trapped, sys.executable, "-m", "scaleinv", "doctor", "copy:make", "--input", "4,6")
    assert wrong.returncode == 2
    assert "for the file here write copy.py:FACTORY" in wrong.stderr
    assert executed(trapped) == ""


def test_a_file_does_not_become_the_module_of_its_name(trapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaleinv.symmetry.inputs import load_model

    monkeypatch.chdir(trapped)
    (trapped / "never_seen_before.py").write_text(_NET)
    load_model("never_seen_before.py:make")
    assert "never_seen_before" not in sys.modules
    assert str(trapped) not in sys.path


_OWN = """
import beside
import torch
from torch import nn
from scaleinv import classification

print("own file")

def make():
    import later  # found when it is called, too
    return nn.Sequential(nn.Linear(6, later.WIDTH, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2))

def data():
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(20) % 2

def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)

def problem():
    return classification(make, data())

class Steps(torch.optim.SGD):
    pass
"""
#: what names an object of one's own; the file for these is copy.py, whose name a library has
OWN_USES = [
    "doctor copy.py:make --input 4,6",
    "doctor copy.py:make --input 4,6 --optimizer copy.py:optimizer",
    "train --model copy.py:make --data copy.py:data --elr 0.1 --steps 2 --out a",
    "train --model copy.py:make --data copy.py:data --loss copy.py:loss --lr 0.1 --steps 2 --out b",
    "train --problem copy.py:problem --lr 0.1 --steps 2 --out c",
    "train --problem mine:problem --lr 0.1 --steps 2 --out d",
    "train --model copy.py:make --data copy.py:data --optimizer copy.py:Steps --lr 0.1 --steps 2 --out e",
    "sweep --problem copy.py:problem --elr 0.1,1 --steps 2 --workers 1 --out f",
    "report a",
]


@pytest.mark.slow
def test_of_what_is_named_only_that_file_and_what_it_imports_is_executed(trapped: Path) -> None:
    (trapped / "copy.py").write_text(
        _OWN + "\ndef optimizer(model):\n    return torch.optim.SGD(model.parameters(), 0.1)\n"
    )
    (trapped / "mine.py").write_text(_OWN)
    (trapped / "beside.py").write_text("import torch\n")
    (trapped / "later.py").write_text("WIDTH = 4\n")
    script = trapped.parent / f"{trapped.name}-scripts" / "own.py"  # within the folder it would be one's own file
    script.parent.mkdir()
    script.write_text(
        "import sys\nfrom scaleinv.cli import run\n"
        "if __name__ == '__main__':\n"
        f"    for line in {OWN_USES!r}:\n"
        "        code = run(line.split())\n"
        "        assert code == 0, (line, code)\n"
        "    import importlib\n"
        # nobody named these, and the script is no file of that folder's
        "    for name in ('beside', 'torchvision', 'later_still'):\n"
        "        sys.modules.pop(name, None)\n"
        "        try:\n            found = importlib.import_module(name)\n"
        "        except ImportError:\n            continue\n"
        f"        assert not str(found.__file__).startswith({str(trapped)!r}), name\n"
    )
    (trapped / "later_still.py").write_text("")
    done = call(trapped, sys.executable, str(script))
    assert done.returncode == 0, done.stderr[-2000:]
    assert executed(trapped) == ""
    assert "own file" in done.stderr  # what a file prints is not the answer


def test_a_library_in_the_folder_takes_nothing_from_it(tmp_path: Path) -> None:
    """An environment may lie in the folder one works in: its libraries are not one's own files."""
    library = tmp_path / ".venv" / "site-packages" / "wants_extra.py"
    library.parent.mkdir(parents=True)
    library.write_text("try:\n    import an_extra\nexcept ImportError:\n    an_extra = None\n")
    (tmp_path / "an_extra.py").write_text("WRONG = 1\n")
    (tmp_path / "net.py").write_text("import wants_extra\nfrom an_extra import WRONG\nfound = wants_extra.an_extra\n")
    code = (
        f"import sys; sys.path.insert(0, {str(library.parent)!r}); from scaleinv.plugins import load_object; "
        "import scaleinv; print(load_object('net.py:found'), load_object('net.py:WRONG'))"
    )
    done = call(tmp_path, sys.executable, *(["-P"] if sys.version_info >= (3, 11) else ["-I"]), "-c", code)
    assert done.stdout == "None 1\n", done.stderr

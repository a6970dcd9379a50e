"""What lies in the current folder is not taken for a library; a user's own module there is found all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scaleinv.cli import COMMANDS

#: libraries and modules of Python that somebody has a file of the same name for
NAMES = ["tyro", "copy", "rich", "numpy", "torch", "yaml", "json", "sklearn", "pyarrow", "matplotlib", "scipy"]
NAMES += ["safetensors", "typing", "dataclasses", "pickle", "struct", "random", "socket", "tempfile"]
NAMES += ["signal", "threading"]
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
    "data": "data",
    "doctor": "doctor mynet:make --input 4,6",
    "toy": "toy --elr 0.02:1:2 --steps 200 --seeds 1",
    "verify": "verify --only li2020-none",
    "reproduce": "reproduce --list",
    "completion": "completion bash",
}
#: the others end with 0
CODES = {"run": 2, "landscape": 2, "report": 2, "verify": 2}


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with files of these names, each of which leaves a mark where it is executed; and a net, and a log."""
    for name in NAMES:
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
    done = call(trapped, sys.executable, "-m", "scaleinv", *USES[name].split())
    assert executed(trapped) == ""
    assert done.returncode == CODES.get(name, 0), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_file_named_like_a_library_can_hold_a_net(trapped: Path) -> None:
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
    monkeypatch.setattr(sys, "path", list(sys.path))
    (trapped / "never_seen_before.py").write_text(_NET)
    load_model("never_seen_before.py:make")
    assert "never_seen_before" not in sys.modules
    assert sys.path[-1] == str(trapped)
    assert str(trapped) not in sys.path[:-1]

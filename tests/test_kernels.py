"""`make kernels`: every setting runs, whatever fails, and the exit code says whether one did."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kernels.py"


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = importlib.util.spec_from_file_location("kernels", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["kernels.py"])
    return module


def test_it_goes_on_after_a_setting_that_fails(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run(command: list[str], setting: str, show: Callable[[str], object]) -> tuple[bool, str]:
        asked.append(setting)
        return setting != "avx2", "3 passed"

    monkeypatch.setattr(kernels, "run", run)
    assert kernels.main() == 1
    assert list(dict.fromkeys(asked)) == list(kernels.SETTINGS)
    assert len(asked) == 2 * 6  # tests and claims
    rows = capsys.readouterr().out.splitlines()[-6:]
    assert [row.split("  ")[0] for row in rows] == list(kernels.SETTINGS)
    assert ["FAILED" in row for row in rows] == [setting == "avx2" for setting in kernels.SETTINGS]

    monkeypatch.setattr(kernels, "run", lambda command, setting, show: (True, ""))
    assert kernels.main() == 0


def test_numerics_takes_two_settings_and_no_claims(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, list[str]] = {}
    together = Barrier(2, timeout=60)  # both are under way before either ends

    def run(command: list[str], setting: str, show: Callable[[str], object]) -> tuple[bool, str]:
        asked[setting] = command
        together.wait()
        for _ in range(2):
            show(f"tests of {setting}\n")
            together.wait()
        return True, ""

    monkeypatch.setattr(kernels, "run", run)
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--numerics"])
    assert kernels.main() == 0
    assert asked.keys() == set(kernels.FARTHEST)
    assert all("numerics" in command[-1] for command in asked.values())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tests of")]
    assert lines[0] == lines[1] != lines[2] == lines[3]  # not mixed


def test_no_mark_stands_where_its_files_are_not_looked_for(kernels: ModuleType) -> None:
    files = SCRIPT.parents[1].glob("tests/**/*.py")
    marked = [str(file) for file in files if "mark.numerics" in file.read_text("utf-8")]
    assert sorted(marked) == kernels.marked_files()
    assert len(marked) > 20


def test_a_command_sees_its_setting_and_no_other(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    show = [sys.executable, "-c", "import os; print('3 passed', sorted(os.environ.keys() & set(%r)))"]
    show[-1] %= sorted(kernels.VARIABLES)
    shown: list[str] = []
    assert kernels.run(show, "plain", shown.append) == (True, "3 passed []")
    assert kernels.run(show, "avx2", shown.append) == (True, "3 passed ['ATEN_CPU_CAPABILITY']")
    assert shown == ["3 passed []\n", "3 passed ['ATEN_CPU_CAPABILITY']\n"]
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
    assert kernels.run([sys.executable, "-c", "raise SystemExit(1)"], "plain", shown.append) == (False, "")

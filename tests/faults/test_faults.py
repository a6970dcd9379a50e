"""A sample of ``make faults``: kills, write faults and damages, and that the trials would see what goes wrong."""

from __future__ import annotations

import errno
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("calls are seen by /proc", allow_module_level=True)

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
import damaged_files
import scenarios
from injection import Injection, in_child
from trials import Trials, scratch


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        yield Path(place)


@pytest.mark.parametrize("name", ["run", "monitor"])
def test_a_fault_anywhere_loses_nothing(name: str, root: Path) -> None:
    trials = Trials(name, root)
    tried, wrong = trials.some(3, [None, errno.ENOSPC], random.Random(name))
    assert tried == 6
    assert wrong == []


def test_damages_are_never_silent() -> None:
    counts, wrong = damaged_files.figures(0.03, 1)
    assert counts["damages"] == 30
    assert wrong == []


def test_a_writer_that_is_not_atomic_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials find a file that is written under its own name."""

    def careless(folder: Path) -> None:
        path = folder / "a.json"
        if path.exists():
            return
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(handle, b'{"a": 12345678}')
        os.close(handle)

    monkeypatch.setitem(scenarios.SCENARIOS, "careless", scenarios.Scenario(careless))
    trials = Trials("careless", tmp_path)
    assert trials.calls == ["open a.json", "write"]
    with pytest.raises(ValueError):  # half a file of JSON
        trials.one(1, None)


def test_an_injected_error_comes_at_its_call(tmp_path: Path) -> None:
    def two() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()

    assert in_child(two, Injection(tmp_path, 1, errno.EROFS)).how == "traceback"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert in_child(lambda: (tmp_path / "c").mkdir(), Injection(tmp_path, 0)).how == "killed"

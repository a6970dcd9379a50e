"""What a terminal sees of a long search."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from scaleinv.symmetry import find_symmetries, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    find_symmetries(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(16, 4))
    lines = [line.strip() for line in stream.getvalue().split("\r")]
    assert any(line.startswith("scaleinv: place 1: rank") for line in lines)
    assert any("claims tested by scaling" in line for line in lines)
    assert any("what eps does to the groups" in line for line in lines)
    assert lines[-2:] == ["", ""]
    assert "\n" not in stream.getvalue()


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_nothing_is_said_of_what_is_quick_or_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    if not stream.isatty():
        monkeypatch.setattr(progress, "_AFTER", 0.0)
    else:
        monkeypatch.setattr(progress, "_AFTER", 1e9)
    with progress.told():
        progress.say("here")
    assert stream.getvalue() == ""

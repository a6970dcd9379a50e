"""`make audit` says what it could not ask: silence is not "no known hole"."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "audit.py"))
CLEAN: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
BAD: dict[str, Any] = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNASKED: dict[str, Any] = {"name": "c", "skip_reason": "Dependency not found on PyPI: c (3)"}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([CLEAN], 0, "1 of 1 versions were asked about, no known hole"),
        ([CLEAN, BAD, UNASKED], 1, "b 2: PYSEC-1, mended in 2.1"),
        ([CLEAN, UNASKED], 3, "nothing is known of the other 1 (c): Dependency not found on PyPI"),
    ],
)
def test_what_was_not_asked_is_said(found: list[dict[str, Any]], code: int, said: str) -> None:
    given, lines = AUDIT["judge"](found)
    assert given == code
    assert said in "\n".join(lines)


@pytest.mark.parametrize(
    "end", ["", "Traceback (most recent call last):\n  ...\nConnectionError: no route to pypi.org"]
)
def test_no_answer_is_one_line(end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", end))
    assert AUDIT["main"]() == 3
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith("audit: nothing was asked: ")

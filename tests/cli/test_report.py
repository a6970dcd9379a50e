"""``scaleinv report``: the path on the last line, one-line errors with exit code 2."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from scaleinv import cli


@pytest.fixture(scope="module")
def folders() -> ModuleType:
    path = Path(__file__).parents[1] / "report" / "folders.py"
    spec = importlib.util.spec_from_file_location("report_folders", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_path_is_the_last_line(folders: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.write_sweep(tmp_path / "s", elrs=[1e-3, 0.1, 3.0], epochs=12)
    assert cli.run(["report", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str(tmp_path / "s" / "report.html")
    assert Path(out[-1]).read_text("utf-8").startswith("<!DOCTYPE html>")


def test_out_format_and_json(folders: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.write_run(tmp_path / "r", 0.1, 12, 1)
    target = tmp_path / "elsewhere" / "page.html"
    assert cli.run(["report", str(tmp_path / "r"), "--out", str(target), "--format", "png, svg", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(target)
    assert target.exists()
    assert len(told["figures"]) == 18
    assert all(Path(path).exists() for path in told["figures"])
    assert not (tmp_path / "r" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "no such folder"),
        (["."], "neither sweep-config.json nor config.json"),
        (["r", "--format", "gif"], "unknown figure format 'gif'"),
        (["r", "--out", "r/config.json/x.html"], "cannot write"),
        (["r", "--out", "one.txt"], "--out one.txt: a page is an HTML file, not .txt; name an .html file, or a folder"),
        (["r", "--out", "one.txt", "--format", "png"], "--out one.txt: a page is an HTML file, not .txt"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    folders: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    folders.write_run(tmp_path / "r", 0.1, 3, 1)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["report", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert not (tmp_path / "one.txt").exists()


def test_a_folder_with_a_dot_in_its_name(
    folders: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.write_run(tmp_path / "r", 0.1, 3, 1)
    (tmp_path / "there.v2").mkdir()
    for name in ("there.v2", "elr-0.1"):
        assert cli.run(["report", str(tmp_path / "r"), "--out", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / name / "report.html")

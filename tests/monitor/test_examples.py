"""Every example runs, with few steps, and says what it is there to say."""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch
from tests.timm_alone import load_timm

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = Path(os.environ.get("SCALEINV_DATA", "data")) / "tinyshakespeare.txt"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # those of the libraries; ours are tested elsewhere
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_digits_loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = run(monkeypatch, capsys, "digits_loop.py", "120", str(tmp_path / "run"))
    assert "14 groups, 3 scale-invariant" in out
    assert "weight decay 0.005 acts on a tensor that the output does not depend on" in out
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_timm_resnet18(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    load_timm()
    out = run(monkeypatch, capsys, "timm_resnet18.py", "4")
    assert "62 groups, 20 scale-invariant" in out
    assert "layer4.1.conv2.weight" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "free"), [(("adamw",), 5), (("muon",), 5), (("adamw", "plain"), 1), (("muon", "plain"), 1)]
)
def test_gpt_rotation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], free: int
) -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    out = run(monkeypatch, capsys, "gpt_rotation.py", "60", *options)
    assert f"10 groups, {free} scale-invariant" in out
    assert ("blocks.0.q.weight        turns" in out) == (free == 5)


@pytest.mark.slow
def test_gpt_hyperball(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    out = run(monkeypatch, capsys, "gpt_hyperball.py", "40")
    lines = [line.split() for line in out.splitlines() if line.startswith("step ")]
    assert len({line[5] for line in lines}) == 1  # the norm
    assert {line[7] for line in lines} == {"1.0e-03", "2.0e-04"}


def test_gpt_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SCALEINV_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="download tiny-shakespeare"):
        run(monkeypatch, capsys, "gpt_hyperball.py", "1")


@pytest.mark.slow
def test_lightning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("lightning")
    assert "5 groups, 1 scale-invariant" in run(monkeypatch, capsys, "lightning_digits.py", "1")


@pytest.mark.slow
def test_trainer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    assert "5 groups, 1 scale-invariant" in run(monkeypatch, capsys, "trainer_digits.py", "20")


@pytest.mark.slow
def test_language_regimes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "tinyshakespeare.txt").write_text("First Citizen: Before we proceed any further, hear me speak.\n" * 70)
    monkeypatch.setenv("SCALEINV_DATA", str(tmp_path))
    out = run(monkeypatch, capsys, "language_regimes.py", "1e-3", "1", str(tmp_path / "map"))
    assert "<language model problem: small GPT on tiny-shakespeare, 57 windows of 64>" in out
    assert "Sweep of 1 run of small GPT on tiny-shakespeare" in out


REGIMES = ["own_problem.py", "timm_regimes.py", "language_regimes.py"]


@pytest.mark.parametrize("name", REGIMES)
def test_help_of_examples_of_regimes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, capsys, name, "--help")
    assert (stopped.value.code, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("name", ["digits_loop.py", "gpt_hyperball.py", "gpt_rotation.py", "timm_resnet18.py"])
def test_odd_arguments_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    pytest.importorskip("sklearn")
    if name == "timm_resnet18.py":
        load_timm()
    monkeypatch.chdir(tmp_path)
    for argument, code in (("--help", 0), ("many", 2)):
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, capsys, name, argument)
        assert stopped.value.code == code
    assert "invalid int value: 'many'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""``scaleinv train`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaleinv import cli

RUN = [
    "train",
    "--data",
    "digits",
    "--subset",
    "64",
    "--model",
    "mlp",
    "--width",
    "4",
    "--epochs",
    "2",
    "--threads",
    "1",
]


def test_first_and_second_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "run"
    assert cli.run([*RUN, "--elr", "0.01", "--out", str(out)]) == 0
    answer, progress = capsys.readouterr()
    lines = answer.splitlines()
    assert lines[0] == "? undecided: 2 epochs are too few to judge; at least 20 are needed"
    assert lines[1].startswith("finished after 8 steps (2 epochs) in ")
    table = lines[2 : lines.index(next(line for line in lines if line.startswith("folder ")))]
    assert max(map(len, table)) <= 80
    assert not any("…" in line for line in table)
    labels = [line[1:].split("  ")[0] for line in table if line]
    assert labels == [
        "measured", "online, epoch mean", "train, exact", "test", "test, BN recomputed",
        "group (online, epoch mean)", "total", "layers.0.weight", "layers.1.weight", "layers.2.weight",
    ]  # fmt: skip
    assert "ELR 0.01 seed 0: epoch 1, step 4/8, loss " in progress
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["regime"], result["steps"]) == ("finished", None, 8)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert cli.run([*RUN, "--elr", "0.01", "--out", str(out)]) == 0
    assert capsys.readouterr() == (answer, "")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_json_and_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.run([*RUN, "--lr", "1e30", "--variant", "standard", "--json", "--quiet", "--out", str(tmp_path / "r")]) == 0
    )
    out, error = capsys.readouterr()
    assert error == ""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    answer = json.loads(out, parse_constant=refuse)
    assert answer["status"] == "diverged"
    assert answer["regime"] is None
    assert "step 1 leaves weights that are not finite" in answer["evidence"]["reason"]
    assert answer["folder"] == str(tmp_path / "r")


def test_a_damaged_step_record_is_said_by_the_second_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    train = [*RUN, "--lr", "0.1", "--weight-decay", "0.01", "--out", str(out), "--quiet"]
    assert cli.run(train) == 0
    record = out / "metrics" / "steps-final.parquet"
    record.write_bytes(record.read_bytes()[:500])
    capsys.readouterr()
    for command in (train, ["report", str(out)], ["periods", str(out)]):
        assert cli.run(command) == 2
        answer, error = capsys.readouterr()
        assert answer == ""
        assert f"{record} is damaged" in error
        assert error.count("\n") == 1
    assert not (out / "report.html").exists()


def test_epochs_are_counted_in_whole_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [*RUN, "--elr", "0.01", "--quiet", "--out", str(tmp_path / "run")]
    args[args.index("--epochs") + 1] = "1"
    assert cli.run(args) == 0
    assert "finished after 4 steps (1 epoch) in " in capsys.readouterr().out
    from scaleinv.cli.tables import epochs

    assert epochs(1500.0) == "1500 epochs"
    assert epochs(1234567.0) == "1234567 epochs"


def test_long_names_keep_their_end() -> None:
    from scaleinv.cli.tables import number, shorten

    assert shorten("stages.0.conv1.weight") == "stages.0.conv1.weight"
    assert shorten("convs.0.weight+stages.0.0.conv2.weight") == "…ages.0.0.conv2.weight"
    assert len(shorten("x" * 100)) == 22
    values = (1.5512e-6, 3.3e-310, 123456.0, -0.000999999, 0.01234, 1e30, float("nan"), float("-inf"), -1.234e-12)
    assert max(len(number(value)) for value in values) <= 9

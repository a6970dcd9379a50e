"""``scaleinv sweep`` from the outside, and the refusals it shares with ``train``: one line, code 2, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaleinv import cli
from scaleinv.runfolder.seal import read_sealed

SWEEP = [
    "sweep",
    "--data",
    "digits",
    "--subset",
    "64",
    "--model",
    "mlp",
    "--width",
    "4",
    "--steps",
    "8",
    "--workers",
    "1",
]
TRAIN = [
    "train",
    "--data",
    "digits",
    "--subset",
    "64",
    "--model",
    "mlp",
    "--width",
    "4",
    "--steps",
    "8",
    "--threads",
    "1",
]

SHARED = [
    ("--data cifar11", "unknown data set 'cifar11'"),
    ("--model vgg", "unknown model 'vgg'"),
    ("--variant none", "unknown variant 'none'"),
    ("--normalization instance", "unknown normalization 'instance'"),
    ("--norm-eps 0", "norm-eps 0.0"),
    ("--loss hinge", "unknown loss 'hinge'"),
    ("--granularity layer", "unknown granularity 'layer'"),
    ("--granularity row --model resnet18", "not exact"),
    ("--evaluation never", "unknown evaluation 'never'"),
    ("--subset 1438", "subset 1438 of digits is impossible: choose 2 to 1437"),
    ("--subset 1", "subset 1"),
    ("--label-noise 1.5", "label noise 1.5"),
    ("--label-noise nan", "label noise nan"),
    ("--width 0", "width 0"),
    ("--width -3", "width -3"),
    ("--batch-size 1", "batch-size 1"),
    ("--steps 0", "steps 0"),
    ("--epochs 2", "epochs 2 and steps 8: give one of the two"),
    ("--momentum 1", "momentum 1.0"),
    ("--momentum nan", "momentum nan"),
    ("--weight-decay 1e-4", "only sets another ELR"),
    ("--other-lr -1", "other-lr -1.0"),
    ("--head-norm 0", "head norm 0.0"),
    ("--eval-every 0", "eval-every 0"),
    ("--data mnist --data-dir /nonexistent", "/nonexistent"),
]
OF_SWEEP = [
    ("", "give one of --elr"),
    ("--elr 0.1,1 --lr 0.1,1", "give one of --elr"),
    ("--elr 0", "0 is not a positive finite number"),
    ("--elr -1:1:3", "-1 is not a positive finite number"),
    ("--elr nan", "nan is not a positive finite number"),
    ("--elr 1e-3,,1", "elr '1e-3,,1' has an empty entry"),
    ("--elr 0:1:3", "elr '0:1:3': a log range cannot begin at 0"),
    ("--lr 0.1 --weight-decay=-1", "weight-decay '-1': -1 is not 0 or a positive number"),
    ("--lr 0.1 --weight-decay=0:1e-2:3", "weight-decay '0:1e-2:3': a log range cannot begin at 0; list 0 apart"),
    ("--lr 0.1 --weight-decay=1e-2:0:3", "weight-decay '1e-2:0:3': a log range cannot end at 0"),
    ("--elr 1e-4:1:1", "a range needs at least 2"),
    ("--elr 1:1:5", "two different ends"),
    ("--elr 1:2", "not understood"),
    ("--elr ten", "'ten' is not a number"),
    ("--elr=", "holds no number"),
    ("--elr 1e31,1", "beyond float32"),
    ("--elr 1:2:2000 --seeds 100", "200000 runs, more than 100000"),
    ("--elr 1 --seeds 100001", "--seeds 100001: must be at most 100000"),
    ("--elr 1 --workers 257", "--workers 257: must be at most 256"),
    ("--elr 0.1,1 --seeds 0", "seeds 0"),
    ("--elr 0.1,1 --workers 0", "workers 0"),
    ("--elr 0.1,1 --workers -1", "workers -1"),
    ("--elr 0.1,1 --workers two", "--workers: 'two' is not a whole number; see scaleinv sweep --help"),
    ("--elr 0.1,1 more", "Unrecognized options: more"),
    ("--elr 1:2:1000000", "more than 10000"),
]
OF_TRAIN = [
    ("", "give one of --elr"),
    ("--elr 0.1 --lr 0.1", "give one of --elr"),
    ("--elr 0", "elr 0.0 is not a positive number"),
    ("--elr -1", "elr -1.0 is not a positive number"),
    ("--elr nan", "elr nan is not a positive number"),
    ("--lr inf", "lr inf is not a positive number"),
    ("--elr 0.1 --seed -1", "seed -1"),
    ("--elr 0.1 --seed 9223372036854775808", "seed 9223372036854775808"),
    ("--elr 0.1 --threads 0", "threads 0"),
    ("--elr ten", "--elr: 'ten' is not a number; see scaleinv train --help"),
    ("--elr None", "'None' is not a number"),
    ("--elr 0.1 --widht 3", "Unrecognized options: --widht"),
    ("--elr", "Missing value for argument '--elr'"),
]
CASES = (
    [("sweep", f"--elr 0.1,1 {flags}", message) for flags, message in SHARED]
    + [("train", f"--elr 0.1 {flags}", message) for flags, message in SHARED]
    + [("sweep", flags, message) for flags, message in OF_SWEEP]
    + [("train", flags, message) for flags, message in OF_TRAIN]
)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line a refusal says."""
    assert cli.run(argv) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("scaleinv: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(("command", "flags", "message"), CASES)
def test_bad_input(command: str, flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = SWEEP if command == "sweep" else TRAIN
    out = tmp_path / "out"
    error = refused([*base, "--out", str(out), *flags.split()], capsys)
    assert message in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sweep `sweep` and the run `run`."""
    folder = tmp_path_factory.mktemp("finished")
    assert cli.run([*SWEEP, "--elr", "0.1,1", "--quiet", "--json", "--out", str(folder / "sweep")]) == 0
    assert cli.run([*TRAIN, "--elr", "0.1", "--quiet", "--json", "--out", str(folder / "run")]) == 0
    return folder


def everything(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            [*SWEEP, "--elr", "0.1,2", "--out", "sweep"],
            "another sweep (values: 2 from 0.1 to 1 there, 2 from 0.1 to 2 here)",
        ),
        (
            [*SWEEP, "--elr", "0.1,1", "--momentum", "0.5", "--out", "sweep"],
            "another sweep (momentum: 0.0 there, 0.5 here)",
        ),
        ([*SWEEP, "--lr", "0.1,1", "--out", "sweep"], "another sweep ("),
        ([*SWEEP, "--elr", "0.1,1", "--seeds", "2", "--out", "sweep"], "another sweep (seeds: "),
        ([*SWEEP, "--elr", "0.1,1", "--out", "run"], "is the folder of a single run"),
        ([*TRAIN, "--elr", "0.2", "--out", "run"], "holds another run (elr 0.1 there, 0.2 here)"),
        ([*TRAIN, "--elr", "0.1", "--out", "sweep"], "is the folder of a sweep"),
        ([*SWEEP, "--elr", "0.1,1", "--out", "."], "is not empty and not a sweep"),
        ([*TRAIN, "--elr", "0.1", "--out", "."], "is not empty and not a run folder"),
        ([*SWEEP, "--elr", "0.1,1", "--out", "run/config.json"], "is a file, not a folder"),
        ([*TRAIN, "--elr", "0.1", "--out", "run/config.json"], "is a file, not a folder"),
    ],
)
def test_folders_of_others(finished: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(finished)
    argv = [*argv[:-1], str(finished / argv[-1])]
    assert message in refused(argv, capsys)
    assert everything(finished) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 3, "config": {"elr": NaN}}', "holds NaN"),
        ("{", "is not readable JSON"),
        ("[]", "is not the config of a run"),
        ('{"format": 5, "config": {}}', "has the format 5"),
        ('{"format": 3, "config": {"elr": 0.1}}', "field 'data' is missing"),
        ('{"format": 3, "config": {"elr": 0.1, "colour": 1}}', "unknown field 'colour'"),
    ],
)
def test_damaged_config_of_a_run(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(content)
    error = refused([*TRAIN, "--elr", "0.1", "--out", str(tmp_path)], capsys)
    assert message in error
    assert str(tmp_path / "config.json") in error
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 3, "sweep": {"values": [NaN]}}', "holds NaN"),
        ("", "is not readable JSON"),
        ("[]", "is not the config of a sweep"),
        ('{"format": 3, "sweep": {"base": 3}}', "is not the config of a sweep"),
        ('{"format": 3, "sweep": {"base": {}}}', "is the folder of another sweep"),
    ],
)
def test_damaged_config_of_a_sweep(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep-config.json").write_text(content)
    error = refused([*SWEEP, "--elr", "0.1,1", "--out", str(tmp_path)], capsys)
    assert message in error
    assert [p.name for p in tmp_path.iterdir()] == ["sweep-config.json"]


def test_a_sweep_that_has_ended_is_only_shown(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*SWEEP, "--elr", "0.1,1", "--out", str(finished / "sweep")]
    before = everything(finished / "sweep")
    assert cli.run([*argv, "--json", "--quiet"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert json.loads(out) == read_sealed(finished / "sweep" / "sweep.json")
    assert cli.run(argv) == 0
    out, error = capsys.readouterr()
    lines = out.splitlines()
    assert lines[-1] == f"  report               {finished / 'sweep' / 'report.html'}"
    assert max(len(line) for line in lines[:-1]) <= 80
    assert [line.split()[0] for line in lines[:3]] == ["ELR", "0.1", "1"]
    assert len(error.splitlines()) == 2  # a line a run
    after = everything(finished / "sweep")
    assert {p for p in after if after[p] != before.get(p)} <= {finished / "sweep" / "report.html"}


def test_sweep_json(finished: Path) -> None:
    summary = json.loads((finished / "sweep" / "sweep.json").read_text())
    assert set(summary["boundaries"]) == {"1/2", "2/3"}
    assert set(summary["boundaries"]["1/2"]) == {"low", "high", "decided"}
    assert [run["elr"] for run in summary["runs"]] == [0.1, 1.0]
    fields = {
        "run", "elr", "seed", "regime", "evidence", "train_loss", "test_error", "effective_gradient", "ess", "cosine",
        "status",
    }  # fmt: skip
    for run in summary["runs"]:
        assert fields <= set(run)
        assert (finished / "sweep" / "runs" / run["run"] / "result.json").exists()
        assert run["status"] == "finished"


def test_a_damaged_run_does_not_stop_the_others(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    out = tmp_path / "sweep"
    shutil.copytree(finished / "sweep", out)
    first = json.loads((out / "sweep.json").read_text())["runs"][0]
    part = out / "runs" / first["run"] / "metrics" / "part-final.parquet"
    part.write_bytes(part.read_bytes()[:100])
    assert cli.run([*SWEEP, "--elr", "0.1,1", "--quiet", "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert "failed" in said
    assert "part-final.parquet is damaged" in said
    after = json.loads((out / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in after] == ["failed", "finished"]
    assert after[1] == json.loads((finished / "sweep" / "sweep.json").read_text())["runs"][1]


def test_a_sweep_from_a_sweep_names_the_parents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*SWEEP, "--elr", "1e-2,1e-3", "--quiet", "--out", str(tmp_path / "s1")]) == 0
    capsys.readouterr()
    assert cli.run([*SWEEP, "--from", str(tmp_path / "s1"), "--elr", "2e-3", "--out", str(tmp_path / "s2")]) == 0
    answer, progress = capsys.readouterr()
    assert "ELR 0.002 seed 0, from ELR 0.01 seed 0: " in progress
    lines = answer.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["from", "0.001", "0.01"]
    assert [line.split(" (")[0] for line in lines if line.startswith(" from ")] == [
        " from ELR 0.001, seed 0, epoch 2",
        " from ELR 0.01, seed 0, epoch 2",
    ]
    page = (tmp_path / "s2" / "report.html").read_text("utf-8")
    assert "Re-training" in page
    assert "whose folder is gone" not in page

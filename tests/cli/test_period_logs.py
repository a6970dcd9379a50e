"""``scaleinv periods`` of the sample logs in examples/logs, and how fast it is."""

import json
import os
import runpy
import time
from pathlib import Path

import numpy as np
import pytest
from tests.analysis.series import breaking

from scaleinv.cli import run

LOGS = Path(__file__).parents[2] / "examples" / "logs"
#: sample -> flags, and how the answer begins
SAMPLES = {
    "wandb.csv": (["--lr", "0.5", "--wd", "0.005"], "13 periods of 214 steps"),
    "metrics.csv": (["--wd", "0.005", "--momentum", "0.5"], "7 periods of 492 steps"),
    "trainer_state.json": (["--wd", "0.05"], "equilibrium, no periods"),
    "train.log": (["--wd", "0.005"], "undecided: no 10-fold rise of the loss"),
    "events.out.tfevents.1700000000.example": (["--lr", "0.1", "--wd", "0.001"], "not yet: no break-down"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_logs(name, capsys):
    flags, answer = SAMPLES[name]
    assert run(["periods", str(LOGS / name), *flags]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(answer)
    assert "- Read from" in out
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80 + len(str(LOGS))  # a path is not broken


def test_five_samples_and_their_script():
    assert {path.name for path in LOGS.iterdir() if path.name != "__pycache__"} == {*SAMPLES, "make.py"}
    assert sum(path.stat().st_size for path in LOGS.glob("*.*")) < 400_000


@pytest.mark.slow
def test_the_script_makes_the_samples(tmp_path, monkeypatch):
    """Their form to the byte; chaotic numbers may differ on another machine, the first rows do not."""
    monkeypatch.setattr("sys.argv", ["make.py", str(tmp_path)])
    runpy.run_path(str(LOGS / "make.py"), run_name="__main__")
    for name in SAMPLES:
        if name.endswith((".csv", ".log")):
            made, kept = ((folder / name).read_text().splitlines() for folder in (tmp_path, LOGS))
            assert len(made) == len(kept)
            assert made[0] == kept[0]
            assert [line.count(",") for line in made] == [line.count(",") for line in kept]
        assert abs((tmp_path / name).stat().st_size - (LOGS / name).stat().st_size) < 2000


def test_several_files_and_names_of_columns(tmp_path, capsys):
    series = breaking(5000, 0.1, 0.01)
    for name, key in (("a.csv", "loss"), ("b.csv", "rho")):
        lines = [f"{k};{x:.9g}" for k, x in enumerate(series[key])]
        (tmp_path / name).write_text("\n".join([f"t;|{key}|", *lines]) + "\n")
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    flags = ["--lr", "0.1", "--wd", "0.01", "--columns", "step=t,loss=|loss|,rho=|rho|", "--json"]
    assert run(["periods", *files, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "periodic"
    assert found["on"] == "norm"
    assert found["mean_interval"] == pytest.approx(713, abs=3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--columns", "lose=a"], "--columns 'lose=a': write WHAT=NAME with WHAT one of step, epoch, loss"),
        (["--columns", "loss=nowhere"], "has no column 'nowhere' (it has "),
        (["--optimizer", "Adamm"], "optimizer 'Adamm' is not known"),
        (["--steps-per-epoch", "0"], "--steps-per-epoch 0: must be a number above 0"),
        (["--momentum", "0.9", "--optimizer", "AdamW"], "does not change the clock of AdamW"),
    ],
)
def test_mistakes_are_one_line(flags, words, capsys):
    assert run(["periods", str(LOGS / "wandb.csv"), *flags]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_columns_of_a_run_are_its_own(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert run(["periods", str(tmp_path), "--columns", "loss=a"]) == 2
    assert "--columns: the folder of a run knows its own" in capsys.readouterr().err


def test_a_hundred_thousand_rows_take_seconds(tmp_path, capsys):
    """A million take ten times as long, 12 s; before, the sensitivity and the propositions took minutes."""
    series = breaking(100_000, 0.1, 0.01)
    path = tmp_path / "long.csv"
    rows = zip(series["loss"], series["rho"], series["eg"])
    path.write_text(
        "step,loss,rho,eg\n" + "".join(f"{k},{a:.7g},{b:.9g},{c:.7g}\n" for k, (a, b, c) in enumerate(rows))
    )
    begin = time.process_time()
    assert run(["periods", str(path), "--lr", "0.1", "--wd", "0.01"]) == 0
    assert time.process_time() - begin < 8
    assert capsys.readouterr().out.startswith("139 periods of 713 steps")
    assert np.diff(series["bursts"]).mean() == pytest.approx(713, abs=1)


@pytest.mark.parametrize(
    ("row", "flags", "message"),
    [
        ("{k}e300,0.5,2", "", "step 5.9e+301 is beyond 2^53; steps are counted"),
        ("-{k}e18,0.5,2", "", "step 5.9e+19 is beyond 2^53"),
        ("{k},0.5,2", "--lr 1e-320 --wd 1e-320", "0 and numbers from 1e-30 to 1e+30 can be judged"),
        ("{k},0.5,2", "--lr 1e300 --wd 1e300", "lr is 1e+300 at step 0; 0 and numbers from"),
        ("{k},0.5,2", "--lr 0.1 --wd 1e31", "wd is 1e+31 at step 0"),
    ],
)
def test_numbers_that_cannot_be_judged(
    row: str, flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,loss,rho\n" + "".join(row.format(k=k) + "\n" for k in range(60)))
    assert run(["periods", str(log), *flags.split()]) == 2
    assert message in capsys.readouterr().err


def test_only_files_are_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("/dev/zero", "a device"), (str(tmp_path / "pipe"), "a pipe")):
        assert run(["periods", name]) == 2
        assert f"{name} is {kind}, not a file" in capsys.readouterr().err

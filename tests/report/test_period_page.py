"""Pages of runs in the whole space: the answer first, phases shaded, every verdict worded; and of sweeps of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sweep_page import Reader
from tests import full_space

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.periods.summary import in_words, periods_of, summary
from scaleinv.cli import run
from scaleinv.cli.tables import print_map, print_run
from scaleinv.errors import UserError
from scaleinv.report import write_figures, write_report
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.read import load_run
from scaleinv.studies.regime_map import regime_map, run_row, verdict_of

STEPS = ["steps-loss", "steps-rho", "steps-elr", "steps-eg", "steps-turn"]


def read(folder: Path) -> Reader:
    return Reader(write_report(folder).read_text("utf-8"))


def figures(reader: Reader) -> list[str | None]:
    return [attrs["id"] for tag, attrs in reader.elements if tag == "figure"]


@pytest.fixture(scope="module")
def periodic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight periods of 600 steps; lr wd is 1e-3."""
    root = tmp_path_factory.mktemp("periodic")
    return full_space.write_run(root / "saw", full_space.saw(5700, 600, 1e-3), 0.1, 1e-2)


def test_the_answer_stands_first(periodic: Path) -> None:
    reader = read(periodic)
    assert "Training run at LR 0.1, weight decay 1e-2" in reader.text
    found = periods_of(load_run(periodic))
    assert found is not None
    assert found.answer.startswith("8 periods of 600 steps")
    answers = [attrs for tag, attrs in reader.elements if attrs.get("class") == "answer"]
    assert len(answers) == 1
    assert found.answer in reader.text
    assert reader.text.index(found.answer) < reader.text.index("Finished, 114 epochs done.")
    assert "mean interval 600 steps" in reader.text
    assert "0.6/(lr wd)" in reader.text
    assert "1/(lr wd) 1000 steps" in reader.text
    assert f"phase at the end {found.phase}" in reader.text
    assert figures(reader)[:5] == STEPS
    for sentence in found.evidence:
        assert " ".join(sentence.split()) in reader.text
    starts = [period.start for period in found.periods]
    assert all(f"{start}* " in reader.text or f"{start} " in reader.text for start in starts)
    for phase in ("phase A: norm grows", "phase B: norm shrinks", "phase C: break-down"):
        assert phase in reader.text


def test_the_figures_are_files_too(periodic: Path, tmp_path: Path) -> None:
    names = {path.stem for path in write_figures(periodic, ["svg"], tmp_path / "page.html")}
    assert names >= {*STEPS, "run-loss", "group-rho"}


def quiet_run(steps: int, product: float, level: float, seed: int = 0) -> dict[str, np.ndarray]:
    """A stationary run: the norm rests where gradients of that size balance the decay."""
    rng = np.random.default_rng(seed)
    eg = level * np.exp(0.2 * rng.standard_normal(steps))
    rho_sq = level * math.sqrt(0.1 / (2 * product / 0.1)) * (1 + 0.01 * np.sin(np.arange(steps) / 40))
    return {"loss": 0.3 * np.exp(0.1 * rng.standard_normal(steps)), "rho": np.sqrt(rho_sq), "eg": eg}


@pytest.mark.parametrize(
    ("name", "words", "card"),
    [
        ("equilibrium", "Equilibrium, no periods: no break-down", "periods equilibrium"),
        ("not yet", "Not yet: no break-down in 0.5/(lr wd) steps", "periods not yet"),
        ("undecided", "Undecided: 1 break-down; 3 are needed", "periods undecided"),
        ("diverged", "diverged at step 2000", "periods diverged at step 2000"),
    ],
)
def test_every_verdict_is_worded(name: str, words: str, card: str, tmp_path: Path) -> None:
    series = {
        "equilibrium": lambda: quiet_run(6000, 1e-3, 10.0),
        "not yet": lambda: full_space.saw(500, 10**6, 1e-3),
        "undecided": lambda: full_space.saw(3000, 2500, 1e-3),
        "diverged": lambda: full_space.saw(2500, 600, 1e-3),
    }[name]()
    if name == "diverged":
        series["loss"][2000:] = math.nan
    full_space.write_run(tmp_path / "r", series, 0.1, 1e-2, status="diverged" if name == "diverged" else "finished")
    text = read(tmp_path / "r").text
    assert words in text
    assert card in text
    assert "next break-down" not in text
    assert ("phase B: norm shrinks" in text) == (name != "equilibrium")  # phases are those of a period


@pytest.mark.usefixtures("undrawn")
def test_runs_without_weight_decay_or_too_short_have_no_such_section(tmp_path: Path) -> None:
    full_space.write_run(tmp_path / "free", full_space.saw(300, 10**6, 1e-3), 0.1, 0.0)
    full_space.write_run(tmp_path / "short", full_space.saw(10, 10**6, 1e-3), 0.1, 1e-2, per_epoch=5)
    for name in ("free", "short"):
        reader = read(tmp_path / name)
        assert not set(figures(reader)) & set(STEPS)
        assert summary(periods_of(load_run(tmp_path / name))) is None
    assert "Training run at LR 0.1" in read(tmp_path / "free").text


def write_sweep(folder: Path, decays: tuple[float, ...]) -> dict[str, Any]:
    """A sweep over two rates and those decays; its content of sweep.json."""
    rows = []
    for wd in decays:
        for lr in (0.1, 0.2):
            series = full_space.saw(3500, round(0.6 / (lr * wd)), lr * wd)
            run = full_space.write_run(folder / "runs" / f"{lr}-{wd}", series, lr, wd)
            rows.append(run_row(*verdict_of(run)))
    for row, regime in zip(rows, (1, 2, 2, 3)):
        row["regime"] = regime
    found = regime_map(rows, "lr", {"steps": 3500, "steps_per_epoch": 50, "epochs": 70.0})
    sweep = {"base": {"data": "digits", "model": "convnet", "steps": 3500}, "axis": "lr", "values": [0.1, 0.2]}
    if len(decays) > 1:
        sweep["weight_decays"] = list(decays)
    (folder / "sweep-config.json").write_text(json.dumps({"format": 3, "sweep": {**sweep, "seeds": [0]}}))
    (folder / "sweep.json").write_text(json_text(found))
    return found


CONFIG = {"model": "convnet", "variant": "si", "width": 8, "data": "digits", "batch_size": 16}


def test_boundaries_are_not_mixed_over_weight_decays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_sweep(tmp_path, (1e-2, 2e-2))
    assert found["boundaries"] is None
    assert [one["weight_decay"] for one in found["maps"]] == [1e-2, 2e-2]
    assert found["maps"][0]["boundaries"]["1/2"] == {"low": 0.1, "high": 0.2, "decided": True}
    assert found["maps"][1]["boundaries"]["2/3"] == {"low": 0.1, "high": 0.2, "decided": True}
    reader = read(tmp_path)
    assert "Weight decay 1e-2" in reader.text
    assert "Weight decay 2e-2" in reader.text
    assert "Convergence up to 0.1;" in reader.text
    assert "4 of 4 runs have periods, of 0.6/(lr wd)." in reader.text
    ids = figures(reader)
    assert len(ids) == len(set(ids)) == 14
    for row in found["runs"]:
        assert f"{row['periods']['mean_interval']:.0f} = 0.6/(lr wd)" in reader.text
    names = {path.stem for path in write_figures(tmp_path, ["png"], tmp_path / "f" / "page.html")}
    assert names == set(ids)

    print_map(found, CONFIG, "report.html")
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["LR", "wd", "regime", "train", "loss", "test", "err", "periods", "interval"]
    assert told[1].split()[-2:] == ["4", "600"]
    assert max(map(len, told)) <= 80
    where = [k for k, line in enumerate(told) if "weight decay" in line]
    assert [told[k].split()[-1] for k in where] == ["0.01", "0.02"]
    assert next(line.split()[2:5] for line in told if "boundary 1/2" in line) == ["between", "0.1", "and"]
    assert "4 of 4 runs have periods, of 0.6/(lr wd)" in told[-2]


@pytest.mark.usefixtures("undrawn")
def test_one_weight_decay_has_one_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_sweep(tmp_path, (1e-2,))
    assert found["boundaries"] == found["maps"][0]["boundaries"]
    text = read(tmp_path).text
    assert "Weight decay 1e-2" not in text
    print_map(found, CONFIG, "report.html")
    told = capsys.readouterr().out
    assert " wd " not in told.splitlines()[0]


def test_train_tells_the_periods(periodic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, verdict = verdict_of(periodic)
    row = run_row(run, verdict)
    assert row["periods"]["verdict"] == "periodic"
    assert row["periods"]["mean_interval"] == pytest.approx(600, abs=1)
    assert row["periods"]["mean_interval_lr_wd"] == pytest.approx(0.6, abs=1e-3)
    json.dumps(row["periods"], allow_nan=False)
    print_run(run, row, json.loads((periodic / "result.json").read_text()))
    told = capsys.readouterr().out
    assert told.startswith("Periods: 8 periods of 600 steps")
    assert f"scaleinv periods {periodic}" in told


@pytest.mark.usefixtures("undrawn")
def test_a_fixed_norm_is_no_equilibrium_on_the_page(tmp_path: Path) -> None:
    series = quiet_run(6000, 1e-3, 10.0)
    series["rho"] = np.full(6000, 2.0)
    text = read(full_space.write_run(tmp_path / "r", series, 0.1, 1e-2)).text
    assert "No periods: no 10-fold rise of the loss in 6000 steps" in text
    assert "periods none" in text
    assert "periods equilibrium" not in text


def test_a_damaged_record_is_not_passed_over(tmp_path: Path) -> None:
    """Too short a record has no section; one that cannot be read is the user's to mend."""
    folder = full_space.write_run(tmp_path / "r", full_space.saw(5700, 600, 1e-3), 0.1, 1e-2)
    for file in (folder / "metrics").glob("steps-*.parquet"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"steps-.*\.parquet is damaged .*run it again"):
        periods_of(load_run(folder))
    with pytest.raises(UserError, match="is damaged"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_values_the_analysis_cannot_use_end_no_report(tmp_path: Path) -> None:
    folder = full_space.write_run(tmp_path / "r", full_space.saw(500, 10**6, 1e-3), 0.1, 20.0)
    assert periods_of(load_run(folder)) is None


def test_a_run_that_diverged_at_once_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two finite steps are nothing to judge, but how the run ended is known: terminal and page say it."""
    series = full_space.saw(100, 10**6, 1e-3)
    for values in series.values():
        values[2:] = math.nan
    folder = full_space.write_run(tmp_path / "r", series, 0.1, 1e-2, status="diverged")
    assert run(["periods", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("undecided: 2 steps are too few to judge; diverged at step 2\n")
    text = read(folder).text
    assert "Undecided: 2 steps are too few to judge; diverged at step 2." in text
    assert "From step 2 on loss or norm are not finite" in text
    json.dumps(summary(periods_of(load_run(folder))), allow_nan=False)
    write_figures(folder, ["svg"], tmp_path / "page.html")


@pytest.mark.parametrize("finite", [0, 1, 5])
def test_a_run_may_diverge_in_its_last_step(finite: int, tmp_path: Path) -> None:
    """The result says so, and no row shows it; or no row is finite at all."""
    series = full_space.saw(max(finite, 3), 10**6, 1e-3)
    if not finite:
        series["loss"][:] = math.nan
    else:
        series = {name: values[:finite] for name, values in series.items()}
    folder = full_space.write_run(tmp_path / "r", series, 0.1, 1e-2, status="diverged", per_epoch=1)
    found = find_periods(folder)
    assert (found.verdict, found.diverged_at) == ("undecided", finite)
    json.dumps(found.to_dict(), allow_nan=False)
    assert f"diverged at step {finite}" in read(folder).text


@pytest.mark.parametrize(
    ("wd", "words"),
    [(1e-2, "no break-down in 0.4/(lr wd) steps"), (10.0, "lr * wd is 1 at step 0, and has to be below 1")],
)
def test_weights_of_0_are_an_end(wd: float, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = full_space.saw(600, 10**6, 1e-3)
    series["rho"][400:] = 0
    series["eg"][400:] = 0
    with np.errstate(all="ignore"):
        folder = full_space.write_run(tmp_path / "r", series, 0.1, wd)
    assert run(["periods", str(folder)]) == 0
    said = f"{words}; the weights are 0 from step 400 on"
    assert capsys.readouterr().out.replace("\n", " ").startswith(f"undecided: {said}")
    text = read(folder).text
    assert said in text
    assert "weights are 0 from step 400 on" in text
    found, verdict = verdict_of(folder)
    print_run(found, run_row(found, verdict), json.loads((folder / "result.json").read_text()))
    assert said in capsys.readouterr().out.replace("\n", " ")
    # a norm that is 0 once is no end but a mistake
    series["rho"][500:] = 1
    with np.errstate(all="ignore"):
        other = full_space.write_run(tmp_path / "other", series, 0.1, wd)
    assert run(["periods", str(other)]) == 2
    assert "rho is 0 at step 400; norms are positive" in capsys.readouterr().err


def test_many_summaries_in_words() -> None:
    one = {"verdict": "equilibrium", "answer": "no periods: the norm is fixed"}
    assert in_words([one]) == "0 of 1 run has periods"
    assert in_words([{"verdict": "periodic"}, one]) == "1 of 2 runs has periods"
    assert in_words([None, None]) == ""
    rows = [
        {"verdict": v, "mean_interval_lr_wd": c} for v, c in (("periodic", 0.5), ("periodic", 0.7), ("not yet", None))
    ]
    assert in_words(rows) == "2 of 3 runs have periods, of 0.5 to 0.7/(lr wd); 1 not yet"

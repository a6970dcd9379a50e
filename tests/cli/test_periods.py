"""``scaleinv periods``."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.analysis.series import balanced, breaking, record, write_run

from scaleinv.cli import run


def write_csv(path, table, separator=","):
    names = list(table)
    columns = [np.broadcast_to(table[name], np.shape(table["loss"])) for name in names]
    lines = [separator.join(f"{value:.9g}" for value in row) for row in zip(*columns)]
    path.write_text("\n".join([separator.join(names), *lines]) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def table():
    series = breaking(9000, 0.1, 0.01)
    assert series.pop("bursts")[0] == 693
    return {"step": np.arange(9000), **series}


@pytest.fixture(scope="module")
def log(table, tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("logs") / "log.csv", table)


def test_the_answer_comes_first_and_all_fits_80_columns(log, capsys):
    assert run(["periods", log]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0].startswith("11 periods of 713 steps (95 % 71")
    assert "= 0.71/(lr wd); next break-down" in " ".join(lines[:2])
    assert max(map(len, lines)) <= 80
    head = next(k for k, line in enumerate(lines) if line.split()[:2] == ["start", "length"])
    assert lines[head + 1].split()[0] == "693*"
    assert any(line.startswith("- Definition: ") for line in lines)


def test_rows_are_the_last_twelve_unless_all(tmp_path, capsys):
    series = breaking(14_000, 0.1, 0.01)
    del series["bursts"]
    path = write_csv(tmp_path / "log.csv", {"step": np.arange(14_000), **series})
    assert run(["periods", path]) == 0
    short = capsys.readouterr().out
    assert "the last 12 of 18; --all shows all" in short
    assert run(["periods", path, "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(short.splitlines()) + 6 - 1


def test_json(log, capsys):
    assert run(["periods", log, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "periodic"
    assert answer["mean_interval"] == pytest.approx(713, abs=2)
    assert len(answer["periods"]) == 11


def test_rates_as_flags_and_other_separators(table, tmp_path, capsys):
    bare = {name: table[name] for name in ("step", "loss", "rho")}
    path = write_csv(tmp_path / "log.csv", bare, ";")
    assert run(["periods", path, "--lr", "0.1", "--wd", "0.01", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "periodic"
    assert answer["unit"] == pytest.approx(1000, rel=1e-3)
    assert answer["break_downs"][0]["eg_factor"] is None


def test_momentum_of_a_log(table, tmp_path, capsys):
    """SGD at 0.01 with momentum 0.9 decays at 0.1 wd a step; without the flag a period would look ten times shorter."""
    bare = {name: table[name] for name in ("step", "loss", "rho", "eg")}
    path = write_csv(tmp_path / "log.csv", bare)
    answers = []
    for flags in (["--lr", "0.1"], ["--lr", "0.01", "--momentum", "0.9"]):
        assert run(["periods", path, *flags, "--wd", "0.01", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    plain, momentum = answers
    for key in ("unit", "mean_interval"):
        assert momentum[key] == pytest.approx(plain[key], rel=1e-9)
    assert [p["elr"] for p in momentum["periods"]] == pytest.approx([p["elr"] for p in plain["periods"]], rel=1e-9)
    assert any("Momentum: a gradient acts 10 times" in sentence for sentence in momentum["evidence"])
    assert any("not plain SGD" in sentence for sentence in momentum["evidence"])


def test_gradient_norm_and_squared_norm_stand_in(table, tmp_path, capsys):
    other = {
        "iteration": table["step"],
        "train_loss": table["loss"],
        "rho_sq": table["rho"] ** 2,
        "grad_norm": table["eg"] / table["rho"],
        "loss": table["loss"],
    }
    path = write_csv(tmp_path / "log.csv", other)
    assert run(["periods", path, "--lr", "0.1", "--wd", "0.01", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["break_downs"][0]["eg_factor"] > 100
    assert answer["equilibrium"]["bounds"]["low"] == pytest.approx(1e-3, rel=1e-3)


def test_equilibrium_and_run_folder(tmp_path, capsys):
    folder = write_run(tmp_path / "run", [record(balanced(9000, 0.1, 0.01))])
    assert run(["periods", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("equilibrium, no periods")
    assert run(["periods", str(folder), "--lr", "0.1"]) == 2
    assert "--lr: the folder of a run knows its own" in capsys.readouterr().err


def test_a_diverged_log(table, tmp_path, capsys):
    broken = {name: np.array(column, float) for name, column in table.items() if np.ndim(column)}
    broken["loss"][8000:] = np.nan
    path = write_csv(tmp_path / "log.csv", broken)
    assert run(["periods", path, "--lr", "0.1", "--wd", "0.01"]) == 0
    out = capsys.readouterr().out
    assert "diverged at step 8000" in out.partition("\n\n")[0].replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("step,loss\n1,2\n", "log.csv: 1 finite row is too few"),
        ("a,b\n1,2\n", "no column that looks like a loss (it has a, b); name it: --columns loss=NAME"),
        ("step,loss,rho\n1,2,3\n2,high,3\n", "line 3, column loss: 'high' is not a number"),
        ("step,loss,rho\n1,2,3\n1,2,3\n", "log.csv: 1 finite row is too few"),  # the last row of a step counts
        ("step,loss,rho\n1,2,3\n1.5,2,3\n", "column step holds 1.5, which is not whole"),
        ("step,loss,rho\n1,2,3\n2,2\n", "line 3 has 2 cells, the line of names 3"),
        ("step,loss,rho\n1,2,3\n2,2,3\n", "log.csv: 2 finite rows are too few"),
        ("step,loss,rho\n1,2,3\n", "log.csv: 1 finite row is too few"),
    ],
)
def test_bad_logs_are_one_line(text, words, tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text(text)
    assert run(["periods", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["LOG", "--wd", "0.1"], "has a column wd"),
        (["LOG", "--rise", "0"], "--rise 0: must be a number above 0"),
        (["LOG", "--rise", "nan"], "--rise nan: must be a number above 0"),
        (["LOG", "--burn-in", "-1"], "--burn-in -1: must be a number of at least 0"),
        (["LOG", "--burn-in", "inf"], "--burn-in inf: must be a number"),
        (["BARE", "--lr", "-1"], "--lr -1: must be a number of at least 0"),
        (["BARE", "--lr", "0.5", "--wd", "0"], "bare.csv: wd 0 contradicts the log (rho^2 falls by 0.2 % a step"),
        (["BARE", "--momentum", "1"], "--momentum 1: must be a number from 0 to below 1"),
        (["BARE", "--momentum", "nan"], "--momentum nan"),
        (["RUN", "--momentum", "0.9"], "--momentum: the folder of a run knows its own"),
        (["EMPTY"], "has neither sweep-config.json nor config.json"),
        (["BYTES"], "is not text"),
    ],
)
def test_mistakes_are_one_line(arguments, words, log, table, tmp_path, capsys):
    bare = write_csv(tmp_path / "bare.csv", {name: table[name] for name in ("step", "loss", "rho", "eg")})
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\xd8")
    (tmp_path / "empty").mkdir()
    places = {"LOG": log, "BARE": bare, "EMPTY": str(tmp_path / "empty"), "BYTES": str(tmp_path / "bytes")}
    places["RUN"] = str(write_run(tmp_path / "run", []))
    assert run(["periods", *(places.get(word, word) for word in arguments)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("width", [50, 80, 120])
def test_sentences_break_where_the_terminal_ends(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 80 columns at most; only the table of periods may be wider."""
    monkeypatch.setenv("COLUMNS", str(width))
    sample = Path(__file__).parents[2] / "examples" / "spikes.csv"
    assert run(["periods", str(sample), "--lr", "0.5", "--weight-decay", "0.005"]) == 0
    answer, _, evidence = capsys.readouterr().out.partition("\n\n")
    evidence = evidence[evidence.index("\n- ") :]
    lines = [*answer.splitlines(), *evidence.splitlines()]
    assert max(map(len, lines)) <= min(width, 80)
    assert max(map(len, lines)) > min(width, 80) - 10

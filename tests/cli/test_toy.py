"""``scaleinv toy``."""

import json

import pytest

from scaleinv.cli import run

FAST = ["toy", "--alpha", "1,2", "--elr", "0.1,0.45,30", "--steps", "800", "--seeds", "2"]


def test_json_and_files(tmp_path, capsys):
    assert run([*FAST, "--out", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert err == ""
    assert answer["threshold"] == pytest.approx(1 / 3)
    assert [line["regime_predicted"] for line in answer["lines"]] == [1, 2, 3]
    assert [line["regime_observed"] for line in answer["lines"]] == [1, 2, 3]
    names = {path.rsplit("/", 1)[1] for path in answer["files"]}
    pictures = {f"{stem}.{form}" for stem in ("fig6-left", "bifurcation") for form in ("svg", "pdf", "png", "json")}
    assert names == pictures | {"toy.json"}
    assert all((tmp_path / name).stat().st_size > 500 for name in names)
    assert json.loads((tmp_path / "toy.json").read_text())["lines"] == answer["lines"]


def test_table(capsys):
    assert run([*FAST, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:4] == ["ELR", "k", "regime", "seen"]
    assert lines[2].split()[1] == "1.35"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alpha", "1,-2"], "alpha '-2'"),
        (["--alpha", ","], "alpha ',' holds no number"),
        (["--alpha", "1:2:3"], "comma list"),
        (["--elr", "0:1:3"], "elr '0:1:3'"),
        (["--steps", "10"], "steps 10"),
        (["--seeds", "0"], "seeds 0"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    assert run(["toy", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1

"""``scaleinv reproduce``."""

import json

import pytest

from scaleinv.cli import run
from scaleinv.figures.registry import figures


def test_list(capsys):
    assert run(["reproduce", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(id in text for id in figures())
    assert run(["reproduce", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["figures"]
    assert {"id", "paper", "place", "title", "scale", "cost"} == set(listed[0])


def test_draws_in_three_formats_with_numbers(tmp_path, capsys):
    assert run(["reproduce", "fig6-left", "--out", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [name.rsplit(".", 1)[1] for name in files] == ["svg", "pdf", "png", "json"]
    numbers = json.loads((tmp_path / "fig6-left.json").read_text())
    assert numbers["regime"] == [1, 2, 3]
    assert len(numbers["loss"][0]) == 201
    assert numbers["loss"][0][-1] < 1e-6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "name a figure"), (["fig99"], "unknown figure 'fig99'"), (["fig6-left", "--format", "gif"], "format 'gif'")],
)
def test_mistakes_are_one_line(arguments, words, capsys, tmp_path):
    assert run(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1

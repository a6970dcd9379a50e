"""``scaleinv reproduce``."""

import dataclasses
import json
import re

import pytest

from scaleinv.cli import run
from scaleinv.papers import shelf
from scaleinv.papers.shelf import figures


def test_list(capsys):
    assert run(["reproduce", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(id in text for id in figures())
    assert run(["reproduce", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["figures"]
    assert {"id", "paper", "place", "title", "scales"} == set(listed[0])
    assert {entry["id"]: entry["scales"] for entry in listed}["fig6-left"] == {"toy": 3}
    assert run(["reproduce", "--list", "--scale", "toy", "--json"]) == 0
    assert all("toy" in entry["scales"] for entry in json.loads(capsys.readouterr().out)["figures"])


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
    [
        ([], "name a figure"),
        (["fig99"], "unknown figure 'fig99'"),
        (["fig6-left", "--format", "gif"], "format 'gif'"),
        (["fig6-left", "--format", ","], "format ','"),
        (["fig6-left", "--scale", "digits"], "figure 'fig6-left' has no scale 'digits'; it has: toy"),
        (["fig6-left", "--scale", "huge"], "unknown scale 'huge'; choose one of: toy, digits"),
        (["fig6-left", "--all"], "--all and fig6-left"),
        (["fig6-left", "--workers", "0"], "workers 0"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys, tmp_path):
    assert run(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "sub/figures"])
def test_a_file_is_no_folder_to_write_to(below, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert run(["reproduce", "fig6-left", "--out", str(file / below)]) == 2
    told = capsys.readouterr()
    assert told.err == f"scaleinv: {file} is a file, not a folder; choose another --out\n"  # and no line of progress
    assert told.out == ""
    assert file.read_text() == "mine"


def test_several_figures_with_plain_progress(tmp_path, capsys):
    assert run(["reproduce", "forces", "norm-bounds", "forces", "--format", "svg", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr()
    names = ["forces.svg", "forces.json", "norm-bounds.svg", "norm-bounds.json"]
    assert told.out.split() == [str(tmp_path / name) for name in names]
    assert "[1/2] forces (toy): What gradients and weight decay do" in told.err
    assert "[2/2] norm-bounds (toy): drawn" in told.err
    assert run(["reproduce", "forces", "--format", "svg", "--out", str(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_all_writes_a_page_of_what_is_there(tmp_path, capsys, monkeypatch):
    known = {id: entry for id, entry in figures().items() if id in ("forces", "norm-bounds")}
    strange = dataclasses.replace(known["forces"], id="a-1", title="<b>&</b>", scales={"toy": 1.0, "digits": 9.0})
    monkeypatch.setattr(shelf, "figures", lambda: {"a-1": strange, **known})
    assert run(["reproduce", "--all", "--scale", "toy", "--format", "png", "--out", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files[-1] == str(tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "3 figures" in page
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in page
    assert "<b>" not in page
    assert page.count("data:image/png;base64,") == 3
    plain = re.sub("</?span[^>]*>", "", page)
    assert "scaleinv reproduce a-1 --scale toy" in plain
    assert "scaleinv reproduce norm-bounds</pre>" in plain
    assert 'href="norm-bounds.json"' in page
    assert "Theorem 1" in page

"""``scaleinv verify``."""

import json

import pytest

from scaleinv.cli import run
from scaleinv.papers import verify
from scaleinv.papers.findings import FINDINGS, Finding
from scaleinv.papers.shelf import claims
from scaleinv.papers.verify import Outcome


def test_list(capsys):
    assert run(["verify", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(id in text for id in claims())
    assert "core-s" in text
    assert run(["verify", "--list", "--json", "--only", "jump-size"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["claims"]
    assert listed["id"] == "jump-size"
    assert listed["scale"] == "toy"
    assert listed["cost"] > 0


def test_an_id_of_an_earlier_version_is_accepted_with_a_note(capsys):
    assert run(["verify", "--list", "--json", "--only", "prop-1"]) == 0
    out, err = capsys.readouterr()
    assert [claim["id"] for claim in json.loads(out)["claims"]] == ["jump-size"]
    assert err == "scaleinv: the claim prop-1 is called jump-size now\n"


def test_one_check_is_no_plural(tmp_path, capsys):
    assert run(["verify", "--scale", "toy", "--only", "jump-size", "--cache", str(tmp_path), "--quiet"]) == 0
    assert "\n1 check: 1 holds, 0 fails" in capsys.readouterr().out
    assert run(["verify", "--list", "--only", "jump-size", "--scale", "toy"]) == 0
    assert "\n1 check; the quick ones" in capsys.readouterr().out


def test_json_page_and_table(tmp_path, capsys):
    base = ["verify", "--scale", "toy", "--only", "jump-size,angle-after-lr-drop", "--cache", str(tmp_path)]
    assert run([*base, "--json", "--quiet", "--html", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)["claims"]
    assert [c["id"] for c in found] == ["angle-after-lr-drop", "jump-size"]
    fields = {"id", "scale", "verdict", "measured", "expected", "tolerance", "evidence", "seconds"}
    assert all(fields <= set(c) and c["verdict"] == "holds" for c in found)
    assert found[1]["measured"].keys() == found[1]["expected"].keys() == found[1]["tolerance"].keys()
    assert "jump-size" in (tmp_path / "page.html").read_text()
    assert run(base) == 0
    out, err = capsys.readouterr()
    assert "2 checks: 2 holds, 0 fails, 0 undecided" in out
    assert "[2/2]" in err
    assert "kept" in out


def holding(chosen, cache, **rest):
    return [Outcome(c.id, s, "holds", {}, {}, {}, "", 0.1) for c, s in chosen]


def test_a_check_that_breaks_is_an_error_but_no_verdict(tmp_path, capsys, monkeypatch):
    def broken(chosen, cache, **rest):
        return [verify._broken(c.id, s, "ZeroDivisionError", 0.1) for c, s in chosen]

    monkeypatch.setattr(verify, "run", broken)
    # not excused by a finding about the claim
    monkeypatch.setitem(FINDINGS, ("jump-size", "toy"), Finding("it is like that", "docs/somewhere.md"))
    assert run(["verify", "--only", "jump-size", "--cache", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "0 holds, 0 fails, 0 undecided, 1 broke" in out
    assert "known" not in out
    assert run(["verify", "--only", "jump-size", "--cache", str(tmp_path), "--json", "--quiet"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["claims"]
    assert (found["verdict"], found["broke"]) == ("broke", True)


def test_exit_code_of_a_failing_claim(tmp_path, capsys, monkeypatch):
    def one_of_each(chosen, cache, **rest):
        verdicts = ["fails", "undecided"]
        return [Outcome(c.id, s, v, {}, {}, {}, f"why {v}", 0.1) for (c, s), v in zip(chosen, verdicts)]

    monkeypatch.setattr(verify, "run", one_of_each)
    assert run(["verify", "--only", "jump-size,angle-after-lr-drop", "--cache", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "why fails" in out
    assert "why undecided" in out
    monkeypatch.setitem(FINDINGS, ("jump-size", "toy"), Finding("it is like that", "docs/somewhere.md"))
    monkeypatch.setitem(FINDINGS, ("angle-after-lr-drop", "toy"), Finding("once it was not", "docs/elsewhere.md"))
    assert run(["verify", "--only", "jump-size,angle-after-lr-drop", "--cache", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "known: it is like that (docs/somewhere.md)" in out or "known: once it was not (docs/elsewhere.md)" in out
    # a finding is told of what is undecided on this CPU as well; it is no contradiction of it
    assert "known: it is like that" in out
    assert "known: once it was not" in out
    assert "1 fails (1 known), 1 undecided; " in out
    monkeypatch.setattr(verify, "run", holding)
    assert run(["verify", "--only", "jump-size,angle-after-lr-drop", "--cache", str(tmp_path)]) == 0
    assert "jump-size: holds, though docs/somewhere.md says it does not" in capsys.readouterr().out
    monkeypatch.setattr(verify, "run", lambda chosen, cache, **rest: one_of_each(chosen, cache)[1:])
    assert run(["verify", "--only", "jump-size,angle-after-lr-drop", "--cache", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "nonsense"], "unknown claim 'nonsense'"),
        (["--scale", "nonsense"], "scale 'nonsense'"),
        (["--only", ""], "--only is empty"),
        (["--workers", "0"], "workers 0"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys, tmp_path):
    assert run(["verify", "--cache", str(tmp_path), *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1

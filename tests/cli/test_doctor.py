"""``scaleinv doctor`` on a user's own file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scaleinv.cli import run

NET = """
import sys

import torch
from torch import nn

print("noise on import")

class Net(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        print("noise in forward")
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()

def needs(width):
    return Net(width)

def fails():
    raise RuntimeError("no disk")

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 4)
        self.norm = nn.LayerNorm(4, elementwise_affine=False)
        self.head = nn.Linear(4, 2)

    def forward(self, ids, x):
        return self.head(self.norm(self.table(ids)) + x)

class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(4, 6, bias=False)
        self.norm = nn.LayerNorm(6, elementwise_affine=False)
        self.head = nn.Linear(6, 2)

    def forward(self, x, mask):
        hidden = self.norm(self.q(x))
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {"logits": self.head(torch.tanh(pooled)), "raw": self.q(x)}

class Rounded(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 5))

    def forward(self, x):
        return torch.tanh(x @ (self.w + (torch.sign(self.w) - self.w).detach()))

def leaves():
    sys.exit(0)

number = 3
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "usernet.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "usernet", raising=False)
    return tmp_path


def test_json_alone_on_stdout(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "usernet:make", "--input", "8,3,9,9", "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["single"] == ["conv.weight"] == answer["row"]
    assert answer["dead"] == ["conv.bias"]
    assert answer["rescaling"] == [{"norm.weight": 1, "norm.bias": 1, "head.weight": -1}]
    assert answer["fixed"] == ["head.bias"]
    assert answer["joint"] == [] == answer["partial"]
    assert answer["evidence"]["verdict"] == "clear"
    assert answer["defect"]["conv.weight"]["norm_1_percent"] < answer["defect"]["conv.weight"]["norm"]
    assert "noise" in err


def test_the_table_says_the_answer_first(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "usernet.py:make", "--input", "8,3,9,9", "--lr", "0.1", "--html", "page.html"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 of 6 tensors are scale-invariant alone; 1 rescaling set; 1 dead bias")
    assert "ELR" in out
    assert "only sets the ELR" in " ".join(out.split())
    page = (user / "page.html").read_text()
    assert "conv.weight" in page
    assert "<table>" in page


def test_expect(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "usernet:make", "--input", "8,3,9,9", "--json"])
    answer = json.loads(capsys.readouterr().out)
    Path("saved.json").write_text(json.dumps(answer))
    assert run(["doctor", "usernet:make", "--input", "8,3,9,9", "--expect", "saved.json"]) == 0
    answer["single"], answer["rescaling"] = [], [{"head.weight": 1, "norm.weight": -1}]
    Path("saved.json").write_text(json.dumps(answer))
    capsys.readouterr()
    assert run(["doctor", "usernet:make", "--input", "8,3,9,9", "--expect", "saved.json"]) == 1
    err = capsys.readouterr().err
    assert "single: found, not expected: conv.weight" in err
    assert "rescaling: expected, not found: head.weight^+1, norm.weight^-1" in err


def test_several_inputs_integers_and_names(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for inputs in (["int:5,3:11", "5,3,4"], ["x=5,3,4", "ids=int:5,3:11"]):
        flags = [word for text in inputs for word in ("--input", text)]
        assert run(["doctor", "usernet:Words", *flags, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["single"] == ["table.weight"]


@pytest.mark.parametrize("mask", ["mask:bool:5,3", "mask=bool:5,3"])
def test_masks_and_the_outputs_that_count(user: Path, capsys: pytest.CaptureFixture[str], mask: str) -> None:
    words = ["doctor", "usernet:Masked", "--input", "x=5,3,4", "--input", mask, "--json"]
    assert run(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["single"] == ["q.weight"]
    assert answer["evidence"]["outputs_used"] == ["logits"]
    assert answer["evidence"]["outputs_left_out"] == ["raw"]
    assert run([*words, "--output", "logits", "--output", "raw"]) == 0
    assert json.loads(capsys.readouterr().out)["single"] == []


def test_undecided_has_an_exit_code_of_its_own(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "usernet:Rounded", "--input", "7,4"]) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("undecided: gradient and function disagree (straight-through or detached): w:")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["usernet:absent", "--input", "8,3,9,9"], "usernet has no 'absent'; it has: Masked, Net"),
        (["nowhere:make", "--input", "8,3,9,9"], "there is no module 'nowhere'"),
        (["nowhere.py:make", "--input", "8,3,9,9"], "there is no file 'nowhere.py'"),
        (["usernet", "--input", "8,3,9,9"], "does not name an object"),
        (["usernet:needs", "--input", "8,3,9,9"], "needs arguments (width)"),
        (["usernet:fails", "--input", "8,3,9,9"], "fails: RuntimeError: no disk"),
        (["usernet:leaves", "--input", "8,3,9,9"], "ends the program (exit code 0)"),
        (["usernet:make", "--input", "8,3,9,9", "--output", "logits"], "has no output 'logits'; it gives: one tensor"),
        (["usernet:make", "--input", "bool:2,0"], "not positive"),
        (["usernet:make", "--input", "bool:2,3:4"], "is not understood"),
        (["usernet:number", "--input", "8,3,9,9"], "is int, not something that can be called"),
        (["usernet:make", "--input", "8,1,9,9"], "layer 'conv' (Conv2d) fails on input (8, 1, 9, 9) with its"),
        (["usernet:make"], "give at least one --input"),
        (["usernet:make", "--input", "8;3"], "is not understood"),
        (["usernet:make", "--input", "8,0,9"], "not positive"),
        (["usernet:make", "--input", "8,3,9,9", "--lr", "-1"], "not a positive number"),
        (["usernet:make", "--input", "8,3,9,9", "--expect", "none.json"], "cannot read none.json"),
        (["usernet:make", "--input", "8,3,9,9", "--html", "no/dir/x.html"], "cannot write"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    user: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(["doctor", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("scaleinv: ")]
    assert len(lines) == 1
    assert message in lines[0]

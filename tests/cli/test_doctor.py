"""``scaleinv doctor`` on a user's own file."""

from __future__ import annotations

import json
import subprocess
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

def halves(model):
    from torch.optim import SGD
    return SGD([p for p in model.parameters() if p.dim() > 1], lr=0.5, weight_decay=1e-3)

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


def test_what_an_optimizer_does(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "usernet:make", "--input", "8,3,9,9"]
    flags = ["--optimizer", "adamw", "--lr", "1e-3", "--weight-decay", "0.1", "--html", "page.html"]
    assert run([*words, *flags]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "What AdamW does - weight decay acts on 1 dead bias (conv.bias)" in out
    assert "ELR is lr/norm at lr 0.001" in out
    assert "4 groups by scaleinv.param_groups(model, inputs, lr=..., weight_decay=...)" in out
    page = (user / "page.html").read_text()
    assert "<h2>What AdamW does</h2><ul><li>weight decay acts on 1 dead bias" in page

    assert run([*words, "--optimizer", "usernet:halves", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["optimizer"]["forgotten"] == ["conv.bias", "norm.weight", "norm.bias", "head.bias"]
    assert [(g["name"], g["lr"], g["weight_decay"], list(g["tensors"])) for g in answer["groups"]] == [
        ("scale-invariant", 0.5, 1e-3, ["conv.weight"]),
        ("own scale", 0.5, 1e-3, ["head.weight"]),
        ("gains and biases", 0.5, 0.0, ["norm.weight", "norm.bias", "head.bias"]),
        ("dead", 0.5, 0.0, ["conv.bias"]),
    ]


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
        (["usernet:Words", "--input", "2,3", "--input", "2,3,4"], "to scaleinv doctor by --input int:2,3:11"),
        (["usernet:make"], "give at least one --input"),
        (["usernet:make", "--input", "8;3"], "is not understood"),
        (["usernet:make", "--input", "8,0,9"], "not positive"),
        (["usernet:make", "--input", "8,3,9,9", "--lr", "-1"], "not a positive number"),
        (["usernet:make", "--input", "8,3,9,9", "--optimizer", "adamv"], "torch.optim has no optimizer 'adamv'"),
        (["usernet:make", "--input", "8,3,9,9", "--optimizer", "lbfgs", "--weight-decay", "1"], "LBFGS of this model"),
        (["usernet:make", "--input", "8,3,9,9", "--optimizer", "usernet:absent"], "usernet has no 'absent'"),
        (["usernet:make", "--input", "8,3,9,9", "--optimizer", "usernet:make"], "usernet:make(model) fails: TypeError"),
        (["usernet:make", "--input", "8,3,9,9", "--optimizer", "usernet:needs"], "needs(model) fails"),
        (["usernet:make", "--input", "8,3,9,9", "--weight-decay", "0.1"], "belongs to an optimizer"),
        (["usernet:make", "--input", "8,3,9,9", "--optimizer", "sgd", "--weight-decay", "-1"], "at least 0"),
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


OLD_TIMM = """
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.transforms import InterpolationMode
from torch import nn

def tiny():
    assert not isinstance(nn.Identity(), FrozenBatchNorm2d)
    assert InterpolationMode.BILINEAR == "BILINEAR"
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
"""
IMPORTS = """
import timm
make = timm.tiny

def later():
    import timm
    return timm.tiny()

def wants_images():
    from torchvision.transforms import Resize
"""


@pytest.mark.parametrize("unfit", [None, "raise RuntimeError('operator torchvision::nms does not exist')"])
@pytest.mark.parametrize("target", ["timm:tiny", "usernet.py:make", "usernet.py:later"])
def test_timm_without_a_torchvision_that_fits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    unfit: str | None,
) -> None:
    """timm's models need no torchvision, so the doctor answers where it is missing or built for another torch."""
    body = unfit or "raise ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')"
    for name, text in (("timm", OLD_TIMM), ("torchvision", body)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    at_once, later = IMPORTS.split("\n\n", 1)
    (tmp_path / "usernet.py").write_text(later if "later" in target else at_once + "\n\n" + later)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    try:
        assert run(["doctor", target, "--input", "8,4", "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["single"] == ["0.weight"]
        assert "timm is used without torchvision" in err
        assert run(["doctor", "usernet.py:wants_images", "--input", "8,4"]) == 2  # the user's own import fails as ever
        assert "torchvision" in capsys.readouterr().err
        assert not any(name.partition(".")[0] == "torchvision" for name in sys.modules)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
            del sys.modules[name]


def test_the_command_line_alone_is_enough(user: Path) -> None:
    """torch, numpy, filelock, tyro and rich: the extra ``cli``."""
    script = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pyarrow", "matplotlib", "sklearn", "scipy", "jinja2", "safetensors", "pandas"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from scaleinv.cli import run
sys.exit(run(["doctor", "usernet.py:make", "--input", "8,3,9,9", "--html", "page.html"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=user)
    assert done.returncode == 0, done.stderr
    assert "1 of 6 tensors are scale-invariant alone" in done.stdout
    assert "conv.weight" in (user / "page.html").read_text()

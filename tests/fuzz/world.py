"""A folder with everything that a command line of the fuzzer may name: runs, logs, devices, links, damage."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import socket
from pathlib import Path

_NET = """
import sys
import torch
from torch import nn
import scaleinv

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 10))

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 10))

def fails():
    raise KeyError("a key\\n\\x1b[31m")

def wants(x):
    return x

def deep():
    return deep()

def huge():
    return nn.Linear(2**20, 2**20)

def exits():
    sys.exit(3)

number = 7

class Opt(torch.optim.SGD):
    pass

def problem():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 6, generator=generator), torch.arange(20) % 2
    net = lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return scaleinv.classification(net, (x, y))
"""


def build(folder: Path) -> Path:
    """Make the world, once; trials get a copy each. Commands make the runs in it."""
    from scaleinv.cli import run

    folder.mkdir(parents=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            small = ["--model", "mlp", "--width", "4", "--quiet"]
            assert run(["train", "--elr", "0.1", "--steps", "2", "--keep-every", "1", "--out", "run", *small]) == 0
            sweep = ["sweep", "--elr", "0.1", "--steps", "1", "--prepare", *small]
            assert run([*sweep, "--out", "sweep"]) == 0
            assert run([*sweep, "--out", "one"]) == 0
            for path in Path("sweep/runs").iterdir():
                assert run(["run", str(path), "--quiet"]) == 0
            shutil.move(str(next(Path("one/runs").iterdir())), "prepared")
            shutil.rmtree("one")
        _files()
    finally:
        os.chdir(before)
    return folder


def _files() -> None:
    shutil.copytree("run", "other")  # a result of another form
    Path("other/result.json").write_text('["finished"]')
    shutil.copytree("run", "forms")
    config = json.loads(Path("forms/config.json").read_text())
    config["config"] |= {"seed": 10**300, "steps": 1e300, "width": 2**40, "elr": -1, "threads": 10**6}
    Path("forms/config.json").write_text(json.dumps(config))
    shutil.copytree("run", "form")
    Path("form/config.json").write_text("[" * 100_000)
    shutil.copytree("run", "broken")
    Path("broken/result.json").write_text('{"status": "finished", "epochs": ' + "9" * 5000 + "}")
    Path("broken/landscape.json").write_text('{"sharpness": [{"key": 1' + "0" * 400 + "}]}")
    shutil.copytree("run", "weights-run")
    for name in ("epoch-x.safetensors", "epoch-.safetensors", "notes.txt", "epoch-9999999999999999999999.safetensors"):
        Path("weights-run/weights").mkdir(exist_ok=True)
        Path("weights-run/weights", name).write_bytes(b"\xff" * 40)
    Path("weights").symlink_to("weights-run")
    Path("mynet.py").write_text(_NET)
    Path("broken.py").write_text("def make(:\n")
    for name in ("copy.py", "tyro.py", "json.py", "numpy.py"):
        Path(name).write_text("raise SystemExit(77)\n")
    rows = "".join(f"{k},{1 / (k + 1)},2\n" for k in range(60))
    Path("log.csv").write_text("step,loss,rho\n" + rows)
    Path("empty.csv").write_text("")
    Path("empty").mkdir()
    Path("binary.csv").write_bytes(bytes(range(256)) * 20)
    Path("utf16.csv").write_bytes(("step,loss\n" + rows).encode("utf-16"))
    Path("steps.csv").write_text("step,loss,rho\n" + "".join(f"{k}e300,0.5,{k}\n" for k in range(1, 60)))
    Path("huge.csv").write_text("step,loss,rho,lr,wd\n" + "1e308,1e308,1e308,1e308,1e308\n" * 60)
    Path("columns.csv").write_text("step,loss\x1b[2J,\u202erho\n" + rows)
    Path("bad.json").write_text('{"loss": [1, 2,')
    Path("deep.json").write_text("[" * 100_000 + "]" * 100_000)
    Path("deep.jsonl").write_text(('{"a":' * 5000 + "1" + "}" * 5000 + "\n") * 3)
    Path("long.json").write_text('{"loss": [' + "9" * 5000 + "]}")
    Path("digits.json").write_text('[{"step": 1, "loss": 1' + "0" * 300 + '}, {"step": 1e999, "loss": -1e999}]')
    Path("state.json").write_text(json.dumps({"log_history": [{"step": k, "loss": 1 / (k + 1)} for k in range(40)]}))
    Path("bad.toml").write_text("epochs = = 3\n")
    Path("long.toml").write_text("epochs = " + "9" * 5000 + "\n")
    Path("wrong.toml").write_text('elr = [1, {a = 2}]\nout = 2020-01-01\n[x]\nsteps = "many"\n')
    Path("nul.toml").write_text('out = "a\\u0000b"\nsteps = 1\n')
    with gzip.open("bomb.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"step,loss\n" + b"0" * 2**24)
    for name, target in (("zero", "/dev/zero"), ("full", "/dev/full"), ("null", "/dev/null"), ("loop", "loop")):
        Path(name).symlink_to(target)
    Path("link-out").symlink_to("empty")
    for name in ("esc\x1b[2J.csv", "bidi\u202e.csv", "new line\n.csv", "grüße", "-dash"):
        shutil.copy("log.csv", name)
    with contextlib.suppress(OSError):  # not every file system takes it
        shutil.copy("log.csv", b"latin\xe9.csv")


def enter(world: Path, place: Path) -> Path:
    """Copy the world to ``place`` and add what cannot be copied; returns the folder to stand in."""
    inner = place / "up" / "here"  # so that .. is a folder of the trial's own
    shutil.copytree(world, inner, symlinks=True)
    os.mkfifo(inner / "pipe")
    with socket.socket(socket.AF_UNIX) as made, contextlib.suppress(OSError):
        made.bind(os.path.relpath(inner / "socket"))
    return inner

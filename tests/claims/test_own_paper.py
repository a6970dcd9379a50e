"""An installed package that brings a claim and a figure of its own: verify and reproduce find them, in workers too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CATALOGUE = """
from matplotlib.figure import Figure

from scaleinv.papers.claim import Claim
from scaleinv.papers.figure import FigureEntry


def check(sheet, context):
    sheet.close("one", 1.0, 1.0)
    sheet.note(f"at scale {context.scale}")


def numbers(context):
    return {"x": [1.0, float("nan"), 3.0]}


def draw(numbers):
    fig = Figure()
    fig.subplots().plot([0 if x is None else x for x in numbers["x"]])
    return fig


COMMON = {"paper": "Mine 2026", "place": "Fig. 1", "scales": {"toy": 1}}
CLAIMS = [Claim(id="mine", statement="It holds.", tolerance="exact", check="mypaper:check", **COMMON)]
FIGURES = [FigureEntry(id="my-line", title="A line", numbers="mypaper:numbers", draw="mypaper:draw", **COMMON)]
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the package is installed."""
    site = tmp_path / "site"
    info = site / "mypaper-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "mypaper.py").write_text(CATALOGUE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypaper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scaleinv.papers]\nmypaper = mypaper\n")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def scaleinv(arguments: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scaleinv", *arguments.split()]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_verify_checks_it_and_reproduce_draws_it(tmp_path: Path, installed: dict[str, str]) -> None:
    done = scaleinv("verify --only mine,jump-size --scale toy --json --quiet", tmp_path, installed)
    assert done.returncode == 0, done.stderr
    found = {one["id"]: one for one in json.loads(done.stdout)["claims"]}
    assert found["mine"]["verdict"] == found["jump-size"]["verdict"] == "holds"
    assert "at scale toy" in found["mine"]["evidence"]
    done = scaleinv("reproduce my-line --format svg --out figures --quiet", tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures" / "my-line.json").read_text()) == {"x": [1.0, None, 3.0]}
    assert (tmp_path / "figures" / "my-line.svg").exists()


def test_one_that_does_not_load_is_named(tmp_path: Path, installed: dict[str, str]) -> None:
    (tmp_path / "site" / "mypaper.py").write_text("import nothing_of_that_name\n")
    done = scaleinv("verify --list", tmp_path, installed)
    assert done.returncode == 2
    assert "mypaper (entry point 'mypaper' of scaleinv.papers) cannot be loaded: ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr

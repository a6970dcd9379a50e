"""A small sweep, its command, and what to compare of two folders of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from scaleinv import cli

ELR = (1e-3, 3e-2, 1.0)
#: some seconds of training a run: there is time to disturb it
FLAGS = ("--data", "digits", "--subset", "256", "--model", "mlp", "--width", "16", "--quiet", "--evaluation", "online")


def command(out: Path, *more: str, elr: tuple[float, ...] = ELR, epochs: int = 20) -> list[str]:
    rates = ",".join(map(str, elr))
    return [
        *(sys.executable, "-m", "scaleinv", "sweep", *FLAGS, "--elr", rates, "--epochs", str(epochs)),
        *("--out", str(out), *more),
    ]


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=550, check=False
    )


def within(words: list[str]) -> int:
    """Run such a command in this process, which has loaded torch already; its exit code."""
    return cli.run(words[3:])


def ends(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a sweep to end well; what it printed on stdout and stderr."""
    try:
        told = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the sweep has not ended: {process.communicate()}")
    assert process.returncode == 0, told
    return told


def bits(out: Path) -> dict[str, bytes]:
    """Weights and metrics of all runs, and the regime map, as they lie on the disk."""
    runs = {
        str(path.relative_to(out)): path.read_bytes()
        for pattern in ("checkpoints/*/weights.safetensors", "metrics/part-final.parquet")
        for path in sorted(out.glob(f"runs/*/{pattern}"))
    }
    return {**runs, "sweep.json": (out / "sweep.json").read_bytes()}


def network() -> nn.Module:
    """A network of one's own for the digits."""
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def results(out: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in sorted(out.glob("runs/*/result.json"))]

"""A killed run of a user's problem resumes bit for bit, with dropout and a transform that draws at random."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import scaleinv as si

ROOT = Path(__file__).parents[2]


#: the command line, with a checkpoint five times a second
OFTEN = (
    "import sys; from scaleinv.lab import train; train.CHECKPOINT_SECONDS, train.CHECKPOINT_SHARE = 0.2, 1e9; "
    "from scaleinv.cli import run; sys.exit(run(sys.argv[1:]))"
)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    problem = f"{ROOT / 'tests' / 'lab' / 'own.py'}:jittered"
    flags = [
        "--elr",
        "0.05",
        "--epochs",
        "150",
        "--evaluation",
        "online",
        "--quiet",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    train = [sys.executable, "-c", OFTEN, "train", "--problem", problem, *flags, "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*train, str(tmp_path / "run")], env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and not list((tmp_path / "run" / "checkpoints").glob("step-*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "run" / "result.json").exists()
    for folder in ("run", "whole"):
        done = subprocess.run([*train, str(tmp_path / folder)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    weights = []
    for folder in ("run", "whole"):
        (checkpoint,) = (tmp_path / folder / "checkpoints").glob("step-*")
        weights.append(load_file(checkpoint / "weights.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    runs = [si.load(tmp_path / folder) for folder in ("run", "whole")]
    losses = [run.series("online", "total", "loss")[1].tolist() for run in runs]
    assert len(losses[0]) == 150
    assert losses[0] == losses[1]

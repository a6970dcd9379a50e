"""Two processes that hold one model together, for the tests of what is distributed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def two_processes(worker: Path, folder: Path, *arguments: str) -> None:
    """Run ``worker RANK FOLDER ARGUMENTS`` as ranks 0 and 1; each must succeed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), str(folder), *arguments],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        told, _ = process.communicate(timeout=500)
        assert process.returncode == 0, told

"""What a machine with a GPU has to show, in one command: the device tests, the time of a step, a figure of the paper.

    python benchmarks/gpu.py --minutes 10 --out gpu.json     # on a machine with a GPU; fig5 needs CIFAR-10
    python benchmarks/gpu.py --dry                           # the same commands on this CPU, small

Tests: tests/lab/test_devices.py, which runs over the devices that exist. Steps: those of benchmarks/step.py on the
device, twenty between two looks at the clock (goal: at most 1.05 of a bare loop). Figure: fig5 at the paper's width on
all of CIFAR-10 for as long as --minutes allow; what was trained is kept, and the same command resumes. Every number is
printed with the command that gave it, for docs/results/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from scaleinv.lab.memory import keep_freed_memory
from scaleinv.runfolder.environment import environment
from step import STEPS, steps

ROOT = Path(__file__).parents[1]
GOAL = 1.05


def shown(command: list[str]) -> str:
    return " ".join(["python" if word == sys.executable else word for word in command])


def timed(command: list[str], seconds: float) -> dict[str, Any]:
    """Run a command for so long at most; a run that is interrupted can be resumed."""
    print(f"$ {shown(command)}", flush=True)
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait()
    return {"command": shown(command), "exit": code, "seconds": round(time.perf_counter() - start, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=10.0, help="for the figure")
    parser.add_argument("--out", type=Path, help="JSON of all numbers")
    parser.add_argument("--dry", action="store_true", help="on the CPU, small: shows that the commands work")
    chosen = parser.parse_args()
    device = "cpu" if chosen.dry else chosen.device
    if not chosen.dry and not torch.cuda.is_available():
        print("torch finds no GPU here; --dry runs the same commands on the CPU")
        return 2
    found: dict[str, Any] = {"dry": chosen.dry, "environment": environment(1, device)}

    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/lab/test_devices.py"]
    found["tests"] = timed([*tests, "-k", "every_device and regression"] if chosen.dry else tests, 600)

    torch.set_num_threads(1)
    keep_freed_memory()
    count, together = (3, 2) if chosen.dry else (60, 20)
    names = [name for name in STEPS if not (chosen.dry and name == "cifar")]
    found["steps"] = {name: round(steps(name, count, device, together), 3) for name in names}
    print(f"goal on a GPU: at most {GOAL}")

    scaleinv = [sys.executable, "-m", "scaleinv"]
    if chosen.dry:
        figure = [*scaleinv, "reproduce", "fig6-left", "--scale", "toy", "--device", device, "--out", "runs/gpu-dry"]
    else:
        figure = [*scaleinv, "reproduce", "fig5", "--scale", "paper", "--device", device]
    found["figure"] = timed(figure, 60 * chosen.minutes)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    return max(found["tests"]["exit"], 0)


if __name__ == "__main__":
    sys.exit(main())

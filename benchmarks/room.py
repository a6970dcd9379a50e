"""Tests that assert what a training leads to, under other seeds and other kernels of the CPU.

    python benchmarks/room.py tests/symmetry/test_converted_regimes.py --seeds 3

Runs the tests given (files, or ids as pytest takes them) once for each setting of kernels.py and each seed, each in a
process of its own. On another CPU a chaotic training is another draw, so such a test has to hold in every one of them.
The table says which did, and under it stand the lowest and the highest of every number that the tests have told by
``record_property``, to be compared with the edges of the rule they are judged by. Seed 0 is the test as it stands;
seed k adds k to every seed that a generator of torch gets in the process of the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from kernels import SETTINGS, environment

SHIFT = "SCALEINV_ROOM_SEED"


def pytest_configure() -> None:
    """As a plugin of pytest: every generator gets another seed."""
    shift, seed_all = int(os.environ[SHIFT]), torch.manual_seed

    class Shifted(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + shift)

    patch = pytest.MonkeyPatch()
    patch.setattr(torch, "Generator", Shifted)
    patch.setattr(torch, "manual_seed", lambda seed: seed_all(int(seed) + shift))


def run(tests: list[str], kernel: str, seed: int) -> dict[str, tuple[str, dict[str, str]]]:
    """For each test: "ok" or the first line of the failure, and what it has told."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    variables = {**environment(kernel), SHIFT: str(seed), "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "room", "-p", "no:cacheprovider", f"--junitxml={told}"]
        done = subprocess.run([*command, *tests], env=variables, cwd=here.parent, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            sys.exit(done.stdout + done.stderr)
        cases = list(ElementTree.parse(told).iter("testcase"))
    found = {}
    for case in cases:
        bad = next((case.find(kind) for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None)
        outcome = "ok" if bad is None else f"{bad.tag}: {bad.get('message', '').splitlines()[0]}"
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        found[name] = outcome, {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--kernels", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    chosen = parser.parse_args()
    numbers: dict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[str, list[bool]] = defaultdict(list)
    for kernel in chosen.kernels:
        for seed in range(chosen.seeds):
            for name, (outcome, told) in run(chosen.tests, kernel, seed).items():
                if not outcome.startswith("skipped"):
                    held[name].append(outcome == "ok")
                if outcome != "ok":
                    print(f"{kernel} seed {seed}  {name}  {outcome}", flush=True)
                for quantity, value in told.items():
                    numbers[name, quantity].append(float(value))
    for name, draws in held.items():
        print(f"{sum(draws)} of {len(draws)}  {name}")
        for (of, quantity), values in numbers.items():
            if of == name:
                print(f"    {quantity}: {min(values):.3g} to {max(values):.3g}")


if __name__ == "__main__":
    main()

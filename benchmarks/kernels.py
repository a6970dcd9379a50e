"""Run the tests and the toy claims as other processors would compute them, and say under which settings they fail.

    python benchmarks/kernels.py              # make kernels: all six settings, hours
    python benchmarks/kernels.py --numerics   # part of make test: the tests marked ``numerics``, two settings, minutes
    python benchmarks/kernels.py --settings plain avx2   # only these

torch, oneDNN and MKL choose their kernels by the processor, and each kernel adds in an order of its own. The settings
ask for older ones. On a processor without such kernels, or in a build without MKL, a variable does nothing: the setting
then runs as the plain one does.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

# not ONEDNN_MAX_CPU_ISA=AVX2: torch 2.13 crashes with it in the backward pass
SETTINGS: dict[str, dict[str, str]] = {
    "plain": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "avx2, oneDNN SSE41": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "default, oneDNN SSE41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "MKL COMPATIBLE": {"MKL_CBWR": "COMPATIBLE"},
    "default, oneDNN SSE41, MKL COMPATIBLE": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
}
#: those farthest from plain
FARTHEST = ("avx2, oneDNN SSE41", "default, oneDNN SSE41, MKL COMPATIBLE")
VARIABLES = {name for setting in SETTINGS.values() for name in setting}
ROOT = Path(__file__).parents[1]
Show = Callable[[str], object]


def at_once(text: str) -> None:
    print(text, end="", flush=True)


def environment(setting: str) -> dict[str, str]:
    """The environment variables of this process, those that choose kernels as the setting has them."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES} | SETTINGS[setting]


def run(command: list[str], setting: str, show: Show) -> tuple[bool, str]:
    """Whether the command succeeds under the setting, and its last line with counts; ``show`` gets each line."""
    counted = ""
    with subprocess.Popen(command, cwd=ROOT, env=environment(setting), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            show(line)
            if re.search(r"\d+ (passed|failed|holds|fails|errors?)\b", line):
                counted = line.strip(" =\n")
    return process.returncode == 0, counted


def marked_files() -> list[str]:
    """The files that have the mark: to find its tests, pytest would import all."""
    return [str(file) for file in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.numerics" in file.read_text("utf-8")]


def check(setting: str, show: Show, *, numerics: bool) -> list[tuple[str, bool, str]]:
    """Name, success and counts of each command run under the setting."""
    marked = "numerics and not slow and not nightly" if numerics else "not nightly"
    files = marked_files() if numerics else []
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-m", marked]
    found = [("tests", *run(tests, setting, show))]
    if not numerics:
        with tempfile.TemporaryDirectory() as kept:  # no result of another setting
            claims = [sys.executable, "-m", "scaleinv", "verify", "--scale", "toy", "--cache", kept]
            found.append(("verify", *run(claims, setting, show)))
    return found


def examine(setting: str, *, numerics: bool) -> tuple[bool, str]:
    """Whether all is well under a setting, and its row of the table."""
    asked = " ".join(f"{name}={value}" for name, value in SETTINGS[setting].items())
    begin = time.monotonic()
    # two that run side by side are shown one after the other
    shown: list[str] = []
    show: Show = shown.append if numerics else at_once
    show(f"\n== {setting}  {asked}\n")
    found = check(setting, show, numerics=numerics)
    at_once("".join(shown))
    results = [f"{name} {'passed' if success else 'FAILED'} ({told})" for name, success, told in found]
    row = f"{setting:<{max(map(len, SETTINGS))}}  {'; '.join(results)}  {time.monotonic() - begin:.0f} s"
    return all(success for _, success, _ in found), row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numerics", action="store_true", help="only the tests marked so, under two settings")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, metavar="SETTING", help="only these settings")
    asked_for = parser.parse_args()
    numerics: bool = asked_for.numerics
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        at_once(f"on {platform.machine()} the settings may choose no other kernels\n")
    settings = asked_for.settings or (FARTHEST if numerics else SETTINGS)
    if numerics:
        at_once(f"running: {'; '.join(settings)}. The output of each follows when it is done.\n")
    # the numerics tests use one core each; the others start processes of their own
    with ThreadPoolExecutor(len(settings) if numerics else 1) as pool:
        outcomes = list(pool.map(partial(examine, numerics=numerics), settings))
    at_once("\n" + "\n".join(row for _, row in outcomes) + "\n")
    return 0 if all(good for good, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
